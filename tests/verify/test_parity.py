"""Bounds equal those of auto_LiRPA; `make_parity.py` made the reference and says what is left out.

Both compute in float64, so that our margin for rounding, about 1e-13 of the numbers, and theirs,
which they do not have, are far below the tolerance of 1e-9: a line chosen otherwise at one unit in
one box moves a bound by 1e-3 and more.
"""

import jax
import numpy as np
import pytest
from jax import lax

from activjax import verify
from tests.verify.make_parity import FILE, RADII, SHAPES, weights

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def reference():
    with np.load(FILE) as file:
        return dict(file)


def network(name, w):
    """The function of `make_parity.module`."""

    def f(x):
        if name == "convolutional":
            x = jax.nn.relu(lax.conv(x[None], w[0], (1, 1), "SAME") + w[1][:, None, None])
            ones = np.zeros((), x.dtype), lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"
            x = lax.reduce_window(x, *ones) / 4
            x = jax.nn.relu(lax.conv(x, w[2], (1, 1), "VALID") + w[3][:, None, None]).reshape(-1)
            return w[4] @ x + w[5]
        if name == "residual":
            for a, b, c, d in (w[:4], w[4:8]):
                x = x + c @ jax.nn.relu(a @ x + b) + d
            return w[8] @ x + w[9]
        for a, b in zip(w[:-2:2], w[1:-2:2], strict=True):
            x = a @ x + b
            x = jax.nn.leaky_relu(x, 0.25) if name == "leaky" else jax.nn.relu(x)
        return w[-2] @ x + w[-1]

    return f


CASES = [(n, m) for n in SHAPES for m in ("ibp", "crown") if (n, m) != ("leaky", "crown")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_equals_auto_lirpa(reference, name, method):
    made = weights(name)
    for i, w in enumerate(made):
        # another generator would compare another network
        np.testing.assert_array_equal(w, reference[f"{name}/{i}"])
    with jax.enable_x64(True):
        f = network(name, [w.astype(float) for w in made])
        box = [reference[f"{name}/{side}"].astype(float) for side in ("low", "high")]
        found = jax.jit(jax.vmap(lambda low, high: verify.bound(f, (low, high), method)))(*box)
        ours, units = np.stack([found.lower, found.upper]), np.stack(found.units)
    theirs = reference[f"{name}/{method.upper()}"]
    assert ours.dtype == np.float64
    assert ours.shape == theirs.shape == (2, len(RADII), ours.shape[-1])
    compare(ours, theirs)
    if method == "crown":
        compare(units, reference[f"{name}/units"])
    # ours may be wider by the margin, not narrower by more than what theirs rounds
    assert (ours[0] <= theirs[0] + 1e-12 * np.abs(theirs).max()).all()
    assert (ours[1] >= theirs[1] - 1e-12 * np.abs(theirs).max()).all()


def compare(ours, theirs):
    """Relative to the largest number of each box."""
    size = np.abs(theirs).max((0, 2), keepdims=True)
    np.testing.assert_allclose(ours / size, theirs / size, rtol=0, atol=TOLERANCE)
