"""Curves as they grow: what is sent, what is thinned, what a file that was cut back does."""

import json
import random

import numpy as np
import pytest
from folders import metrics

from activjax.runs.browse._tail import Tail


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def read(tail, since="", **more):
    tail.advance()
    return tail.answer(since, **more)


def test_only_what_is_new_is_sent(path):
    tail = Tail(path)
    assert read(tail)["series"] == []
    path.write_bytes(metrics(range(1, 4), 2))
    first = read(tail)
    (loss,) = first["series"]
    assert first["reset"]
    assert loss["step"] == [1, 2, 3]
    assert loss["lo"] == [[1.0, 0.5, 0.3333333], [2.0, 1.5, 1.333333]]
    assert "hi" not in loss
    assert read(tail, first["token"])["series"] == []
    with path.open("ab") as file:
        file.write(metrics(range(4, 6), 2) + b'{"case": null, "st')  # half a line
    second = read(tail, first["token"])
    assert not second["reset"]
    assert second["series"][0]["step"] == [4, 5]
    assert second["series"][0]["start"] == 3
    assert read(tail, cell=1)["series"][0]["lo"][0][0] == 2.0
    assert read(tail, "nonsense")["series"][0]["start"] == 0


def test_a_spike_of_one_step_is_never_lost(path):
    values = np.random.default_rng(0).standard_normal((5000, 3))
    values[1234, 1], values[4321, 2] = 99.0, -99.0
    path.write_bytes(metrics(range(1, 5001), 3, value=lambda s, k: float(values[s - 1, k])))
    (loss,) = read(Tail(path))["series"]
    assert 500 <= len(loss["step"]) <= 1000  # two points each: at most 2,000
    assert max(loss["hi"][1]) == 99.0
    assert min(loss["lo"][2]) == -99.0
    width = loss["width"]
    for k in (0, 1, len(loss["step"]) - 1):
        part = values[k * width : (k + 1) * width]
        for cell in range(3):
            assert loss["lo"][cell][k] == pytest.approx(part[:, cell].min(), rel=1e-6)
            assert loss["hi"][cell][k] == pytest.approx(part[:, cell].max(), rel=1e-6)
        assert loss["step"][k] == k * width + 1
    assert loss["to"] == 5000


def test_growing_piece_by_piece_ends_as_all_at_once(path):
    rng = random.Random(1)
    data = metrics(range(1, 701), 2, value=lambda s, k: rng.random())
    tail, token, known = Tail(path, 50), "", {}
    path.write_bytes(b"")
    while data:
        size = rng.randrange(1, 3000)
        with path.open("ab") as file:
            file.write(data[:size])
        data = data[size:]
        answer = read(tail, token)
        token = answer["token"]
        for one in answer["series"]:  # as the page does it
            old = known.get("step", [])[: one["start"]]
            assert len(old) == one["start"]
            both = []
            for end in ("lo", "hi"):
                for c in range(2):
                    kept = known[end][c][: one["start"]] if one["start"] else []
                    both.append(kept + one.get(end, one["lo"])[c])
            known = {"step": old + one["step"], "lo": both[:2], "hi": both[2:]}
    (whole,) = read(Tail(path, 50))["series"]
    assert known == {key: whole[key] for key in ("step", "lo", "hi")}


def test_a_large_file_is_read_in_parts(path):
    path.write_bytes(metrics(range(1, 2001), 4))
    tail = Tail(path)
    tail.advance(10_000)
    first = tail.answer()
    assert first["more"]
    assert first["bytes"] <= 10_000
    while tail.answer()["more"]:
        tail.advance(10_000)
    assert tail.answer()["series"] == read(Tail(path))["series"]


@pytest.mark.parametrize("longer", [False, True])
def test_a_file_that_was_cut_back_begins_again(path, longer):
    path.write_bytes(metrics(range(1, 101), 1))
    tail = Tail(path)
    token = read(tail)["token"]
    # a resume cuts to the checkpoint at step 50 and goes on with other numbers
    new = metrics(range(51, 301 if longer else 61), 1, value=lambda s, k: 7.0)
    path.write_bytes(metrics(range(1, 51), 1) + new)
    answer = read(tail, token)
    assert answer["reset"]
    assert answer["series"][0]["to"] == (300 if longer else 60)
    assert answer["series"][0]["lo"][0][-1] == 7.0
    path.unlink()
    assert read(tail, answer["token"])["reset"]


def test_odd_lines_are_left_out_and_odd_numbers_kept(path):
    good = {
        "case": "w8",
        "step": 1,
        "metrics": {"a/b": ["NaN", "Infinity", 1.0], "v": [[1, 3]] * 3},
    }
    bad = [b"{", b"[]", b"3", b'{"step": 1}', b'{"case": [], "step": 1, "metrics": {"a": [1]}}' * 2,
           b'{"case": null, "step": "x", "metrics": {}}', b"\xff\xfe",
           b'{"case": null, "step": 1, "metrics": {"a": [1, [2]]}}', b"[" * 100_000]  # fmt: skip
    other = {"case": "w8", "step": 2, "metrics": {"a/b": [1.0]}}  # another number of cells
    lines = [json.dumps(good).encode(), *bad, json.dumps(other).encode()]
    path.write_bytes(b"\n".join(lines) + b"\n")
    series = {one["metric"]: one for one in read(Tail(path))["series"]}
    assert series["a/b"]["lo"] == [["nan"], ["inf"], [1.0]]
    assert series["a/b"]["last"] == ["nan", "inf", 1.0]
    assert series["v"]["lo"] == [[2.0], [2.0], [2.0]]  # vectors by their mean
    assert series["a/b"]["case"] == "w8"
