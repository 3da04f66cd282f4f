import dataclasses
import gzip
import json
import sys
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from activjax import data
from activjax.runs.sources import data_hash

FEW = settings(max_examples=40, deadline=None)
NAMES = st.lists(st.text("abcdef/", min_size=1, max_size=8), min_size=2, max_size=12, unique=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`notes/` with text in it, as the working directory's."""
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / ".git").mkdir()
    (notes / "a.txt").write_bytes(b"one\r\ntwo\n")
    (notes / "deep" / "b.md").write_text("drei äöü", encoding="utf-8")
    (notes / "deep" / "c.txt").write_text("four")
    (notes / "empty.txt").touch()
    (notes / "picture.png").write_bytes(b"\x89PNG\xff")
    (notes / ".git" / "config").write_text("hidden")
    return notes


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)


def test_what_is_no_text_is_left_out_and_listed():
    corpus = data.Corpus.of(
        [("a", "x"), ("b", ""), ("c", b"\xff"), ("d", None), ("e", "é".encode()), ("f", "\ud800")],
        label="mine",
    )
    assert corpus.names == ("a", "e")
    assert [*corpus] == ["x", "é"]
    assert corpus[1] == "é"
    assert len(corpus) == 2
    assert corpus.bytes == 3
    assert corpus.left_out == (
        ("b", "empty"), ("c", "not UTF-8"), ("d", "empty"), ("f", "not UTF-8"),
    )  # fmt: skip
    assert str(corpus) == (
        "mine: 2 documents, 0.00 MB, 4 left out: 2 empty (b, d); 2 not UTF-8 (c, f)"
    )


def test_corpora_that_cannot_be():
    with pytest.raises(ValueError, match="mine: the corpus has no documents: 1 left out: 1 empty"):
        data.Corpus.of({"a": ""}, label="mine")
    with pytest.raises(ValueError, match="the corpus has no documents$"):
        data.Corpus.of({})
    with pytest.raises(ValueError, match="1 names occur twice, such as 'a'"):
        data.Corpus.of([("a", "x"), ("a", "y")])
    with pytest.raises(ValueError, match="2 names, 1 texts"):
        data.Corpus("mine", ("a", "b"), ("x",))


def test_fingerprint_is_of_names_and_contents():
    base = data.Corpus.of({"a": "xy", "b": "z"})
    assert base.fingerprint == data.Corpus.of({"a": "xy", "b": "z"}, label="else").fingerprint
    others = [{"a": "x", "b": "yz"}, {"a": "xy", "c": "z"}, {"b": "z", "a": "xy"}, {"a": "xy"}]
    assert len({base.fingerprint, *(data.Corpus.of(o).fingerprint for o in others)}) == 5
    odd = data.Corpus.of({"caf\udce9.txt": "a file's name need not be UTF-8", "b": "x"})
    assert odd.fingerprint
    assert odd.split(0.5, seed=1)


@given(names=NAMES, seed=st.integers(-3, 3))
@FEW
def test_a_split_moves_no_other_document(names, seed):
    def held(names, fraction):
        try:
            train, held = data.Corpus.of({n: n for n in names}).split(fraction, seed)
        except ValueError:  # one side is empty
            return None
        assert sorted([*train.names, *held.names]) == sorted(names)
        assert train.names == train.texts
        return set(held.names)

    whole, less = held(names, 0.5), held(names[:-1], 0.5)
    if whole is not None and less is not None:
        assert less == whole - {names[-1]}
    wider = held(names, 0.7)
    if whole is not None and wider is not None:
        assert whole <= wider


