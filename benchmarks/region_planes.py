"""Cells of a plane per second, against edge subdivision, and what a grid misses.

    git clone https://github.com/arturs-berzins/relu_edge_subdivision PEER
    pip install -e ".[bench]" && python benchmarks/region_planes.py --peer PEER

He-normal ReLU networks of two inputs on [-1, 1]^2, biases of standard deviation 0.1. The peer
(Berzins, "Polyhedral Complex Extraction from ReLU Networks using Edge Subdivision", ICML 2023) runs
unchanged but in float64, on the CPU; it cuts along the output as well, so ours is given the output
as a hinge too. It returns vertices, edges and sign vectors; ours in addition the cells, their
adjacency. Printed, for cutting alone, with the polygons of the result, and for cutting with a proof
of every sign: cells per second (median), the median and quartiles of the per-round ratio of the
peer's seconds to ours; and the share of cells in which no point of a 1001 x 1001 grid lies.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
from typing import Any

import numpy as np
from _timing import measure

from activjax.program.networks import Affine, Layer, Network
from activjax.regions import _on_plane, _planes

BOX = np.array([[-1.0, 1.0], [-1.0, 1.0]])
WIDTHS = [(32, 32), (64, 64), (32, 32, 32, 32), (100, 100), (104, 104), (108, 108), (140, 140)]


def weights(sizes: list[int], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """`[in, out]` matrices and biases, float64."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(sizes))
    matrices = [rng.normal(size=pair) * np.sqrt(2 / pair[0]) for pair in pairs]
    return matrices, [0.1 * rng.normal(size=n) for _, n in pairs]


def hinged(matrices: list[np.ndarray], biases: list[np.ndarray]) -> Network:
    """The network with its output as one more layer of units."""
    layers = [
        Layer(Affine({i: w}, b)) for i, (w, b) in enumerate(zip(matrices, biases, strict=True))
    ]
    return Network(len(matrices[0]), tuple(layers), Affine({len(layers): np.eye(1)}, np.zeros(1)))


def peer(path: str, sizes: list[int], matrices: list, biases: list) -> Any:
    """The published implementation on the same network: a call that returns its result."""
    import torch

    sys.path.insert(0, path)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # it rounds its vertices to float32
    from edge_subdivision import skeletal_subdivision
    from NN import Net

    net = Net(ks=sizes)
    for layer, w, b in zip(net.fcs, matrices, biases, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)

    def call() -> Any:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            cpu = torch.device("cpu")
            return skeletal_subdivision(net, bbox=(-1, 1), device=cpu, verbose=False)

    return call


def missed(network: Network, states: np.ndarray) -> float:
    """The share of cells that have no point of the grid."""
    axis = np.linspace(-1, 1, 1001)
    key = np.random.default_rng(0).integers(1, 2**62, states.shape[1])
    seen = [network.pattern(np.stack([np.full_like(axis, y), axis], 1)) @ key for y in axis]
    return 1 - len(np.unique(np.concatenate(seen))) / len(states)


def row(sizes: list[int], path: str | None, rounds: int) -> str:
    """A line of the table."""
    matrices, biases = weights(sizes, 0)
    net = hinged(matrices, biases)
    calls: dict[str, Any] = {
        "cut": lambda: _planes.subdivide(net, BOX),
        "result": lambda: _on_plane.on_network(net, np.zeros(2), np.eye(2), BOX, "proper"),
        "proof": lambda: _planes.subdivide(net, BOX, proven=True),
    }
    found = calls["result"]()
    if path:
        calls["peer"] = peer(path, sizes, matrices, biases)
        vertices, edges, _ = calls["peer"]()
        cells = 1 + len(edges) - len(vertices)
        if cells != found.cells:
            raise RuntimeError(f"{sizes}: the peer finds {cells} cells, ours {found.cells}")
    times = measure(calls, rounds)
    out = f"{sizes!s:24s}{found.cells:8d}"
    for k in ("cut", "result", "proof"):
        out += f"{found.cells / np.median(times[k]):10,.0f}"
        if path:
            low, mid, high = np.percentile(times["peer"] / times[k], [25, 50, 75])
            out += f" {mid:5.2f} [{low:5.2f}, {high:5.2f}]"
    return out + f"   {missed(net, found.states):6.1%}   {found.certificate}"


def main() -> None:
    """Every size in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", help="folder of the peer's code; without it ours alone is timed")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print("cells/s and peer's time / ours: the cut, with the result's rings, with the proof")
    for widths in WIDTHS:
        print(row([2, *widths, 1], args.peer, args.rounds), flush=True)


if __name__ == "__main__":
    main()
