import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax import data

FEW = settings(max_examples=60, deadline=None)
END = 99
DOCUMENTS = st.lists(
    st.lists(st.integers(0, 9), max_size=14).map(lambda ids: np.array(ids, np.int32)),
    min_size=1,
    max_size=8,
)
BYTES = data.byte_tokenizer()


@given(
    documents=DOCUMENTS, length=st.integers(1, 9), policy=st.sampled_from(["stream", "document"])
)
@FEW
def test_no_token_and_no_boundary_is_lost(documents, length, policy):
    packed = data.pack(documents, length, end=END, policy=policy)
    for part in packed:
        assert part.dtype == np.int32
        assert part.shape == packed.tokens.shape
    real = packed.source >= 0
    assert (real == (packed.segments > 0)).all()
    assert (real == (packed.offset >= 0)).all()
    assert (packed.tokens[~real] == END).all()
    found = {
        (int(d), int(o)): int(t)
        for d, o, t in zip(packed.source[real], packed.offset[real], packed.tokens[real])
    }
    assert len(found) == real.sum()  # each once
    expected = [(i, [*ids.tolist(), END]) for i, ids in enumerate(documents)]
    assert found == {(i, o): t for i, ids in expected for o, t in enumerate(ids)}
    for segments, source, offset in zip(packed.segments, packed.source, packed.offset):
        n = (segments > 0).sum()
        assert n > 0
        assert not segments[n:].any()  # padding is at the end of a row
        steps = np.diff(segments[:n])
        assert segments[0] == 1
        assert set(steps) <= {0, 1}
        # A segment is one document's tokens in order, and a change of document a new segment.
        assert ((steps == 0) == ((np.diff(source[:n]) == 0) & (np.diff(offset[:n]) == 1))).all()


@given(documents=DOCUMENTS, length=st.integers(1, 9))
@FEW
def test_policies_keep_what_they_promise(documents, length):
    whole = np.concatenate([[*ids, END] for ids in documents])
    stream = data.pack(documents, length, end=END)
    assert stream.tokens.ravel()[: len(whole)].tolist() == whole.tolist()
    assert stream.tokens.size - len(whole) < length
    packed = data.pack(documents, length, end=END, policy="document")
    for i, ids in enumerate(documents):
        if len(ids) < length:
            assert len({*np.argwhere(packed.source == i)[:, 0]}) == 1
    used = (packed.segments > 0).sum(axis=1)
    assert (used <= length // 2).sum() <= 1  # of first fit: two such rows would be one


def test_packing_by_hand():
    documents = [np.array(ids) for ids in ([1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [11])]
    stream = data.pack(documents, 5, end=0)
    assert stream.tokens.tolist() == [
        [1, 2, 3, 0, 4], [0, 5, 6, 7, 8], [9, 10, 0, 11, 0],
    ]  # fmt: skip
    assert stream.segments.tolist() == [
        [1, 1, 1, 1, 2], [1, 2, 2, 2, 2], [1, 1, 1, 2, 2],
    ]  # fmt: skip
    assert stream.source.tolist() == [[0, 0, 0, 0, 1], [1, 2, 2, 2, 2], [2, 2, 2, 3, 3]]
    assert stream.offset.tolist() == [[0, 1, 2, 3, 0], [1, 0, 1, 2, 3], [4, 5, 6, 0, 1]]
    fit = data.pack(documents, 5, end=0, policy="document")
    assert fit.tokens.tolist() == [
        [1, 2, 3, 0, 0], [4, 0, 10, 0, 0], [5, 6, 7, 8, 9], [11, 0, 0, 0, 0],
    ]  # fmt: skip
    assert fit.segments.tolist() == [
        [1, 1, 1, 1, 0], [1, 1, 2, 2, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0],
    ]  # fmt: skip
    dropped = data.pack(documents, 4, end=0, drop_tail=True)
    assert dropped.tokens.shape == (3, 4)
    assert data.pack(documents, 4, end=0).tokens.shape == (4, 4)


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        ([], {}, "there are no documents"),
        ([[1]], {"length": 0}, "at least 1 token"),
        ([[1]], {"policy": "strem"}, "expected 'stream' or 'document', got 'strem'"),
        ([[1], [], [2, 99]], {}, r"document 2 has the id 99; ids are .* `end` \(99\) is added"),
        ([[1], [-1]], {}, "document 1 has the id -1"),
        ([[2**31]], {}, "document 0 has the id 2147483648"),
        ([[0.5]], {}, r"document 0 is float64 \[1\]"),
        ([[[1]]], {}, r"document 0 is int64 \[1, 1\]"),
        ([[1]], {"drop_tail": True}, "2 tokens do not fill one row of 4"),
        ([[1]], {"drop_tail": True, "policy": "document"}, "only for policy 'stream'"),
    ],
)
def test_what_cannot_be_packed(documents, options, message):
    options = {"length": 4, "end": 99, **options}
    with pytest.raises(ValueError, match=message):
        data.pack(documents, **options)


