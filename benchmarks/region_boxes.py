"""Cells per second of networks in boxes, against size and dimension.

    python benchmarks/region_boxes.py

He-normal networks with biases of standard deviation 0.1 on [-1, 1]^d. Up to 8 dimensions cells are
kept by their vertices, no linear program is solved, and signs that are within their rounding error
are found in integers ("exact": how many a cell, with all others settled in float64). With
`--programs` the same networks also go through the search that is used in more dimensions: a linear
program for each hinge that may cut a cell. Printed are linear programs per cell and the share of
hinges settled without one. The time is from the network to patterns, points and radii.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

from activjax.program.networks import Affine, Layer, Network
from activjax.regions import _boxes
from activjax.regions._box_programs import ProgramSearch

SIZES = [
    (1, 32, 32),
    (2, 16, 16),
    (2, 32, 32, 32),
    (2, 64, 64, 64),
    (3, 16, 16),
    (3, 32, 32, 32),
    (4, 16, 16),
    (6, 16, 16),
    (8, 16, 16),
    (12, 16, 16),
]


def network(sizes: tuple[int, ...], bias: float = 0.1, seed: int = 0) -> Network:
    """A ReLU network with one output."""
    rng = np.random.default_rng(seed)
    affine = [
        Affine({i: rng.normal(size=(a, b)) * np.sqrt(2 / a)}, bias * rng.normal(size=b))
        for i, (a, b) in enumerate(itertools.pairwise((*sizes, 1)))
    ]
    return Network(sizes[0], tuple(Layer(a) for a in affine[:-1]), affine[-1])


def by_programs(f: Network, box: np.ndarray, budget: int) -> str:
    """The other search on the same network."""
    search = ProgramSearch(f, box)
    start = time.perf_counter()
    cells = sum(1 for _ in itertools.islice(search.cells(), budget))
    seconds = time.perf_counter() - start
    without = 1 - search.programs / search.decisions
    return (f"programs: {cells / seconds:6,.0f} cells/s, {search.programs / cells:.2f} a cell, "
            f"{without:.1%} of hinges without one")  # fmt: skip


def main(budget: int, few: int, programs: bool) -> None:
    """The table."""
    for sizes in SIZES:
        for bias in (0.1, 0.0):
            f, d = network(sizes, bias), sizes[0]
            if d > _boxes.VERTICES_UP_TO and not bias:
                continue  # all hinges meet in a point: in doubt for linear programs
            box = np.array([[-1.0, 1.0]] * d)
            line = f"{'x'.join(map(str, sizes)):12s} bias {bias}: "
            if d <= _boxes.VERTICES_UP_TO:
                start = time.perf_counter()
                found = _boxes.enumerate(f, box, budget=budget)
                seconds = time.perf_counter() - start
                assert found._geometry is not None
                exact = found._geometry.search.exact / len(found)
                line += (f"{len(found):7,} cells{' ' if found.complete else '+'} "
                         f"{len(found) / seconds:6,.0f} cells/s, exact {exact:5.2f}; ")  # fmt: skip
            if bias and (programs or d > _boxes.VERTICES_UP_TO):
                line += by_programs(f, box, few)
            print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", type=int, default=20_000, help="most cells to find")
    parser.add_argument("--few", type=int, default=300, help="most cells by linear programs")
    parser.add_argument("--programs", action="store_true", help="both searches in all dimensions")
    args = parser.parse_args()
    main(args.budget, args.few, args.programs)