def test_a_split_is_of_documents_and_the_same_everywhere():
    corpus = data.Corpus.of({f"{i}.txt": f"{i}" for i in range(1000)})
    train, held = corpus.split(0.1, seed=3)
    assert 60 < len(held) < 140  # 100, and four standard deviations of sqrt(1000 * 0.1 * 0.9)
    assert held.names[:4] == ("44.txt", "47.txt", "61.txt", "75.txt")
    assert corpus.split(0.1, seed=4)[1].names != held.names
    assert train.fingerprint != held.fingerprint != corpus.fingerprint
    assert train.label == corpus.label
    for fraction in (0, 1, 1.5):
        with pytest.raises(ValueError, match="fraction in"):
            corpus.split(fraction)
    with pytest.raises(ValueError, match="leaves no held-out document of 2"):
        data.Corpus.of({"a": "x", "b": "y"}).split(1e-9)


def test_text_files_of_a_folder(folder):
    corpus = data.text_files(folder)
    assert dict(zip(corpus.names, corpus)) == {
        "a.txt": "one\r\ntwo\n", "deep/b.md": "drei äöü", "deep/c.txt": "four",
    }  # fmt: skip
    assert [n for n, _ in corpus.left_out] == ["empty.txt", "picture.png"]
    assert len(corpus.files) == 5
    assert data.text_files("notes").fingerprint == corpus.fingerprint
    before = data_hash(corpus.files)
    (folder / "a.txt").write_text("changed!")
    assert data_hash(corpus.files) != before
    assert data.text_files(folder).fingerprint != corpus.fingerprint


def test_text_files_by_globs_and_lists(folder):
    assert data.text_files("notes/*.txt").names == ("a.txt",)
    assert data.text_files("notes/**/*.txt").names == ("a.txt", "deep/c.txt")
    assert data.text_files(["notes/a.txt", folder / "deep"]).names == ("a.txt", "b.md", "c.txt")
    assert data.text_files(["notes/a.txt", "notes/*.txt"]).names == ("a.txt",)
    (folder / "odd[1].txt").write_text("x")
    assert data.text_files("notes/odd[1].txt").names == ("odd[1].txt",)
    (folder / "deep" / "a.txt").write_text("another a")
    with pytest.raises(ValueError, match="would both be the document 'a.txt'"):
        data.text_files(["notes/a.txt", "notes/deep/a.txt"])


def test_files_that_are_not_there(folder):
    (folder / "none").mkdir()
    for paths, message in [
        ("notes/aa.txt", "nearest: a.txt: 'notes/aa.txt'"),
        ("nots/a.txt", r"nor the folder nots\)"),
        ("notes/*.rst", r"no file matches: 'notes/\*.rst'"),
        ("notes/none", "the folder has no files"),
    ]:
        with pytest.raises(FileNotFoundError, match=message):
            data.text_files(paths)
    with pytest.raises(ValueError, match="the list is empty"):
        data.text_files([])
    with pytest.raises(ValueError, match=r"notes/\*.png: the corpus has no .* not UTF-8 \(pict"):
        data.text_files("notes/*.png")