CORPUS = data.Corpus.of({f"{i}": f"{i:03d} is {'text ' * (i % 7)}é" for i in range(23)})
LINES = [f"{i}: {'word ' * (i % 5)}" for i in range(23)]


def corpus_stream(length=8, batch=3, seed=5, corpus=CORPUS, tokenizer=BYTES):
    return data.TextStream(corpus, tokenizer, length, batch, seed)


def lines_stream(**options):
    options = {"fingerprint": "lines", "shuffle": 4, "seed": 5, **options}
    return data.TextStream(lambda: iter(LINES), BYTES, 8, 3, **options)


@pytest.mark.parametrize("make", [corpus_stream, lines_stream])
@given(before=st.integers(0, 40), after=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_a_restored_stream_goes_on_bit_by_bit(make, before, after):
    stream = make()
    for _ in range(before):
        next(stream)
    state = json.loads(json.dumps(stream.state()))
    expected = [next(stream) for _ in range(after)]
    used = make()
    next(used)
    for other in (make(), used, stream):
        other.restore(state)
        for tokens, segments in expected:
            again = next(other)
            assert again[0].tobytes() == tokens.tobytes()
            assert again[1].tobytes() == segments.tobytes()


@pytest.mark.parametrize(("make", "texts"), [(corpus_stream, CORPUS.texts), (lines_stream, LINES)])
def test_every_epoch_has_each_document_once_in_another_order(make, texts):
    size = sum(len(t.encode()) + 1 for t in texts)
    stream, flat = make(), []
    while len(flat) < 3 * size:
        tokens, segments = next(stream)
        assert tokens.shape == segments.shape == (3, 8)
        assert tokens.dtype == segments.dtype == np.int32
        follows = np.zeros_like(tokens)
        follows[:, 1:] = tokens[:, :-1] == BYTES.end
        assert (segments == 1 + follows.cumsum(axis=1)).all()
        flat += tokens.ravel().tolist()
    epochs = []
    for start in range(0, 3 * size, size):
        epoch = np.array(flat[start : start + size])
        parts = np.split(epoch, np.flatnonzero(epoch == BYTES.end) + 1)
        assert parts[-1].size == 0
        epochs.append([BYTES.decode(part) for part in parts[:-1]])
        assert sorted(epochs[-1]) == sorted(texts)
    assert epochs[0] != epochs[1] != epochs[2]
    other = make(seed=6)
    assert any((next(other)[0] != tokens).any() for tokens, _ in [next(make())])


def documents_of(stream, texts):
    """The first `texts` whole documents of a stream, in its order."""
    flat = []
    while flat.count(BYTES.end) < texts:
        flat += next(stream)[0].ravel().tolist()
    found = []
    for _ in range(texts):
        cut = flat.index(BYTES.end)
        found.append(BYTES.decode(np.array(flat[:cut], np.int32)))
        flat = flat[cut + 1 :]
    return found


def parted_corpus(**part):
    return data.TextStream(CORPUS, BYTES, 8, 3, 5, **part)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("make", "texts"), [(parted_corpus, list(CORPUS.texts)), (lines_stream, LINES)]
)
def test_parts_share_every_epoch(make, texts, count):
    shares = []
    for index in range(count):
        stream = make(part=(index, count))
        here = make() if count == 1 else stream
        if make is lines_stream:  # blocks of 4, the last of 3
            n = 5 * len(range(index, 4, count)) + len(range(index, 3, count))
        else:
            n = len(range(index, 23, count))
        shares.append(documents_of(here, 2 * n))
        state = make(part=(index, count))
        state.restore(json.loads(json.dumps(stream.state())))
        assert next(state)[0].tobytes() == next(stream)[0].tobytes()
    for epoch in range(2):
        seen = [t for s in shares for t in s[epoch * len(s) // 2 : (epoch + 1) * len(s) // 2]]
        assert sorted(seen) == sorted(texts)


def test_a_part_that_cannot_be():
    for part in ((2, 2), (-1, 2), (23, 24)):
        with pytest.raises(ValueError, match=r"part: expected \(index, count\)"):
            parted_corpus(part=part)
    whole, half = parted_corpus(), parted_corpus(part=(0, 2))
    for one, other in ((whole, half), (half, whole)):
        with pytest.raises(ValueError, match="the state is of another part"):
            one.restore(other.state())


def test_restoring_tokenizes_one_document_only():
    class Counting(type(BYTES)):
        def encode(self, text):
            seen.append(text)
            return super().encode(text)

    seen = []
    counting = Counting(BYTES.vocab, BYTES.end, BYTES.byte_lengths.copy(), BYTES.fingerprint)
    stream = corpus_stream(length=1, batch=1, tokenizer=counting)
    for _ in range(4 * CORPUS.bytes):
        next(stream)
    assert len(seen) > 3 * len(CORPUS)
    state = stream.state()
    assert state["epoch"] >= 2
    stream.restore(state)
    seen.clear()
    next(stream)
    assert len(seen) == 1


def test_a_state_of_another_stream_is_refused():
    state = corpus_stream().state()
    other = data.Corpus.of({"a": "x"})
    bpe = data.train_bpe(["abab"] * 3, 258)
    for name, stream in {
        "corpus": corpus_stream(corpus=other),
        "tokenizer": corpus_stream(tokenizer=bpe),
        "length": corpus_stream(length=9),
        "batch": corpus_stream(batch=4),
        "seed": corpus_stream(seed=6),
    }.items():
        with pytest.raises(ValueError, match=f"the state is of another {name}: it has"):
            stream.restore(state)
    with pytest.raises(ValueError, match="another shuffle: it has 4, this stream 5"):
        lines_stream(shuffle=5).restore(lines_stream().state())


def test_an_error_leaves_the_stream_where_it_was():
    texts = ["a" * 30, "b\ud800", "c" * 30]
    stream = data.TextStream(lambda: texts, BYTES, 10, 4, fingerprint="x", shuffle=1)
    state = stream.state()
    for _ in range(2):
        with pytest.raises(ValueError, match="lone surrogate"):
            next(stream)
        assert stream.state() == state
    texts[1] = "b"
    assert BYTES.decode(next(stream)[0].ravel()) == "a" * 30 + "b" + "c" * 7


def test_streams_that_cannot_be():
    for bad in ({"length": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="expected at least 1, got 0"):
            corpus_stream(**bad)
    with pytest.raises(ValueError, match="fingerprint: name what the function gives"):
        lines_stream(fingerprint=None)
    once = iter(LINES)
    stream = data.TextStream(lambda: once, BYTES, 8, 99, fingerprint="x")
    with pytest.raises(ValueError, match="it must start anew at each call"):
        next(stream)
    stream = lines_stream()
    stream.restore({**stream.state(), "offset": 10**6})
    with pytest.raises(ValueError, match="the text is not what it was"):
        next(stream)


@pytest.mark.parametrize(("length", "stride"), [(8, 4), (8, 7), (8, 1), (5, 2)])
def test_windows_score_each_token_once_with_text_before_it(length, stride):
    rng = np.random.default_rng(0)
    documents = [rng.integers(1, 50, n) for n in (1, 3, length - 1, length, 17, 40)]
    got = data.windows(documents, length, stride, end=0)
    for number, ids in enumerate(documents):
        whole, mine = np.append(ids, 0), np.flatnonzero(got.source == number)
        seen = np.zeros(len(whole), int)
        for nth, row in enumerate(mine):
            at = nth * stride + np.arange(length)
            real = got.segments[row] > 0
            np.testing.assert_array_equal(got.tokens[row][real], whole[at[real]])
            assert (got.tokens[row][~real] == 0).all()
            assert real[got.counted[row]].all()
            if nth:
                assert np.flatnonzero(got.counted[row]).min() >= length - stride
            seen[at[got.counted[row]]] += 1
        assert seen.tolist() == [0] + [1] * (len(whole) - 1)


def test_windows_that_cannot_be_are_refused():
    for length, stride in ((1, 1), (8, 8), (8, 0)):
        with pytest.raises(ValueError, match="windows: expected length"):
            data.windows([np.array([1])], length, stride, end=0)
    with pytest.raises(ValueError, match="no documents"):
        data.windows([], 8, 4, end=0)
    for ids in ([-1], [0], [0.5]):
        with pytest.raises(ValueError, match="documents: "):
            data.windows([np.array(ids)], 8, 4, end=0)
