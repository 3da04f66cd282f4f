import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax.patterns import codes, flips, hamming, unpack


def bits(seed, *shape):
    return np.random.default_rng(seed).random(shape) < 0.5


def test_hamming_by_hand():
    a = codes(np.array([[1, 0, 1], [0, 0, 0]]))
    b = codes(np.array([[1, 0, 1], [1, 1, 1], [0, 1, 0]]))
    distances = hamming(a, b)
    assert distances.dtype == jnp.int32
    assert distances.tolist() == [[0, 1, 3], [2, 3, 1]]


@pytest.mark.parametrize("units", [1, 31, 32, 33, 300])
def test_hamming_counts_the_units_that_differ(units):
    a, b = bits(0, 7, units), bits(1, 5, units)
    expected = (a[:, None] != b[None]).sum(-1)
    np.testing.assert_array_equal(hamming(codes(a), codes(b)), expected)
    np.testing.assert_array_equal(hamming(codes(a)), (a[:, None] != a[None]).sum(-1))


def test_one_bit_in_the_last_partial_word_is_seen():
    a = np.zeros((1, 33), bool)
    b = a.copy()
    b[0, 32] = True
    assert hamming(codes(a), codes(b)).tolist() == [[1]]
    changed = flips(codes(a), codes(b))
    assert changed.per_example.tolist() == [1]
    assert changed.per_unit.tolist() == [0] * 32 + [1]


def test_hamming_and_flips_over_leading_axes_equal_a_loop():
    a, b = bits(0, 2, 3, 6, 40), bits(1, 2, 3, 6, 40)
    pack = jax.vmap(jax.vmap(codes))
    many_a, many_b = pack(jnp.asarray(a)), pack(jnp.asarray(b))
    distances, changed = hamming(many_a, many_b), flips(many_a, many_b)
    mapped = jax.vmap(jax.vmap(flips))(many_a, many_b)
    chex.assert_trees_all_equal(mapped, changed)
    assert changed.rate.shape == (2, 3)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(distances[i], hamming(codes(a[i]), codes(b[i])))
        one = flips(codes(a[i]), codes(b[i]))
        chex.assert_trees_all_equal(jax.tree.map(lambda x, i=i: x[i], changed), one)


def test_flips_against_plain_numpy():
    a, b = bits(0, 50, 70), bits(1, 50, 70)
    changed = flips(codes(a), codes(b))
    np.testing.assert_array_equal(changed.per_example, (a != b).sum(1))
    np.testing.assert_array_equal(changed.per_unit, (a != b).sum(0))
    # float32: a mean of 50 integers below 2^24 is one exact sum and two roundings.
    np.testing.assert_allclose(changed.rate, (a != b).mean(), rtol=2 * 2.0**-24)
    assert float(flips(codes(a), codes(a)).rate) == 0.0
    assert float(flips(codes(a), codes(~a)).rate) == 1.0


def test_empty_sides():
    some, none = codes(bits(0, 3, 5)), codes(bits(0, 0, 5))
    assert hamming(some, none).shape == (3, 0)
    assert hamming(none, some).shape == (0, 3)
    with pytest.raises(ValueError, match="no examples"):
        flips(none, none)


def test_refusals():
    a, b = codes({"a": bits(0, 3, 5)}), codes({"b": bits(0, 3, 5)})
    for compare in (hamming, flips):
        with pytest.raises(ValueError, match="different units"):
            compare(a, b)
        with pytest.raises(TypeError, match=r"expected Codes, got .*patterns.codes"):
            compare(a, unpack(a))
    with pytest.raises(ValueError, match="same examples"):
        flips(a, codes({"a": bits(0, 4, 5)}))
    with pytest.raises(ValueError, match="leading axes"):
        hamming(jax.tree.map(lambda w: w[None], a), a)
    with pytest.raises(ValueError, match="keep the example axis"):
        hamming(jax.tree.map(lambda w: w[0], a), a)


@pytest.mark.parametrize("compare", [hamming, flips])
def test_second_call_does_not_recompile(compare, compilations):
    a, b = codes(bits(0, 4, 40)), codes(bits(1, 4, 40))
    compare(a, b)
    with compilations() as seen:
        compare(b, a)
    assert not seen
