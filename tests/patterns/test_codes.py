import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from activjax.patterns import Codes, codes, unpack


def random_bits(seed, *shape):
    return np.random.default_rng(seed).random(shape) < 0.5


def test_bit_i_of_word_w_is_unit_32w_plus_i():
    x = np.zeros((1, 70), np.float32)
    x[0, [0, 5, 31, 32, 69]] = 1.0
    words = codes(jnp.asarray(x)).words
    assert words.dtype == jnp.uint32
    assert words.tolist() == [[1 | 1 << 5 | 1 << 31, 1, 1 << 5]]


def test_only_numbers_above_zero_are_active():
    x = jnp.array([[1.0, 0.0, -0.0, -1.0, jnp.inf, -jnp.inf, jnp.nan, -jnp.nan]])
    assert unpack(codes(x)).tolist() == [[True, False, False, False, True, False, False, False]]
    assert codes(np.asarray(x)).words.tolist() == codes(x).words.tolist()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_a_subnormal_is_active_though_the_backend_may_compare_it_equal_to_zero(dtype):
    smallest = jnp.array([[1, 0]], f"uint{jnp.dtype(dtype).itemsize * 8}")
    x = jax.lax.bitcast_convert_type(smallest, dtype)
    assert codes(x).words.tolist() == [[1]]
    assert jax.jit(codes)(x).words.tolist() == [[1]]
    assert codes(-x).words.tolist() == [[0]]


def test_numpy_input_is_compared_before_it_is_rounded_to_float32():
    assert codes(np.array([[1e-300, -1e-300]])).words.tolist() == [[1]]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.uint32])
def test_booleans_and_integers(dtype):
    bits = random_bits(0, 3, 40)
    for x in (bits.astype(dtype), jnp.asarray(bits.astype(dtype))):
        np.testing.assert_array_equal(unpack(codes(x)), bits)


@settings(max_examples=15, deadline=None)
@given(
    n=st.sampled_from([0, 3]),
    units=st.sampled_from([1, 31, 32, 33, 63, 64, 65]),
    seed=st.integers(0, 99),
)
def test_unpack_inverts_codes_and_the_tail_is_zero(n, units, seed):
    bits = random_bits(seed, n, units)
    packed = codes(bits)
    np.testing.assert_array_equal(unpack(packed), bits)
    expected = np.zeros((n, packed.words.shape[1] * 4), np.uint8)  # NumPy as a second opinion
    little = np.packbits(bits, axis=1, bitorder="little")
    expected[:, : little.shape[1]] = little
    np.testing.assert_array_equal(packed.words, expected.view("<u4"))


def test_sites_are_laid_end_to_end_and_can_be_found_again():
    acts = {
        "layers/10/pre": random_bits(1, 5, 33),
        "conv": random_bits(2, 5, 2, 3, 4),
        "logit": random_bits(3, 5),
        "layers/2/pre": random_bits(4, 5, 70),
    }
    all_codes = codes(acts)
    # By name, whatever the order of the dict: jax.jit sorts the keys of dicts.
    acts = {name: acts[name] for name in ("conv", "layers/2/pre", "layers/10/pre", "logit")}
    assert all_codes.units == tuple((name, x[0].size) for name, x in acts.items())
    assert (jax.jit(codes)(acts).words == all_codes.words).all()
    assert (all_codes.n, all_codes.n_units) == (5, 128)
    flat = [x.reshape(5, -1) for x in acts.values()]
    np.testing.assert_array_equal(unpack(all_codes), np.concatenate(flat, axis=1))
    for (name, x), bits in zip(acts.items(), flat):
        chex.assert_trees_all_equal(all_codes.site(name), codes({name: x}))
        np.testing.assert_array_equal(unpack(all_codes.site(name)), bits)
    assert all_codes.locate(0) == ("conv", 0)
    assert all_codes.locate(24 + 7) == ("layers/2/pre", 7)
    assert all_codes.locate(24 + 70) == ("layers/10/pre", 0)
    assert all_codes.locate(127) == ("logit", 0)
    for unit in (-1, 128):
        with pytest.raises(IndexError, match="units run from 0 to 127"):
            all_codes.locate(unit)
    with pytest.raises(KeyError, match=r"no site 'pre'.*'conv'"):
        all_codes.site("pre")


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 31, 33, 64]), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_site_equals_packing_the_site_alone(sizes, seed):
    acts = {f"s{i}": random_bits(seed + i, 2, size) for i, size in enumerate(sizes)}
    for name in acts:
        chex.assert_trees_all_equal(codes(acts).site(name), codes({name: acts[name]}))


def test_a_site_without_units_and_a_batch_without_examples_are_fine():
    acts = {"none": np.zeros((2, 0)), "some": np.ones((2, 3))}
    assert codes(acts).words.tolist() == [[7], [7]]
    assert codes(acts).site("none").words.shape == (2, 0)
    assert codes(np.zeros((0, 33))).words.shape == (0, 2)


def test_vmap_equals_a_loop_and_jit_equals_no_jit():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 50)).astype(np.float32))
    mapped = jax.vmap(codes)(x)
    looped = jnp.stack([codes(one).words for one in x])
    assert mapped.words.shape == (3, 4, 2)
    np.testing.assert_array_equal(mapped.words, looped)
    np.testing.assert_array_equal(unpack(mapped), x > 0)
    chex.assert_trees_all_equal(jax.jit(codes)(x[0]), codes(x[0]))
    with jax.disable_jit():
        chex.assert_trees_all_equal(codes(x[0]).words, looped[0])


def test_a_pytree_that_can_be_indexed_by_example():
    some = codes(random_bits(0, 6, 40))
    rows = jax.tree.map(lambda words: words[jnp.array([4, 1])], some)
    assert isinstance(rows, Codes)
    np.testing.assert_array_equal(unpack(rows), unpack(some)[np.array([4, 1])])


@pytest.mark.parametrize(
    ("acts", "error", "match"),
    [
        ({}, ValueError, "no activations"),
        (np.float32(1), ValueError, "scalar"),
        (
            {"a": np.zeros((2, 3)), "b": np.zeros((3, 3))},
            ValueError,
            "'a': 2, 'b': 3.*example axis",
        ),
        (np.zeros((2, 0)), ValueError, "no units"),
        (np.zeros((2, 2), complex), TypeError, "complex"),
    ],
)
def test_refusals(acts, error, match):
    with pytest.raises(error, match=match):
        codes(acts)


def test_float64_under_x64():
    with jax.enable_x64(True):
        x = jnp.array([[1e-300, -1e-300, 5e-324]])
        assert x.dtype == jnp.float64
        assert codes(x).words.tolist() == [[5]]
        assert codes(x).words.dtype == jnp.uint32
