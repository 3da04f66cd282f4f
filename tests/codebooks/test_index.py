"""The index: what it holds, against lists; what it costs; what becomes of a damaged one."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from activjax.codebooks._index import (
    Code,
    IndexWriter,
    Layout,
    _codebook,
    _sort,
    coactivation,
    open_index,
    token_counts,
    topic_coverage,
)
from tests.codebooks.pages import LAYOUT, LETTERS, batch, write


def listed(batches):
    """(site, loop, group, code) -> [(example, position, rank, similarity)], by loops."""
    table, example, tokens = {}, 0, []
    for rows, traces, mask in batches:
        for row in range(len(rows)):
            kept = np.flatnonzero(mask[row])
            tokens += rows[row, kept].tolist()
            for position, column in enumerate(kept):
                for site, (ids, cosines) in traces.items():
                    at = (*[slice(None)] * len(LAYOUT[site].loops), row, column)
                    for where, code in np.ndenumerate(ids[at]):
                        *loop, group, rank = where
                        key = site, tuple(loop), group, int(code)
                        entry = example, position, rank, np.float16(cosines[at][where])
                        table.setdefault(key, []).append(entry)
            example += len(kept) > 0
    return table, example, tokens


@pytest.mark.parametrize("off", [False, True], ids=["all on", "some off"])
def test_holds_exactly_what_was_added(tmp_path, off):
    rng = np.random.default_rng(0)
    batches = [batch(rng, n, s, off=off) for n, s in ((4, 6), (3, 9), (1, 1), (5, 2))]
    index = write(tmp_path / "codes", batches, meta={"model": "tiny"})
    table, examples, tokens = listed(batches)

    assert index.examples == examples
    assert index.tokens.tolist() == tokens
    assert index.meta == {"model": "tiny"}
    assert index.sites == LAYOUT
    assert index.text(0) == b"".join(LETTERS[i] for i in tokens[: index.starts[1]]).decode()
    seen = 0
    for book in index.codebooks():
        assert len(book) == LAYOUT[book.site].codes
        for code in range(len(book)):
            key = book.site, book.loop, book.group, code
            found = book[code]
            entries = list(zip(*(a.tolist() for a in found[1:])))
            assert entries == table.get(key, [])
            assert found.token.tolist() == [index.starts[e] + p for e, p, *_ in entries]
            assert book.tokens_with(code).tolist() == sorted({*found.token.tolist()})
            assert book.ranks(code).tolist() == [
                sum(e[2] == rank for e in entries) for rank in range(book.k)
            ]
            assert index.postings(Code(*key)).token.tolist() == found.token.tolist()
            seen += len(entries)
        sizes = [
            len(table.get((book.site, book.loop, book.group, c), [])) for c in range(len(book))
        ]
        assert book.counts.tolist() == sizes
        assert book.dead.tolist() == [size == 0 for size in sizes]
        np.testing.assert_array_equal(book.density, np.array(sizes) / len(tokens))
    assert seen == sum(len(v) for k, v in table.items() if k[3] >= 0)
    some = index.codebook("blocks/mlp/out", 1, 2).chosen(np.arange(5))
    assert some.shape == (5, 4)
    assert (some.min() == -1) == bool(off)


def test_padding_leaves_no_trace(tmp_path):
    rng = np.random.default_rng(1)
    tokens, traces, _ = batch(rng, 2, 5)
    write(tmp_path / "plain", [(tokens, traces)])
    # padding left, right, in the middle, and a row of nothing else; what stands there is rubbish
    at = [[1, 2, 4, 5, 7], [0, 1, 2, 3, 6]]
    padded = np.full((3, 8), 10**6, np.int32)
    mask = np.zeros((3, 8), bool)
    wide = {}
    for row in range(2):
        padded[row, at[row]], mask[row, at[row]] = tokens[row], True
    for site, (ids, cosines) in traces.items():
        loops = len(LAYOUT[site].loops)
        big = np.full((*ids.shape[:loops], 3, 8, *ids.shape[loops + 2 :]), 10**6, np.int32)
        sims = np.full(big.shape, np.nan, np.float32)
        for row in range(2):
            lead = (slice(None),) * loops
            big[*lead, row, at[row]] = ids[*lead, row]
            sims[*lead, row, at[row]] = cosines[*lead, row]
        wide[site] = big, sims
    write(tmp_path / "padded", [(padded, wide, mask)])
    assert contents(tmp_path / "plain") == contents(tmp_path / "padded")


def contents(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_equal_input_gives_equal_bytes_however_it_is_cut(tmp_path):
    rng = np.random.default_rng(2)
    tokens, traces, mask = batch(rng, 6, 5)
    parts = [
        (tokens[rows], {s: tuple(a[:, rows] if LAYOUT[s].loops else a[rows] for a in t)
                        for s, t in traces.items()}, mask[rows])
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]  # fmt: skip
    for name, batches in (("a", [(tokens, traces, mask)]), ("b", parts), ("c", parts)):
        write(tmp_path / name, batches)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_change_nothing(tmp_path, chunk):
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 12, (2, 37, 3)).astype(np.uint16)
    flat = ids[0].reshape(-1)
    counts = _sort.count(flat, 12, chunk)
    assert counts.tolist() == np.bincount(flat, minlength=12).tolist()
    out = np.full(len(flat), -1)
    _sort.sort(flat, counts, out, chunk)
    assert out.tolist() == sorted(range(len(flat)), key=lambda i: (flat[i], i))
    raw = tmp_path / "raw"
    np.ascontiguousarray(ids.swapaxes(0, 1)).tofile(raw)
    back = np.zeros_like(ids)
    _sort.transpose(raw, back, chunk)
    assert (back == ids).all()
    assert _sort.has_repeats(ids[0], 12, chunk)
    assert not _sort.has_repeats(np.sort(rng.random((30, 12)).argsort(-1)[:, :3]), 12, chunk)
    assert not _sort.has_repeats(np.full((30, 3), 12), 12, chunk)


def test_a_code_twice_at_a_token_counts_once(tmp_path):
    ids = np.array([[[[1, 1, 2]], [[0, 2, 0]], [[-1, -1, -1]]]])
    layout = {"s": Layout((), 1, 4, 3)}
    index = write(tmp_path / "c", [(np.array([[0, 1, 2]]), {"s": (ids, ids * 0.1)})], layout)
    book = index.codebook("s")
    assert book.counts.tolist() == [1, 1, 2, 0]
    assert book[1].rank.tolist() == [0, 1]
    assert book.tokens_with(1).tolist() == [0]
    assert coactivation(book).toarray().tolist() == [
        [1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 2, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert token_counts(index, book).toarray()[:3].tolist() == [
        [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert topic_coverage(index, book, least=1).most.tolist() == [1 / 3, 1 / 3, 2 / 3, 0]


def test_repeats_are_counted_over_chunks_too(tmp_path, monkeypatch):
    rng = np.random.default_rng(11)
    layout = {"s": Layout((), 1, 5, 3)}
    ids = rng.integers(-1, 5, (20, 7, 1, 3))
    index = write(tmp_path / "c", [(ids[..., 0, 0] + 1, {"s": (ids, ids * 0.1)})], layout)
    has = (ids[..., None] == np.arange(5)).any((2, 3)).reshape(-1, 5)
    for chunk in (1, 2, 50, 10**6):
        monkeypatch.setattr(_codebook, "_CHUNK", chunk)
        assert index.codebook("s").counts.tolist() == has.sum(0).tolist()


def test_memory_does_not_grow_with_tokens(tmp_path):
    layout = {"s": Layout((), 2, 1000, 8)}
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 1000, (64, 500, 2, 8)).astype(np.int32)
    traces = {"s": (ids, np.zeros(ids.shape, np.float32))}
    tokens = np.zeros(ids.shape[:2], np.int32)

    def peak(batches):
        tracemalloc.start()
        write(tmp_path / "c", ((tokens, traces) for _ in range(batches)), layout, overwrite=True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(9), peak(27)  # 2.3 and 6.9 million places: a chunk is 2.1 million
    # what does grow: the length of each example, in a few copies
    assert many - few < 18 * 64 * 8 * 8
    assert many < 8 * 16 * _sort.CHUNK


def test_large_codebooks_have_wider_ids(tmp_path):
    for codes in (65535, 65536):
        layout = {"s": Layout((), 1, codes, 1)}
        ids = np.array([[[[codes - 1]], [[-1]]]])
        index = write(
            tmp_path / str(codes), [(np.array([[0, 1]]), {"s": (ids, ids * 0.0)})], layout
        )
        assert index.codebook("s").chosen([0, 1]).tolist() == [[codes - 1], [-1]]
        assert np.flatnonzero(index.codebook("s").counts).tolist() == [codes - 1]


def test_an_interrupted_writing_is_unfinished_and_written_again(tmp_path):
    rng = np.random.default_rng(6)
    good = [batch(rng), batch(rng)]
    path = tmp_path / "c"

    def stops():
        yield good[0]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write(path, stops())
    with pytest.raises(ValueError, match="unfinished"):
        open_index(path)
    write(path, good)
    first = contents(path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write(path, good)
    assert contents(path) == first
    with pytest.raises(RuntimeError):
        write(path, stops(), overwrite=True)
    with pytest.raises(ValueError, match="unfinished"):
        open_index(path)
    write(path, good)
    assert contents(path) == first


def test_two_writers_do_not_share_a_folder(tmp_path):
    good = batch(np.random.default_rng(0))
    write(tmp_path / "expected", [good])
    with IndexWriter(tmp_path / "c", LAYOUT, vocabulary=LETTERS) as writer:
        with pytest.raises(FileExistsError, match="being written"):
            write(tmp_path / "c", [good, good], overwrite=True)
        writer.add(*good)
    assert contents(tmp_path / "c") == contents(tmp_path / "expected")


def test_nothing_of_others_is_removed(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="not an index"):
            write(tmp_path, [], overwrite=overwrite)
    (tmp_path / "meta.json").write_text('{"format": "other"}')
    with pytest.raises(FileExistsError, match="not an index"):
        write(tmp_path, [], overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        write(tmp_path / "thesis.txt", [])
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_damage_is_named(tmp_path):
    path = tmp_path / "c"
    rng = np.random.default_rng(7)
    write(path, [batch(rng)])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_index(tmp_path / "none")
    with pytest.raises(ValueError, match=r"meta\.json is missing"):
        open_index(tmp_path)
    for name in contents(path):
        file = path / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] if name != "meta.json" else whole[:-20])
        with pytest.raises(ValueError, match="damaged"):
            open_index(path)
        if name != "meta.json":
            file.write_bytes(whole + b"?")
            with pytest.raises(ValueError, match=f"{len(whole) + 1} bytes long"):
                open_index(path)
        file.unlink()
        with pytest.raises(ValueError, match="missing"):
            open_index(path)
        file.write_bytes(whole)
    open_index(path)
    meta = json.loads((path / "meta.json").read_text())
    for change, words in (
        ({"version": 99}, "version 99"),
        ({"format": "x"}, "something else"),
        ({"examples": 1}, "damaged"),
        ({"sites": [{}]}, "damaged"),
        ({"files": None}, "damaged"),
    ):
        (path / "meta.json").write_text(json.dumps({**meta, **change}))
        with pytest.raises(ValueError, match=words):
            open_index(path)


def test_wrong_input_is_refused_and_changes_nothing(tmp_path):
    rng = np.random.default_rng(8)
    good = tokens, traces, mask = batch(rng)
    site = "embed"
    ids, cosines = traces[site]
    write(tmp_path / "expected", [good])
    bad = [
        ((tokens[0], traces, mask), "shape"),
        ((tokens * 1.0, traces, mask), "integers"),
        ((tokens + 20, traces), "expected 0 to 19"),
        ((tokens, traces, mask[:, :3]), "mask"),
        ((tokens, traces, mask.astype(int)), "mask"),
        ((tokens, {site: traces[site]}, mask), "expected those of"),
        ((tokens, {**traces, site: (ids[:, :3], cosines)}, mask), "embed has an array of shape"),
        ((tokens, {**traces, site: (ids, cosines[..., 0])}, mask), "embed has an array of shape"),
        ((tokens, {**traces, site: (ids + 7, cosines)}, mask), "expected 0 to 6"),
        ((tokens, {**traces, site: (ids - 9, cosines)}, mask), "expected 0 to 6"),
        ((tokens, {**traces, site: (cosines, cosines)}, mask), "integers"),
    ]
    with IndexWriter(tmp_path / "c", LAYOUT, vocabulary=LETTERS) as writer:
        for arguments, words in bad:
            with pytest.raises(ValueError, match=words):
                writer.add(*arguments)
        writer.add(*good)
    assert contents(tmp_path / "c") == contents(tmp_path / "expected")
    with pytest.raises(ValueError, match="inside"):
        writer.add(*good)
    with pytest.raises(ValueError, match="no token"):
        write(tmp_path / "empty", [(tokens, traces, mask & False)])
    with pytest.raises(ValueError, match="no site"):
        IndexWriter(tmp_path / "d", {})
    with pytest.raises(ValueError, match="JSON"):
        IndexWriter(tmp_path / "d", LAYOUT, meta={"a": object()})
    with pytest.raises(ValueError, match="token 1 is int"):
        IndexWriter(tmp_path / "d", LAYOUT, vocabulary=["a", 1])  # pyright: ignore
    with pytest.raises(ValueError, match="similarity"):
        IndexWriter(tmp_path / "d", LAYOUT, similarity="bf16")  # pyright: ignore
    for arguments, words in (
        (((0,), 1, 2, 1), "loops is 0"),
        (((), 0, 2, 1), "groups is 0"),
        (((), 1, 2, 3), "k is 3, expected at most"),
    ):
        with pytest.raises(ValueError, match=words):
            Layout(*arguments)
    index = open_index(tmp_path / "c")
    for call, words in (
        (lambda: index.codebook("embd"), "there are: blocks/mlp/out, embed"),
        (lambda: index.codebook("embed", 0), "expected 0 indices"),
        (lambda: index.codebook("blocks/mlp/out", 2), "loop index 2, expected 0 to 1"),
        (lambda: index.codebook("blocks/mlp/out", -1), "loop index -1"),
        (lambda: index.codebook("blocks/mlp/out", 0, 3), "group index 3"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    for code in (-1, 7):
        with pytest.raises(IndexError, match="expected 0 to 6"):
            index.codebook("embed")[code]
    with pytest.raises(IndexError, match="example"):
        index.text(index.examples)


def test_without_a_vocabulary(tmp_path):
    rng = np.random.default_rng(9)
    index = write(tmp_path / "c", [(*batch(rng)[:2],)], vocabulary=None)
    assert index.vocabulary is None
    assert index.text(0) == "".join(f"<{i}>" for i in index.tokens[:6])
    assert sum(token_counts(index, index.codebook("embed")).data) == len(index.tokens)


def test_single_precision_similarities_are_kept(tmp_path):
    rng = np.random.default_rng(10)
    tokens, traces, _ = batch(rng)
    index = write(tmp_path / "c", [(tokens, traces)], similarity="float32")
    wanted = traces["embed"][1].reshape(-1, 1)
    np.testing.assert_array_equal(index.codebook("embed").similarities, wanted)


KILLED = """
import sys, time
import numpy as np
from tests.codebooks.pages import batch, write
def batches():
    rng = np.random.default_rng(0)
    for i in range(10**6):
        yield batch(rng)
        if i == 20:
            print("going", flush=True)
write(sys.argv[1], batches())
"""


@pytest.mark.slow
def test_a_kill_leaves_an_unfinished_index(tmp_path):
    path = tmp_path / "c"
    done = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
    assert done.stdout is not None
    assert done.stdout.readline() == b"going\n"
    time.sleep(0.2)
    os.kill(done.pid, signal.SIGKILL)
    done.wait()
    done.stdout.close()
    with pytest.raises(ValueError, match="unfinished"):
        open_index(path)
    rng = np.random.default_rng(0)
    write(path, [batch(rng)])
    assert open_index(path).examples > 0
