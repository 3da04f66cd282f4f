import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax.patterns import DistinctCounter, _stream as stream_module, codes, count_distinct
from activjax.patterns._fingerprint import LANES, HashKeys, fingerprint, hash_keys

KEY = jax.random.key(7)


def stream(seed, batches, units, distinct):
    rng = np.random.default_rng(seed)
    pool = rng.random((distinct, units)) < 0.5
    return [pool[rng.integers(0, distinct, rng.choice([1, 17]))] for _ in range(batches)]


def fingerprint_by_integers(keys, words):
    """The definition in the module's docstring, in Python's integers."""
    high, low, words = (np.asarray(x).tolist() for x in (keys.high, keys.low, words))
    key = [[a << 32 | b for a, b in zip(hs, ls)] for hs, ls in zip(high, low)]
    return [
        [
            (key[0][lane] + sum(key[1 + w][lane] * x for w, x in enumerate(row))) % 2**64 >> 32
            for lane in range(LANES)
        ]
        for row in words
    ]


@pytest.mark.parametrize("n_words", [1, 2, 5])
def test_fingerprint_is_the_multilinear_hash_it_says_it_is(n_words):
    rng = np.random.default_rng(n_words)
    words = rng.integers(0, 2**32, (20, n_words), dtype=np.uint32)
    words[0], words[1], words[2] = 0, 2**32 - 1, 0xFFFF
    keys = hash_keys(KEY, n_words)
    largest = jnp.full((n_words + 1, LANES), 2**32 - 1, jnp.uint32)  # every carry there is
    for some in (keys, HashKeys(largest, largest)):
        got = fingerprint(some, jnp.asarray(words))
        assert got.dtype == jnp.uint32
        assert got.tolist() == fingerprint_by_integers(some, words)


def test_lanes_are_uniform_over_the_draw_of_the_keys():
    # The worst pair of the derivation: they differ in the top bit only (t = 31). The top bit of a
    # lane then differs with probability 1/2: over 4000 lanes the share has standard deviation
    # sqrt(1/4 / 4000) < 0.008; five of them.
    words = jnp.array([[0], [1 << 31]], jnp.uint32)
    keys = jax.vmap(lambda key: hash_keys(key, 1))(jax.random.split(KEY, 1000))
    both = jax.vmap(fingerprint, in_axes=(0, None))(keys, words)
    differs = (both[:, 0] ^ both[:, 1]) >> jnp.uint32(31)
    assert abs(float(jnp.mean(differs.astype(jnp.float32))) - 0.5) < 5 * 0.008
    assert not bool(jnp.any(jnp.all(both[:, 0] == both[:, 1], axis=-1)))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    batches=st.integers(1, 9),
    units=st.sampled_from([1, 33, 150]),
    distinct=st.integers(1, 60),
    exact=st.booleans(),
)
def test_counts_what_a_set_counts(seed, batches, units, distinct, exact):
    parts = stream(seed, batches, units, distinct)
    everything = np.concatenate(parts)
    expected = len({row.tobytes() for row in everything})
    assert count_distinct((codes(part) for part in parts), exact=exact) == expected
    whole = DistinctCounter.init(KEY, exact=exact)
    left, right = whole, whole
    for i, part in enumerate(parts):
        whole = whole.update(codes(part))
        left, right = (
            (left.update(codes(part)), right) if i % 2 else (left, right.update(codes(part)))
        )
    seen = whole.finish()
    assert (seen.n, seen.distinct) == (len(everything), expected)
    assert seen.redundancy_ratio == (seen.n - seen.distinct) / seen.n
    assert left.merge(right).finish() == seen
    assert right.merge(left).finish() == seen


def test_memory_at_rest_is_at_most_32_bytes_a_distinct_code():
    rng = np.random.default_rng(0)
    counter = DistinctCounter.init(KEY)
    for _ in range(40):
        counter = counter.update(codes(rng.random((100, 50)) < 0.5))
        lengths = [len(run.high) for run in counter.runs]
        assert all(longer >= 2 * shorter for longer, shorter in itertools.pairwise(lengths))
        held = sum(run.high.nbytes + run.low.nbytes for run in counter.runs)
        assert held <= 32 * counter.finish().distinct
    assert counter.finish().distinct == 4000


def test_exact_counts_right_even_if_every_fingerprint_collides(monkeypatch):
    monkeypatch.setattr(
        stream_module, "fingerprint", lambda keys, words: jnp.zeros((len(words), 4), jnp.uint32)
    )
    parts = [codes(part) for part in stream(0, 6, 70, 20)]
    expected = int(count_distinct(jax.tree.map(lambda *w: jnp.concatenate(w), *parts)))
    assert expected > 1
    assert count_distinct(parts, exact=True) == expected
    assert count_distinct(parts) == 1


def test_halves_that_collide_are_told_apart_by_the_other_half(monkeypatch):
    def half(keys, words):  # the first 64 bits always agree, the last tell codes apart
        return jnp.zeros((len(words), 4), jnp.uint32).at[:, 2].set(words[:, 0])

    monkeypatch.setattr(stream_module, "fingerprint", half)
    parts = [codes(part) for part in stream(0, 6, 20, 20)]
    expected = int(count_distinct(jax.tree.map(lambda *w: jnp.concatenate(w), *parts)))
    assert count_distinct(parts) == count_distinct(parts, exact=True) == expected


def test_updating_leaves_the_old_counter_as_it_was():
    first = DistinctCounter.init(KEY).update(codes(np.eye(3)))
    second = first.update(codes(np.ones((1, 3))))
    assert (first.finish().distinct, second.finish().distinct) == (3, 4)


def test_empty_streams_and_batches():
    nothing = DistinctCounter.init(KEY)
    assert nothing.finish().distinct == 0
    assert np.isnan(nothing.finish().redundancy_ratio)
    assert count_distinct([]) == 0
    one = nothing.update(codes(np.ones((1, 40)))).update(codes(np.ones((0, 40))))
    assert one.finish() == one.merge(nothing).finish() == nothing.merge(one).finish()
    assert (one.finish().n, one.finish().distinct) == (1, 1)


def test_failure_probability_is_the_union_bound():
    counter = DistinctCounter.init(KEY).update(codes(np.eye(5)))
    assert counter.finish().failure_probability == 10 * 2.0**-128
    exact = DistinctCounter.init(KEY, exact=True).update(codes(np.eye(5)))
    assert exact.finish().failure_probability == 0.0


def test_refusals():
    counter = DistinctCounter.init(KEY).update(codes({"a": np.eye(3)}))
    with pytest.raises(ValueError, match="so far they were of"):
        counter.update(codes({"b": np.eye(3)}))
    with pytest.raises(ValueError, match="one counter for each"):
        counter.update(jax.tree.map(lambda w: w[None], codes({"a": np.eye(3)})))
    with pytest.raises(ValueError, match="keys differ"):
        counter.merge(DistinctCounter.init(jax.random.key(8)))
    with pytest.raises(ValueError, match="exact"):
        counter.merge(DistinctCounter.init(KEY, exact=True))
    with pytest.raises(ValueError, match="so far they were of"):
        counter.merge(DistinctCounter.init(KEY).update(codes({"b": np.eye(3)})))
    with pytest.raises(TypeError, match="expected Codes"):
        counter.update(np.eye(3))
