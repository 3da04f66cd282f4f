"""Steering as data: each kind of override, and where it acts."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import codebooks
from activjax.codebooks import Override, Spec, bottleneck

SPEC = {"site": Spec(9, 3, 2)}
BOOK = {"codes": jax.random.normal(jax.random.key(0), (2, 9, 4)), "scale": jnp.ones(2)}
X = jax.random.normal(jax.random.key(1), (2, 5, 8))
NONE = codebooks.overrides(SPEC, {"site": BOOK}, tokens=(2, 5), bans=2)


@jax.jit
def apply(over, positions=None):
    return bottleneck(BOOK, X, SPEC["site"], override=over.sites["site"], positions=positions)


@pytest.fixture(scope="module")
def plain():
    return apply(NONE)


def where_changed(found, plain) -> np.ndarray:
    """`[2, 5, groups]`: whether any rank differs."""
    return np.asarray((found.ids != plain.ids).any(-1))


def test_none_changes_nothing(plain):
    y, trace = jax.jit(lambda: bottleneck(BOOK, X, SPEC["site"]))()
    np.testing.assert_array_equal(plain[0], y)
    np.testing.assert_array_equal(plain[1].ids, trace.ids)


def test_set(plain):
    y, trace = apply(NONE.set("site", [8, 8, 0], example=1, position=3, group=0))
    np.testing.assert_array_equal(trace.ids[1, 3, 0], [8, 8, 0])
    assert where_changed(trace, plain[1]).sum() == 1
    codes = np.asarray(BOOK["codes"])[0]
    np.testing.assert_allclose(y[1, 3, :4], codes[8] + codes[8] + codes[0], rtol=1e-6)
    np.testing.assert_array_equal(y[0], plain[0][0])
    assert int(trace.counts[0, 8]) >= 2


def test_the_similarity_of_a_code_put_in_place():
    _, trace = apply(NONE.fill("site", 6))
    a = np.asarray(X, np.float64).reshape(2, 5, 2, 4)
    c = np.asarray(BOOK["codes"], np.float64)[:, 6]
    cosine = (a * c).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(c, axis=-1)
    np.testing.assert_allclose(trace.similarities[..., 0], cosine, atol=20 * 2**-24)


def test_replace_last_and_fill(plain):
    _, trace = apply(NONE.replace_last("site", 5, group=1))
    np.testing.assert_array_equal(trace.ids[..., 0, :], plain[1].ids[..., 0, :])
    np.testing.assert_array_equal(trace.ids[..., 1, :2], plain[1].ids[..., 1, :2])
    assert (trace.ids[..., 1, 2] == 5).all()
    _, trace = apply(NONE.fill("site", jnp.int32(7), example=0))
    assert (trace.ids[0] == 7).all()
    np.testing.assert_array_equal(trace.ids[1], plain[1].ids[1])


def test_slices_and_lists_of_places(plain):
    over = NONE.fill("site", 6, position=slice(3, None), group=0)
    _, trace = apply(over)
    assert (trace.ids[:, 3:, 0] == 6).all()
    assert where_changed(trace, plain[1])[:, :3].sum() == 0
    assert where_changed(trace, plain[1])[..., 1].sum() == 0
    _, trace = apply(NONE.replace_last("site", 6, position=slice(1, 3), example=np.array([1])))
    assert (trace.ids[1, 1:3, :, 2] == 6).all()
    assert where_changed(trace, plain[1])[0].sum() == 0
    _, trace = apply(NONE.off("site", position=[0, 4], group=1))
    assert (trace.ids[:, [0, 4], 1] == -1).all()
    assert (trace.ids[:, 1:4] >= 0).all()


def test_ban(plain):
    nearest = int(plain[1].ids[0, 0, 0, 0])
    second = int(plain[1].ids[0, 0, 0, 1])
    _, trace = apply(NONE.ban("site", [nearest, second], group=0))
    assert not np.isin(trace.ids[..., 0, :], [nearest, second]).any()
    assert int(trace.ids[0, 0, 0, 0]) == int(plain[1].ids[0, 0, 0, 2])
    np.testing.assert_array_equal(trace.ids[..., 1, :], plain[1].ids[..., 1, :])
    _, again = apply(NONE.ban("site", nearest, group=0))  # fewer than there is room for
    assert int(again.ids[0, 0, 0, 0]) == second


def test_off(plain):
    y, trace = apply(NONE.off("site", position=2, group=1))
    np.testing.assert_array_equal(y[:, 2, 4:], X[:, 2, 4:])
    assert (trace.ids[:, 2, 1] == -1).all()
    assert (trace.mse[:, 2, 1] == 0).all()
    np.testing.assert_array_equal(y[:, :, :4], plain[0][:, :, :4])
    assert int(trace.counts[1].sum()) == 8 * 3
    assert int(trace.tokens) == 10  # the other group is on
    y, trace = apply(NONE.off("site"))
    np.testing.assert_array_equal(y, X)
    assert int(trace.tokens) == 0


def test_by_absolute_position(plain):
    # The call holds tokens 3 to 7 of the first sequence; the second has two tokens of padding.
    positions = jnp.array([[3, 4, 5, 6, 7], [-1, -1, 0, 1, 2]])
    over = codebooks.overrides(SPEC, {"site": BOOK}, tokens=(1, 6), bans=2)
    over = over.fill("site", 1, position=4).fill("site", 2, position=0)
    _, trace = apply(over, positions)
    assert (trace.ids[0, 1] == 1).all()
    assert (trace.ids[1, 2] == 2).all()
    changed = where_changed(trace, plain[1]).any(-1)
    assert changed.sum() == 2  # beyond the table, and at padding, nothing is changed


def test_every_index_may_be_traced_and_nothing_compiles_again():
    over = codebooks.overrides(SPEC, {"site": BOOK}, tokens=(2, 5), bans=2)

    @jax.jit
    def steer(code, group, position):
        at = dict(group=group, position=position)
        return bottleneck(
            BOOK, X, SPEC["site"], override=over.fill("site", code, **at).sites["site"]
        )[1].ids

    for code, group, position in ((1, 0, 2), (4, 1, 0)):
        ids = steer(code, group, position)
        assert (ids[:, position, group] == code).all()
    assert steer._cache_size() == 1
    out = jax.jit(partial(bottleneck, BOOK, X, SPEC["site"]))(
        override=Override(ids=jnp.full((2, 3), 99))
    )[0]
    assert jnp.isnan(out).all()  # a traced code out of range


def test_refusals():
    with pytest.raises(ValueError, match="codes of 'site' are 0 to 8"):
        NONE.fill("site", 9)
    with pytest.raises(ValueError, match="no codebook at 'sight'; there are: site"):
        NONE.fill("sight", 1)
    with pytest.raises(TypeError, match="whole numbers"):
        NONE.fill("site", 1.5)
    with pytest.raises(ValueError, match="room for 2"):
        NONE.ban("site", [1, 2, 3])
    with pytest.raises(ValueError, match="chooses 3 codes"):
        NONE.set("site", [1, 2])
    with pytest.raises(ValueError, match="index 7 along an axis of 5"):
        NONE.fill("site", 1, position=7)
    with pytest.raises(ValueError, match="layer= cannot be given"):
        NONE.fill("site", 1, layer=0)
    with pytest.raises(ValueError, match="tokens=\\(examples, positions\\)"):
        codebooks.overrides(SPEC, {"site": BOOK}).fill("site", 1, position=0)
    with pytest.raises(ValueError, match="sizes are at least 1"):
        codebooks.overrides(SPEC, {"site": BOOK}, bans=0)
    wrong = Override(ids=jnp.zeros((3, 5, 2, 3), jnp.int32))
    with pytest.raises(ValueError, match=r"ids has axes \[3, 5\] for tokens"):
        bottleneck(BOOK, X, SPEC["site"], override=wrong)
    with pytest.raises(ValueError, match="override: ids has shape"):
        bottleneck(BOOK, X, SPEC["site"], override=Override(ids=jnp.zeros((2, 4), jnp.int32)))
