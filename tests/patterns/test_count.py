import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax.patterns import (
    Codes,
    codes,
    count_distinct,
    neuron_partition,
    partition,
    redundancy_ratio,
)
from activjax.patterns._count import exact_partition


def repeated_bits(seed, n, units, distinct):
    """`n` rows drawn from at most `distinct` patterns."""
    rng = np.random.default_rng(seed)
    return (rng.random((distinct, units)) < 0.5)[rng.integers(0, distinct, n)]


def first_seen_groups(rows):
    """The same partition, by a dictionary."""
    numbers = {}
    return [numbers.setdefault(row.tobytes(), len(numbers)) for row in rows]


def test_by_hand():
    same = codes(np.array([[1, 0], [0, 1], [1, 0], [1, 0]]))
    assert int(count_distinct(same)) == 2
    assert partition(same).groups.tolist() == [0, 1, 0, 0]
    assert float(redundancy_ratio(same)) == 0.5
    # Units: 1011, 0100, 1011, dead, dead, always active.
    units = codes(
        np.array([[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 1], [1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 0, 1]])
    )
    assert neuron_partition(units).groups.tolist() == [0, 1, 0, 2, 2, 3]
    assert int(neuron_partition(units).n_groups) == 4


# 128 units are the last that are sorted as words, 129 the first that go through fingerprints.
@settings(max_examples=25, deadline=None)
@given(
    n=st.sampled_from([1, 33]),
    units=st.sampled_from([1, 31, 33, 128, 129]),
    distinct=st.integers(1, 30),
    seed=st.integers(0, 999),
)
@pytest.mark.slow
def test_groups_equal_a_dictionary(n, units, distinct, seed):
    bits = repeated_bits(seed, n, units, distinct)
    packed = codes(bits)
    examples, neurons = partition(packed), neuron_partition(packed)
    assert examples.groups.tolist() == first_seen_groups(bits)
    assert neurons.groups.tolist() == first_seen_groups(bits.T.copy())
    for groups in (examples, neurons):
        assert int(groups.n_groups) == int(groups.groups.max()) + 1
    assert int(count_distinct(packed)) == len(np.unique(bits, axis=0))


@pytest.mark.parametrize("units", [33, 161])
def test_codes_that_differ_in_one_bit_of_the_last_partial_word(units):
    bits = np.zeros((2, units), bool)
    bits[1, -1] = True
    assert int(count_distinct(codes(bits))) == 2


@pytest.mark.parametrize("lanes", ["all equal", "some equal"])
def test_still_exact_when_fingerprints_collide(lanes):
    bits = repeated_bits(0, 60, 170, 25)
    words = codes(bits).words
    hashed = jnp.zeros((60, 4), jnp.uint32)
    if lanes == "some equal":  # a hash of four values, which agrees where the rows do
        hashed = hashed.at[:, 2].set(words[:, 0] % jnp.uint32(4))
    groups = exact_partition(words, hashed)
    assert groups.groups.tolist() == first_seen_groups(bits)
    chex.assert_trees_all_equal(groups, partition(codes(bits)))
    mapped = jax.vmap(exact_partition)(
        jnp.stack([words, words[::-1]]), jnp.zeros_like(hashed[None], shape=(2, 60, 4))
    )
    assert mapped.n_groups.tolist() == [int(groups.n_groups)] * 2


def test_vmap_and_leading_axes_equal_a_loop():
    bits = np.stack([repeated_bits(seed, 20, 150, 3 + 5 * seed) for seed in range(3)])
    many = jax.vmap(codes)(jnp.asarray(bits))
    for f in (redundancy_ratio, neuron_partition):
        looped = [f(codes(one)) for one in bits]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *looped)
        chex.assert_trees_all_equal(f(many), stacked)
        chex.assert_trees_all_equal(jax.vmap(f)(many), stacked)
        chex.assert_trees_all_equal(jax.jit(f)(many), stacked)


def test_no_examples():
    none = codes(np.zeros((0, 200)))
    assert int(count_distinct(none)) == 0
    assert int(count_distinct(codes(np.zeros((0, 3))))) == 0
    with pytest.raises(ValueError, match="0/0"):
        redundancy_ratio(none)
    with pytest.raises(ValueError, match="no examples"):
        neuron_partition(none)


def test_one_example_is_not_redundant():
    one = codes(np.ones((1, 1)))
    assert float(redundancy_ratio(one)) == 0.0
    assert redundancy_ratio(one).dtype == jnp.float32


def test_refuses_what_is_not_codes():
    with pytest.raises(TypeError, match="expected Codes, got ndarray"):
        redundancy_ratio(np.zeros((2, 2)))
    with pytest.raises(TypeError, match="expected Codes, got ndarray"):
        count_distinct(np.zeros((2, 2)))


@pytest.mark.parametrize("f", [count_distinct, redundancy_ratio, neuron_partition])
def test_second_call_does_not_recompile(f, compilations):
    first, second = (repeated_bits(seed, 8, 150, 4) for seed in range(2))
    f(codes(first))
    with compilations() as seen:
        f(codes(second))
    assert not seen


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("f", [count_distinct, neuron_partition])
def test_lowers_for_accelerators(f, platform):
    words = jax.ShapeDtypeStruct((10, 7), jnp.uint32)
    lower = jax.jit(lambda words: f(Codes(words, (("", 200),))))
    jax.export.export(lower, platforms=[platform])(words)