def test_json_lines(tmp_path):
    rows = [{"text": "a", "n": 1}, {"text": ""}, {"text": None}, {"text": "\ud800"}, {"text": "é"}]
    content = "\n\n".join(map(json.dumps, rows)).encode() + b'\n{"text": "\xff"}\n'
    (tmp_path / "x.jsonl").write_bytes(content)
    corpus = data.jsonl(tmp_path / "x.jsonl")
    assert dict(zip(corpus.names, corpus)) == {"x.jsonl:1": "a", "x.jsonl:9": "é"}
    assert [n for n, _ in corpus.left_out] == [f"x.jsonl:{i}" for i in (3, 5, 7, 10)]
    with gzip.open(tmp_path / "y.jsonl.gz", "wb") as file:
        file.write(content)
    both = data.jsonl(tmp_path / "*.jsonl*")
    assert both.names == (*corpus.names, "y.jsonl.gz:1", "y.jsonl.gz:9")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": 1}', "x.jsonl:2: text: expected text, got 1"),
        ('{"txet": "a", "n": 1}', "x.jsonl:2: no field 'text'; nearest: txet"),
        ('{"n": "a"}', "x.jsonl:2: no field 'text'; there are: n"),
        ('["a"]', "x.jsonl:2: expected an object"),
        ('{"text": ', "x.jsonl:2: not JSON"),
    ],
)
def test_json_lines_that_are_wrong(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text('{"text": "fine"}\n' + line)
    with pytest.raises(ValueError, match=message):
        data.jsonl(tmp_path / "x.jsonl")


def test_parquet(tmp_path):
    texts = ["a", "", None, "é", "last"]
    path = tmp_path / "x.parquet"
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        write_parquet(path, text=pa.array(texts, pa.string()).cast(kind), n=range(5))
        corpus = data.parquet(path)
        assert dict(zip(corpus.names, corpus)) == {
            "x.parquet:1": "a", "x.parquet:4": "é", "x.parquet:5": "last",
        }  # fmt: skip
        assert len(corpus.left_out) == 2
    with pytest.raises(ValueError, match="no column 'texts'; nearest: text"):
        data.parquet(path, "texts")
    with pytest.raises(ValueError, match="n: expected a column of text, it has type int64"):
        data.parquet(path, column="n")
    (tmp_path / "y.parquet").write_text("nothing of the kind")
    with pytest.raises(ValueError, match="not a Parquet file"):
        data.parquet(tmp_path / "y.parquet")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    write_parquet(tmp_path / "x.parquet", text=["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'activjax\[parquet\]'"):
        data.parquet(tmp_path / "x.parquet")


def test_the_standard_library():
    corpus = data.stdlib()
    assert 9e6 < corpus.bytes < 14e6
    assert {"ast.py", "asyncio/base_events.py", "json/decoder.py"} <= set(corpus.names)
    assert list(corpus.names) == sorted(corpus.names)
    parts = {part for name in corpus.names for part in name.split("/")}
    assert not parts & {"test", "tests", "idle_test", "site-packages", "pydoc_data"}
    assert not any(name.startswith("_sysconfigdata") for name in corpus.names)
    assert len(corpus.files) == len(corpus) + len(corpus.left_out)
    train, held = corpus.split(0.05)
    assert 0.01 < held.bytes / corpus.bytes < 0.15
    assert train.bytes + held.bytes == corpus.bytes
    less = data.corpus({"kind": "stdlib", "leave_out": "encodings/*"})
    assert not any(name.startswith("encodings") for name in less.names)
    with pytest.raises(ValueError, match="leave_out: no file matches 'nothing/"):
        data.stdlib(leave_out=["nothing/*"])


def test_a_python_without_its_sources(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(ValueError, match="no source files"):
        data.stdlib()


def test_a_corpus_as_a_config_writes_it(folder):
    (folder / "rows.jsonl").write_text('{"body": "row"}')
    write_parquet(folder / "t.parquet", text=["cell"])
    texts = {
        "notes/*.txt": ("one\r\ntwo\n",),
        "notes/deep": ("drei äöü", "four"),
        "notes/t.parquet": ("cell",),
    }
    for spec, expected in texts.items():
        assert data.corpus(spec).texts == data.corpus({"path": spec}).texts == expected
    assert data.corpus(["notes/a.txt", "notes/deep/c.txt"]).texts == ("one\r\ntwo\n", "four")
    assert data.corpus("notes/rows.jsonl", field="body").texts == ("row",)
    assert data.corpus({"path": "notes/rows.jsonl", "field": "body"}).texts == ("row",)
    as_text = data.corpus({"kind": "text", "path": "notes/rows.jsonl"})
    assert as_text.texts == ('{"body": "row"}',)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stdlbi", "did you mean 'stdlib'?"),
        ({"kind": "jsnl", "path": "x"}, "no kind 'jsnl'; did you mean 'jsonl'?"),
        ({"kind": "text"}, "kind 'text' needs 'path'"),
        ({"kind": "hub", "path": "x"}, "kind 'hub' needs 'name'"),
        ({"path": "notes/rows.jsonl", "feld": "x"}, "no option 'feld'; did you mean 'field'?"),
        ({"kind": "stdlib", "path": "x"}, "kind 'stdlib' has no option 'path'; it has: leave_out"),
        ("notes", r"files of several kinds, text \(a.txt\), jsonl \(rows.jsonl\)"),
        ("", "expected a path, a kind or a mapping, got ''"),
        (3, "expected a path, a kind or a mapping, got 3"),
    ],
)
def test_configs_that_are_wrong(folder, spec, message):
    (folder / "rows.jsonl").write_text('{"text": "row"}')
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("?", r"\?")):
        data.corpus(spec)


