"""What auto_LiRPA finds for small networks, for `test_parity.py`.

`python tests/verify/make_parity.py` writes `data/parity.npz`. It needs torch and auto_LiRPA 0.7.1
(https://github.com/Verified-Intelligence/auto_LiRPA), and nothing of this project but the weights
below. Weights and boxes are float32 numbers, so that the file is small; all else is float64.

The leaky rectifier is compared by IBP alone: its lower line is chosen by another rule there (slope
1 where the chord is steeper than 1/2, ours by the smaller area). Not compared is `abs`: there, IBP
is exact and CROWN takes 0 as the lower slope where the sign is open; ours is made of a rectifier.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "data" / "parity.npz"
#: Half widths of the boxes; "mixed" has a side of each, and one without width.
RADII = (0.01, 0.1, 0.5, 2.0, "mixed")
#: Shape of one example.
SHAPES = {
    "mlp": (4,), "deep": (5,), "residual": (6,), "convolutional": (1, 6, 6), "leaky": (4,),
}  # fmt: skip


def weights(name: str) -> list[np.ndarray]:
    """Matrices `[out, in]`, kernels `[out, in, height, width]` and biases, in order of use."""
    rng = np.random.default_rng(sorted(SHAPES).index(name))

    def some(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) / 2)).astype("f4")

    def dense(*sizes: int) -> list[np.ndarray]:
        pairs = itertools.pairwise(sizes)
        return [w for a, b in pairs for w in (some(b, a), (0.2 * rng.normal(size=b)).astype("f4"))]

    if name == "convolutional":
        kernels = [some(3, 1, 3, 3), 0.1 * some(3, 2), some(4, 3, 2, 2), 0.1 * some(4, 2)]
        kernels[1], kernels[3] = kernels[1][:, 0], kernels[3][:, 0]
        return [*kernels, *dense(16, 3)]
    if name == "residual":
        return [*dense(6, 10, 6), *dense(6, 10, 6), *dense(6, 3)]
    return dense(*{"mlp": (4, 12, 12, 3), "deep": (5, *[16] * 6, 5)}.get(name, (4, 10, 10, 3)))


def boxes(name: str) -> tuple[np.ndarray, np.ndarray]:
    """`[boxes, *shape]` lower and upper sides."""
    rng = np.random.default_rng(7)
    low, high = [], []
    for radius in RADII:
        at = rng.uniform(-1, 1, SHAPES[name])
        wide = rng.choice([0.0, 0.02, 0.3], SHAPES[name]) if radius == "mixed" else radius
        low.append(at - wide)
        high.append(at + wide)
    return np.asarray(low, "f4"), np.asarray(high, "f4")


def module(name: str) -> Any:
    """The network in torch."""
    import torch
    from torch.nn import functional as F

    def own(array: np.ndarray) -> Any:
        return torch.nn.Parameter(torch.tensor(array, dtype=torch.float64))

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.ParameterList(map(own, weights(name)))

        def forward(self, x: Any) -> Any:
            w = list(self.w)
            if name == "convolutional":
                x = F.avg_pool2d(torch.relu(F.conv2d(x, w[0], w[1], padding=1)), 2)
                x = torch.relu(F.conv2d(x, w[2], w[3])).flatten(1)
                return F.linear(x, w[4], w[5])
            if name == "residual":
                for a, b, c, d in (w[:4], w[4:8]):
                    x = x + F.linear(torch.relu(F.linear(x, a, b)), c, d)
                return F.linear(x, w[8], w[9])
            for i in range(0, len(w) - 2, 2):
                x = F.linear(x, w[i], w[i + 1])
                x = F.leaky_relu(x, 0.25) if name == "leaky" else torch.relu(x)
            return F.linear(x, w[-2], w[-1])

    return Net()


def found(name: str) -> dict[str, np.ndarray]:
    """Bounds `[2, boxes, outputs]` by each method, and of operands `[2, boxes, units]` by CROWN."""
    import torch
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
    from auto_LiRPA.operators import BoundRelu

    low, high = (torch.tensor(side, dtype=torch.float64) for side in boxes(name))
    out = {}
    for method in ("IBP",) if name == "leaky" else ("IBP", "CROWN"):
        # Stable units would keep their intervals otherwise; the outputs are the same.
        options = {"sparse_intermediate_bounds": False}
        net = BoundedModule(module(name), low, bound_opts=options, verbose=0)
        x = BoundedTensor(low, PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high))
        ends = net.compute_bounds(x=(x,), method=method)
        out[f"{name}/{method}"] = np.stack([end.detach().numpy() for end in ends])
        if method == "CROWN":
            before = [n.inputs[0] for n in net.nodes() if isinstance(n, BoundRelu)]
            sides = [[z.lower for z in before], [z.upper for z in before]]
            flat = [np.concatenate([s.detach().flatten(1).numpy() for s in side], 1)
                    for side in sides]  # fmt: skip
            out[f"{name}/units"] = np.stack(flat)
    return out


def main() -> None:
    """Writes the file."""
    arrays: dict[str, np.ndarray] = {}
    for name in SHAPES:
        arrays |= {f"{name}/{i}": w for i, w in enumerate(weights(name))}
        arrays[f"{name}/low"], arrays[f"{name}/high"] = boxes(name)
        arrays |= found(name)
    np.savez_compressed(FILE, **arrays)  # pyright: ignore


if __name__ == "__main__":
    main()
