"""Ghost gradients equal exact ones, and cover what they claim to cover."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from activjax import membership
from activjax.membership._ascent import Climber
from activjax.membership._examples import Examples
from tests.membership import networks
from tests.membership.networks import CASES, UNCOVERED, Net

GHOST = membership.DriftSpec(0.7, method="ghost", layer_rule=False)
LOOP = membership.DriftSpec(0.7, method="loop")


def ascended(net: Net, spec: membership.DriftSpec, dtype: Any = None, **options: Any) -> Any:
    """`ascend` of a case, in a dtype."""
    params, x = net.params, net.x
    if dtype is not None:
        params = jax.tree.map(lambda a: jnp.asarray(a, dtype), params)
        x = jnp.asarray(x, dtype) if np.issubdtype(np.asarray(x).dtype, np.floating) else x
    return membership.ascend(net.apply, params, x, net.y, spec, mask=net.mask, **options)


def gap(a: Any, b: Any) -> float:
    """The largest difference, of what each array holds at most, sizes of steps included."""

    def of(u: Any, v: Any) -> float:
        if u.dtype == bool:
            return float(jnp.any(u != v))
        return float(jnp.max(jnp.abs(u - v)) / jnp.maximum(jnp.max(jnp.abs(u)), 1e-30))

    return max(jax.tree.leaves(jax.tree.map(of, a, b)))


def layers_of(net: Net, spec: membership.DriftSpec = GHOST) -> Any:
    """What is done with each parameter."""
    examples = Examples.of(net.x, net.y, net.mask)
    spec = dataclasses.replace(spec, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        climber = Climber(net.apply, net.params, spec, membership.cross_entropy, examples, None)
    return climber


def ghosts_of(net: Net) -> set[str]:
    """The leaves that get ghost gradients."""
    climber = layers_of(net)
    return set(climber.moving) - set(climber.layers.materialised)


@pytest.mark.parametrize("net", CASES, ids=lambda net: net.name)
def test_ghosts_are_exact(net):
    """To the rounding of float64; the unit step asks for the gradient's norm too."""
    assert set(net.ghosts) <= ghosts_of(net)
    with jax.enable_x64(True):
        exact = ascended(net, LOOP, jnp.float64)
        assert gap(exact, ascended(net, GHOST, jnp.float64, chunk=2)) < 1e-10
        assert gap(exact.before, exact.after) > 1e-3  # the step is seen at all


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["unit", "raw"])
@pytest.mark.parametrize("net", CASES, ids=lambda net: net.name)
def test_ghosts_are_exact_in_single_precision(net, norm):
    loop, ghost = (dataclasses.replace(spec, norm=norm) for spec in (LOOP, GHOST))
    assert gap(ascended(net, loop, jnp.float32), ascended(net, ghost, jnp.float32)) < 1e-5


@pytest.mark.parametrize("net", UNCOVERED, ids=lambda net: net.name)
def test_what_is_not_covered_moves_all_the_same(net):
    assert set(net.ghosts) <= ghosts_of(net)
    assert "v" not in ghosts_of(net)
    with jax.enable_x64(True):
        with pytest.warns(UserWarning, match="v: "):
            found = ascended(net, GHOST, jnp.float64)
        assert gap(ascended(net, LOOP, jnp.float64), found) < 1e-10
    with pytest.raises(ValueError, match="strict, and ghost gradients do not cover v: "):
        ascended(net, dataclasses.replace(GHOST, strict=True), jnp.float32)


WHOLE = networks.whole_models()
FAST = ("linen", "cnn")


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(net, id=net.name, marks=() if net.name in FAST else (pytest.mark.slow,))
        for net in WHOLE
    ],
)
def test_whole_models(net):
    """Without edits: modules of Flax, decoders, adapters; to float32's rounding.

    The tolerance is relative to what each array holds: a few layers of sums of tens of terms.
    """
    assert gap(ascended(net, LOOP), ascended(net, GHOST)) < 1e-5


@pytest.mark.parametrize("net", WHOLE, ids=lambda net: net.name)
def test_layers_are_found(net):
    """Every kernel and table is a ghost; adapters' second factors meet no data, but are small."""
    climber = layers_of(net)
    ghosts = set(climber.moving) - set(climber.layers.materialised)
    vectors = {"bias", "scale", "b"}
    matrices = {n for n in climber.moving if n.rsplit("/", 1)[-1] not in vectors}
    assert ghosts == matrices
    assert not climber.layers.reasons