class Hub:
    """A stand-in for huggingface_hub: `remote` is what the hub has, `cache` what this machine."""

    def __init__(self, root, remote):
        self.root, self.remote, self.online, self.seen = root, remote, True, []

    def list_repo_files(self, name, *, repo_type, revision):
        assert (name, repo_type) == ("user/set", "dataset")
        if not self.online:
            raise ConnectionError("no route\nto host")
        return [*self.remote]

    def snapshot_download(
        self, name, *, repo_type, revision, allow_patterns=None, local_files_only=False
    ):
        self.seen.append(revision)
        if local_files_only and not self.root.exists():
            raise LookupError("nothing cached")
        for file in allow_patterns or ():
            if not local_files_only:
                path = self.root / file
                path.parent.mkdir(parents=True, exist_ok=True)
                self.remote[file](path)
        return str(self.root)


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    def rows(*texts):
        return lambda path: write_parquet(path, text=list(texts))

    remote = {
        "README.md": lambda path: path.write_text("about"),
        "data/train-00000-of-00002.parquet": rows("a", "b"),
        "data/train-00001-of-00002.parquet": rows("c"),
        "data/test-00000-of-00001.parquet": rows("d"),
        "data/constrained.parquet": rows("no split of that name"),
        "more/extra.jsonl": lambda path: path.write_text('{"text": "e"}'),
    }
    hub = Hub(tmp_path / "cache", remote)
    module = types.ModuleType("huggingface_hub")
    module.list_repo_files = hub.list_repo_files
    module.snapshot_download = hub.snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return hub


def test_the_hub(fake_hub):
    corpus = data.hub("user/set", revision="4f2a")
    assert corpus.texts == ("a", "b", "c")
    assert corpus.names[2] == "data/train-00001-of-00002.parquet:1"
    assert fake_hub.seen == ["4f2a"]
    assert [p.name for p in corpus.files] == [f"train-0000{i}-of-00002.parquet" for i in (0, 1)]
    assert data.corpus("hub:user/set", split="test").texts == ("d",)
    spec = {"kind": "hub", "name": "user/set", "files": "more/*"}
    assert data.corpus(spec).texts == ("e",)
    fake_hub.online = False
    assert data.hub("user/set").fingerprint == corpus.fingerprint
    (fake_hub.root / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match="1 of 2 files data/train-.* are there"):
        data.hub("user/set")


def test_the_hub_when_it_cannot_be(fake_hub, monkeypatch):
    with pytest.raises(ValueError, match="no Parquet or JSON lines file for split 'trian'; it has"):
        data.hub("user/set", split="trian")
    fake_hub.remote["other/train.parquet"] = None
    with pytest.raises(ValueError, match="several configurations .* choose with files="):
        data.hub("user/set")
    fake_hub.remote = {"train.csv": None}
    with pytest.raises(ValueError, match="it has none; .* revision='refs/convert/parquet'"):
        data.hub("user/set")
    fake_hub.online = False
    with pytest.raises(RuntimeError, match=r"\(ConnectionError: no route\), and it is not in the"):
        data.hub("user/set")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'activjax\[hub\]'"):
        data.hub("user/set")


def test_a_corpus_is_frozen():
    corpus = data.Corpus.of({"a": "x"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        corpus.texts = ()
