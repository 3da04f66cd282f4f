"""Networks in normal form, built by hand: what the engines are tested on."""

import itertools

import numpy as np

from activjax.program.networks import Affine, Layer, Network


def dense(weights, biases, skip=False):
    """A ReLU network; weights `[in, out]`. With `skip` the output also reads the input."""
    layers = tuple(
        Layer(Affine({i: np.asarray(w, float)}, np.asarray(b, float)), name=f"layers/{i}")
        for i, (w, b) in enumerate(zip(weights[:-1], biases[:-1], strict=True))
    )
    last = {len(layers): np.asarray(weights[-1], float)}
    if skip:
        last[0] = np.ones((len(weights[0]), np.shape(weights[-1])[1]))
    return Network(len(weights[0]), layers, Affine(last, np.asarray(biases[-1], float)))


def random(sizes, seed=0, bias=0.1, skip=False):
    """He-normal weights, Gaussian biases."""
    rng = np.random.default_rng(seed)
    shapes = list(itertools.pairwise(sizes))
    weights = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in shapes]
    return dense(weights, [bias * rng.normal(size=n) for _, n in shapes], skip)


def pooled(seed=0, size=2, units=12, pool=4):
    """ReLU units, maxima over groups of them, a second layer, an output that reads all of them."""
    rng = np.random.default_rng(seed)
    first = Layer(Affine({0: rng.normal(size=(size, units))}, 0.3 * rng.normal(size=units)))
    groups = np.arange(units).reshape(-1, pool)
    best = Layer(Affine({1: np.eye(units)}, np.zeros(units)), groups)
    n = len(groups)
    second = Layer(Affine({2: rng.normal(size=(n, 5)), 0: rng.normal(size=(size, 5))},
                          0.3 * rng.normal(size=5)))  # fmt: skip
    out = Affine({3: rng.normal(size=(5, 2)), 1: rng.normal(size=(units, 2))}, np.zeros(2))
    return Network(size, (first, best, second), out)


def tent(depth):
    """The sawtooth on [0, 1]: 2 ** depth pieces."""
    up, down = np.array([[2.0, 2.0]]), np.array([[1.0], [-2.0]])
    weights = [up, *([down @ up] * (depth - 1)), down]
    biases = [np.array([0.0, -1.0])] * depth + [np.zeros(1)]
    return dense(weights, biases)


def fixture():
    """`max(-y, min(0, -x))` (Stargalla, Hertrich, Reichman): 7, 5, 4, 3, 3, 3 regions."""
    # relu(relu(x) - relu(y) + relu(-y)) - relu(x)
    first = Layer(Affine({0: np.array([[1.0, 0, 0], [0, 1, -1]])}, np.zeros(3)))
    second = Layer(Affine({1: np.array([[1.0], [-1], [1]])}, np.zeros(1)))
    out = Affine({2: np.ones((1, 1)), 1: np.array([[-1.0], [0], [0]])}, np.zeros(1))
    return Network(2, (first, second), out)
