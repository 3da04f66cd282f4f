"""The page of codes: what is in it, that it is one harmless file, and that Chromium shows it."""

import base64
import hashlib
import json
import re
import shutil
import zlib

import numpy as np
import pytest

from activjax import cli
from activjax.codebooks._index import (
    Code,
    Layout,
    cooccurrence,
    token_table,
)
from activjax.codebooks._viewer import load_view, run_index, save_view, write_page
from tests.codebooks.pages import (
    HOSTILE,
    LAYOUT,
    VOCABULARY,
    Elements,
    batch,
    small,
    write,
)


def opened(page, name):
    """A block of data, as the page opens it."""
    found = page.find("script", id=name)
    assert len(found) == 1, name
    return zlib.decompress(base64.b64decode(found[0][1]), -15)


def numbers(data):
    return np.frombuffer(data, np.uint8).reshape(4, -1).T.copy().view("<u4").reshape(-1)


def test_the_page_holds_the_index(tmp_path):
    index = small(tmp_path / "codes")
    file = write_page(index, tmp_path / "codes.html", title="a run")
    page = Elements(file.read_text("utf-8"))
    head = json.loads(page.find("script", id="head")[0][1])
    assert (head["tokens"], head["examples"]) == (len(index.tokens), index.examples)
    assert [site["name"] for site in head["sites"]] == list(LAYOUT)
    assert head["held"]["examples"] == list(range(index.examples))  # so few that all are
    assert numbers(opened(page, "tokens")).tolist() == index.tokens.tolist()
    assert opened(page, "pieces") == b"".join(VOCABULARY)
    assert numbers(opened(page, "lengths")).tolist() == [len(piece) for piece in VOCABULARY]
    for number, book in enumerate(index.codebooks()):
        assert numbers(opened(page, f"use-{number}")).tolist() == book.counts.tolist()
        assert numbers(opened(page, f"ids-{number}")).tolist() == book.ids.reshape(-1).tolist()
        assert head["used"][number] == (~book.dead).sum()
        assert head["most"][number] == book.counts.max()
        for one in json.loads(opened(page, f"codes-{number}")):
            code = book.code(one["code"])
            found = book[code.code]
            assert sum(one["ranks"]) == len(found.token)
            shares = np.bincount(found.example) / np.diff(index.starts)[: found.example[-1] + 1]
            assert one["examples"] == (shares > 0).sum()
            assert one["most"] == pytest.approx(shares.max(), abs=0.000051)  # four digits
            assert one["half"] == (shares > 0.5).sum()
            table = token_table(index, code, top=12)
            assert [row[:2] for row in one["tokens"]] == [[r.token, r.count] for r in table]
            for given, row in zip(one["tokens"], table):
                assert given[2] == pytest.approx(row.lift, abs=0.005)  # two digits are kept
            both = {(r.code[:3], r.code.code): r for r in cooccurrence(index, code, top=10**6,
                                                                       least=2)}  # fmt: skip
            for other, second, n, lift in one["codes"]:
                row = both[address(index, other), second]
                assert (n, lift) == (row.both, pytest.approx(row.lift, abs=0.005))
            assert len(one["contexts"]) == min(8, len(found.token))
            for example, position, rank, cosine, at, ids, marks in one["contexts"]:
                token = index.starts[example] + position
                i = found.token.tolist().index(token)
                assert rank == found.rank[i]
                assert cosine == pytest.approx(float(found.similarity[i]), abs=0.000501)  # three
                first = token - at
                assert ids == index.tokens[first : first + len(ids)].tolist()
                assert first >= index.starts[example]
                assert first + len(ids) <= index.starts[example + 1]
                inside = found.token[(found.token >= first) & (found.token < first + len(ids))]
                assert marks == (inside - first).tolist()
                assert at in marks


def address(index, number):
    book = list(index.codebooks())[number]
    return book.site, book.loop, book.group


def test_it_is_one_file_that_loads_and_runs_nothing_else(tmp_path):
    layout = {f"site {HOSTILE}": Layout((), 1, 7, 1)}
    rng = np.random.default_rng(0)
    index = write(
        tmp_path / "c", [batch(rng, 9, 7, layout, vocabulary=12)], layout, vocabulary=VOCABULARY
    )
    code = Code(next(iter(layout)), (), 0, 3)
    save_view(
        index.path,
        labels={code: HOSTILE},
        steering=[dict.fromkeys(("prompt", "setting", "baseline", "steered", "random"), HOSTILE)],
    )
    file = write_page(index, tmp_path / "codes.html", title=HOSTILE)
    page = Elements(file.read_text("utf-8"))
    assert page.find("title")[0][1] == HOSTILE
    scripts = [(a, text) for a, text in page.find("script") if "type" not in a]
    assert len(scripts) == 1
    assert {a["type"] for a, _ in page.find("script") if "type" in a} == {
        "text/plain", "application/json",
    }  # fmt: skip
    assert not page.find("img")
    assert "<" not in page.find("script", id="head")[0][1]
    policy = page.find("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"]
    for kind, text in (("script", scripts[0][1]), ("style", page.find("style")[0][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name, given, _ in page.all:
        assert not {"src", "href", "style", "onclick", "onload"} & set(given), (name, given)
    script, style = scripts[0][1], page.find("style")[0][1]
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "eval(", "document.write", "fetch(",
                 "http", "import(", "Function("):  # fmt: skip
        assert word not in script
    assert not re.search(r"@import|url\(", style)


def test_equal_indexes_give_equal_pages(tmp_path):
    first = write_page(small(tmp_path / "a"), tmp_path / "a.html").read_bytes()
    assert write_page(tmp_path / "a", tmp_path / "b.html").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.html", "b.html"]


def test_budgets(tmp_path):
    index = small(tmp_path / "c")
    rare = int(index.codebook("embed").counts.argmin())
    save_view(index.path, labels={Code("embed", (), 0, rare): "kept whatever its use"})
    file = write_page(index, tmp_path / "x.html", contexts=1, tokens=8)
    page = Elements(file.read_text("utf-8"))
    head = json.loads(page.find("script", id="head")[0][1])
    assert 1 <= sum(head["held"]["lengths"]) <= 8
    rows = [slice(*index.starts[e : e + 2]) for e in head["held"]["examples"]]
    held = np.concatenate([index.tokens[r] for r in rows])
    assert numbers(opened(page, "tokens")).tolist() == held.tolist()
    some = write_page(index, tmp_path / "w.html", tokens=len(index.tokens) // 2).read_text("utf-8")
    spread = json.loads(Elements(some).find("script", id="head")[0][1])["held"]["examples"]
    assert spread == list(range(0, index.examples, 2))[: len(spread)]  # from all over
    assert len(spread) > index.examples // 3
    last = list(index.codebooks())[-1]
    codes = [one["code"] for one in json.loads(opened(page, "codes-6"))]
    assert codes == [int(last.counts.argmax()), rare]
    none = write_page(index, tmp_path / "y.html", contexts=0).read_text("utf-8")
    assert json.loads(opened(Elements(none), "codes-0")) == []
    for options, words in (({"contexts": -1}, "contexts is -1"), ({"tokens": 0}, "tokens is 0")):
        with pytest.raises(ValueError, match=words):
            write_page(index, tmp_path / "z.html", **options)
    assert not (tmp_path / "z.html").exists()


def test_a_view_is_kept_and_checked(tmp_path):
    index = small(tmp_path / "c")
    rng = np.random.default_rng(1)
    shape = (2, 3, 50, 4)
    ids = rng.integers(0, 12, shape)
    values = -np.sort(-rng.normal(size=shape), axis=-1)
    record = {"prompt": "p", "setting": "s", "baseline": "b", "steered": ["x", "y"], "random": "r",
              "others": {"addition": "a"},
              "metrics": {"success": {"steered": 1, "random": np.nan}, "bits": 2}}  # fmt: skip
    label = {Code("blocks/mlp/out", (1,), 2, 7): "inside a string"}
    assert load_view(index.path).labels == {}
    save_view(index.path, effects={"blocks/mlp/out": (ids, values)})
    save_view(index.path, steering=[record], labels=label)
    view = load_view(index.path)
    kept_ids, kept = view.effects["blocks/mlp/out"]
    assert (kept_ids == ids.reshape(6, 50, 4)).all()
    np.testing.assert_array_equal(kept, values.astype(np.float32).reshape(6, 50, 4))
    assert view.labels == label
    assert view.steering[0]["baseline"] == ["b"]
    assert view.steering[0]["metrics"] == {"success": {"steered": 1, "random": None}, "bits": 2}
    # what the page saves comes back
    shutil.copy(index.path / "view" / "labels.json", tmp_path / "mine.json")
    save_view(index.path, labels={})
    save_view(index.path, labels=tmp_path / "mine.json")
    assert load_view(index.path).labels == label
    page = Elements(write_page(index, tmp_path / "c.html").read_text("utf-8"))
    one = json.loads(opened(page, "codes-5"))[0]
    wanted = values[1, 2, one["code"]]
    assert [e[0] for e in one["effects"]] == ids[1, 2, one["code"]].tolist()
    np.testing.assert_allclose([e[1] for e in one["effects"]], wanted, atol=0.00006)

    bad = [
        ({"effects": {"x": (ids, values)}}, "no site 'x'"),
        ({"effects": {"blocks/mlp/out": (ids[0], values[0])}}, "expected integers and numbers"),
        ({"effects": {"blocks/mlp/out": (values, values)}}, "expected integers and numbers"),
        ({"effects": {"blocks/mlp/out": (ids + 1, values)}}, "expected 0 to 11"),
        ({"steering": [{"prompt": "p"}]}, "steering record 0"),
        ({"steering": [{**record, "steered": [1]}]}, "steered must be a text"),
        ({"steering": [{**record, "metrics": {"a": "b"}}]}, "expected a number"),
        ({"labels": {Code("embed", (), 1, 0): "x"}}, "group index 1"),
        ({"labels": index.path / "meta.json"}, "not a file of labels"),
    ]
    for arguments, words in bad:
        with pytest.raises(ValueError, match=words):
            save_view(index.path, **arguments)
    assert load_view(index.path).labels == label
    (index.path / "view" / "values0.npy").write_bytes(b"PK")
    with pytest.raises(ValueError, match="damaged"):
        load_view(index.path)
    # an index that is written again is of other codes
    small(tmp_path / "c", overwrite=True)
    assert load_view(index.path).labels == {}
    assert not (tmp_path / "c" / "view").exists()


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACTIVJAX_RUNS", raising=False)
    run = tmp_path / "runs" / "demo" / "3f2a00000000"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("a: 1\n")
    assert cli.main(["codes", "3f2a"]) == 3
    assert "has no folder 'codes'" in capsys.readouterr().err
    small(run / "codes" / "one")
    assert cli.main(["codes", "3f2a"]) == 0
    assert capsys.readouterr().out.strip().endswith("codes.html")
    assert "demo 3f2a00000000" in (run / "codes.html").read_text("utf-8")
    small(run / "codes" / "two")
    assert cli.main(["codes", "demo"]) == 3
    assert "one, two" in capsys.readouterr().err
    assert cli.main(["codes", "demo", "--case", "three"]) == 3
    assert "there: one, two" in capsys.readouterr().err
    assert cli.main(["codes", str(run), "--case", "two", "--out", "x.html", "--contexts", "2"]) == 0
    assert (tmp_path / "x.html").is_file()
    shutil.rmtree(run / "codes")
    small(run / "codes")
    monkeypatch.chdir(run)
    assert cli.main(["codes", "demo", "--root", str(tmp_path / "runs")]) == 0
    assert cli.main(["codes", "codes", "--out", str(tmp_path / "y.html")]) == 0
    assert cli.main(["codes", "codes"]) == 0
    assert cli.main(["codes", "nothing", "--root", str(tmp_path / "runs")]) == 3
    assert "no run 'nothing'" in capsys.readouterr().err
    (run / "codes" / "meta.json").unlink()
    (run / "codes" / "unfinished").write_text("")
    assert cli.main(["codes", str(run)]) == 3
    assert "unfinished" in capsys.readouterr().err
    assert cli.main(["codes", str(run), "--contexts", "-1"]) == 3
    small(run / "codes")
    assert cli.main(["codes", str(run), "--out", str(tmp_path / "none" / "x.html")]) == 3
    assert cli.main(["codes", str(run), "--contexts", "-1"]) == 3
    assert "contexts is -1" in capsys.readouterr().err
    assert run_index(run) == run / "codes"
