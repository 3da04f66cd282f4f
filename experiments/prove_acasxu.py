"""Proofs of ONNX networks against VNN-LIB properties, checked again exactly.

Verdicts, sizes and times of branch and bound on instances of a local folder, such as ACAS Xu of the
VNN-COMP 2021 benchmarks (Bak, Liu and Johnson, "The Second International Verification of Neural
Networks Competition", 2021). Every proof that is small enough is checked by exact arithmetic that
shares no code with the search. The baseline is what bounds of the whole box decide without a split.
"""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import activjax as aj
from activjax import runs, verify
from activjax.runs import figures

QUESTION = (
    "Which instances does branch and bound decide, with trees of which size, and does an exact "
    "checker accept every proof?"
)
WORDS = {"verified": "unsat", "violated": "sat", "unknown": "unknown", "empty_region": "unknown"}
SOURCE = (
    "the files are not part of activjax: copy the .onnx and .vnnlib files of the folders "
    "benchmarks/acasxu and benchmarks/mnistfc of the GitHub repository stanleybak/vnncomp2021 into "
    "one folder, unpacked, and name it: folder=..."
)
SHORT = re.compile(r"(\d+_\d+):(\d+)$")
COLUMNS = (
    "instance", "expected", "verdict", "root bound", "boxes", "leaves", "search s", "compile s",
    "checked", "check s", "ms a leaf",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    folder: str = runs.static("vnncomp2021", help="local folder with .onnx and .vnnlib files")
    instances: tuple[str, ...] = runs.static(
        ("1_1:1 unsat",), help="'1_1:3' or 'net.onnx:prop.vnnlib', then, if known, sat or unsat"
    )
    budget: float = runs.static(60.0, gt=0, help="seconds of each search")
    check: bool = runs.static(True, help="whether proofs are checked exactly")
    check_leaves: int = runs.static(10_000, ge=1, help="larger proofs are not checked")

    def __post_init__(self) -> None:
        if not self.instances or len(set(self.instances)) < len(self.instances):
            raise ValueError(f"instances: expected distinct texts, got {self.instances}")
        for text in self.instances:
            Instance.read(text)


@dataclasses.dataclass(frozen=True)
class Instance:
    """One line of the config.

    Attributes:
      name: of network and property.
      network, statement: file names.
      expected: "sat", "unsat" or empty.
    """

    name: str
    network: str
    statement: str
    expected: str

    @classmethod
    def read(cls, text: str) -> Instance:
        """From `1_1:3 unsat`.

        Raises:
          ValueError: it is not of this form.
        """
        name, *rest = text.split()
        expected = " ".join(rest)
        network, _, prop = name.partition(":")
        if short := SHORT.match(name):
            network, prop = f"ACASXU_run2a_{short[1]}_batch_2000.onnx", f"prop_{short[2]}.vnnlib"
        named = network.endswith(".onnx") and prop.endswith(".vnnlib")
        if not named or expected not in ("", "sat", "unsat"):
            raise ValueError(
                f"instances: {text!r}; expected '1_1:3' or 'net.onnx:prop.vnnlib', then nothing, "
                "'sat' or 'unsat'"
            )
        return cls(name, network, prop, expected)

    @property
    def short(self) -> str:
        """The name, for figures."""
        return self.name.replace(".onnx", "").replace(".vnnlib", "")

    def files(self, folder: Path) -> tuple[Path, Path]:
        """Network and property."""
        return folder / self.network, folder / self.statement


def data_files(config: Config) -> list[Path]:
    """Networks and properties: their contents enter the run's id.

    Raises:
      ConfigError: some are absent; the message says where they come from.
    """
    folder = Path(config.folder)
    if not folder.is_dir():
        raise runs.ConfigError(f"folder: there is no folder {folder}; {SOURCE}")
    wanted = [f for text in config.instances for f in Instance.read(text).files(folder)]
    if missing := sorted({f.name for f in wanted if not f.is_file()}):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise runs.ConfigError(f"folder: {folder} has no {', '.join(missing[:3])}{more}; {SOURCE}")
    return sorted(set(wanted))


@dataclasses.dataclass(frozen=True)
class Found:
    """What came of one instance."""

    instance: Instance
    verdict: verify.Verdict
    root: bool
    compiling: float
    checked: verify.Checked | None

    @property
    def right(self) -> bool:
        """Whether the verdict is the expected one."""
        return WORDS[self.verdict.status] == self.instance.expected

    def row(self) -> list[Any]:
        """Of the table."""
        v, c = self.verdict, self.checked
        proof = v.tree is not None
        said = "not checked" if proof else "no proof"
        if c is not None:
            said = ("exact" if c.exact else "in floating point") if c.ok else f"no: {c.reason}"
        return [
            self.instance.name, self.instance.expected or "unknown", WORDS[v.status],
            "unsat" if self.root else "unknown", v.statistics.boxes,
            v.tree.size if v.tree is not None else None,
            round(v.statistics.seconds, 2), round(self.compiling, 2), said,
            None if c is None else round(c.seconds, 2),
            None if c is None else round(1000 * c.seconds / max(1, c.leaves), 2),
        ]  # fmt: skip


def solve(config: Config, instance: Instance) -> Found:
    """Search and check of one instance."""
    problem = verify.Problem.from_vnnlib(*instance.files(Path(config.folder)))
    root = at_root(problem)
    # Compiles what the search needs, so that its own time is that of the search alone.
    first = verify.prove(problem, budget=verify.Budget(seconds=config.budget, boxes=1))
    verdict = verify.prove(problem, budget=verify.Budget(seconds=config.budget))
    warm = min(first.statistics.seconds, verdict.statistics.seconds)
    checked = None
    tree = verdict.tree
    if config.check and tree is not None and tree.size <= config.check_leaves:
        checked = verify.check(tree, problem)
    return Found(instance, verdict, root, first.statistics.seconds - warm, checked)


def at_root(problem: verify.Problem) -> bool:
    """Whether CROWN bounds of the whole boxes refute every clause."""
    for case in problem.cases:
        rows = [row for clause in case.clauses for row in clause.weights]
        sides = [
            np.nextafter(np.array([float(v) for v in side], np.float32), np.float32(away))
            for side, away in ((case.lower, -np.inf), (case.upper, np.inf))
        ]
        sides = [side.reshape(problem.input_shape) for side in sides]
        weights = np.array([[float(v) for v in row] for row in rows], np.float32)
        if any(Fraction(float(w)) != v for a, b in zip(weights, rows) for w, v in zip(a, b)):
            return False  # the rows are no float32 numbers: these bounds would be of others
        low = np.asarray(_lower(problem.apply, problem.params, *sides, weights))
        bounds = [b for clause in case.clauses for b in clause.bounds]
        above = [Fraction(float(v)) > b for v, b in zip(low, bounds)]
        at = 0
        for clause in case.clauses:
            end = at + len(clause.bounds)
            if not any(above[at:end]):
                return False
            at = end
    return True


@partial(jax.jit, static_argnums=0)
def _lower(apply: Any, params: Any, low: Any, high: Any, rows: Any) -> Any:
    found = verify.bound(
        lambda x: apply(params, x).reshape(-1), (low, high), "crown", rows, select=None
    )
    return found.lower


def main(config: Config, out: Any) -> runs.Result:
    """Search and check every instance."""
    found = []
    for text in config.instances:
        found.append(solve(config, Instance.read(text)))
        out.log(" ".join(str(v) for v in found[-1].row()))
    out.table("instances", [f.row() for f in found], COLUMNS, CAPTION)
    stats = [f.verdict.statistics for f in found]
    out.arrays({
        "boxes": np.array([s.boxes for s in stats]),
        "leaves": np.array([f.verdict.tree.size if f.verdict.tree else 0 for f in found]),
        "seconds": np.array([s.seconds for s in stats]),
        "check_seconds": np.array([f.checked.seconds if f.checked else np.nan for f in found]),
    })  # fmt: skip
    with figures.style():
        out.figure("sizes", figure(found), caption=SIZES)
    rows = rows_of(config, found)
    return runs.Result(QUESTION, answer(config, found, rows), tuple(rows.values()))


def rows_of(config: Config, found: list[Found]) -> dict[str, runs.Row]:
    """Counts; times differ between runs and are in the table only."""
    known = [f for f in found if f.instance.expected]
    proofs = [f for f in found if f.verdict.tree is not None]
    checked = [f for f in proofs if f.checked is not None]

    def row(name: str, part: list[Found], hits: int, base: int, what: str) -> runs.Row:
        return runs.Row(name, hits, None, None, len(part), "instances", base, what)

    root, plain = sum(f.root for f in found), "bounds of the whole box alone"
    rows = [
        row("decided", found, sum(WORDS[f.verdict.status] != "unknown" for f in found), root,
            plain),
        row("as expected", known, sum(f.right for f in known),
            sum(f.root and f.instance.expected == "unsat" for f in known), plain),
        row("decided against what was expected", known,
            sum(not f.right and WORDS[f.verdict.status] != "unknown" for f in known), 0, "none"),
        row("proofs accepted, exactly", checked,
            sum(f.checked.ok and f.checked.exact for f in checked if f.checked), len(checked),
            "all proofs checked"),
        row("proofs not checked", proofs, len(proofs) - len(checked), 0,
            f"none; over {config.check_leaves} leaves" if config.check else "none; check: false"),
    ]  # fmt: skip
    return {r.name: r for r in rows}


def answer(config: Config, found: list[Found], rows: dict[str, runs.Row]) -> str:
    """One paragraph."""
    decided, right = rows["decided"], rows["as expected"]
    checked, left = rows["proofs accepted, exactly"], rows["proofs not checked"]
    sizes = [f.verdict.tree.size for f in found if f.verdict.tree is not None]
    open_ = [f.instance.name for f in found if WORDS[f.verdict.status] == "unknown"]
    between = f" Trees have {min(sizes)} to {max(sizes)} leaves." if sizes else ""
    undecided = f" Open within {config.budget:g} s each: {', '.join(open_)}." if open_ else ""
    return (
        f"{decided.value} of {decided.n} instances are decided, {decided.baseline} by bounds of "
        f"the whole box alone; {right.value} of the {right.n} with a known answer have it. The "
        f"exact checker accepts {checked.value} of the {checked.n} proofs that it was given; "
        f"{left.value} were not given to it.{between}{undecided}"
    )


CAPTION = (
    "Seconds of wall clock on the machine of this run. A search was compiled before it was timed; "
    "networks of one shape share a program. Exact: every leaf was refuted in integers."
)
SIZES = (
    "Boxes that the search bounded (bars) and leaves of the proof (ticks), by instance. A box is 1 "
    "where the attack alone found a counterexample."
)
COLOURS = {"unsat": 2, "sat": 1, "unknown": 6}


def figure(found: list[Found]) -> Any:
    """Boxes and leaves of every instance."""
    height = 1.4 + 0.25 * len(found)
    fig, ax = plt.subplots(figsize=(7.2, height))
    at = np.arange(len(found))[::-1]
    for word, colour in COLOURS.items():
        part = [i for i, f in enumerate(found) if WORDS[f.verdict.status] == word]
        if part:
            boxes = [max(1, found[i].verdict.statistics.boxes) for i in part]
            ax.barh(at[part], boxes, color=figures.COLOURS[colour], label=word, left=0, alpha=0.8)
    proofs = [i for i, f in enumerate(found) if f.verdict.tree is not None]
    if proofs:
        leaves = [max(1, getattr(found[i].verdict.tree, "size", 1)) for i in proofs]
        ax.plot(leaves, at[proofs], "|", color="black", markersize=11, markeredgewidth=2,
                label="leaves of the proof")  # fmt: skip
    ax.set(xscale="log", xlabel="boxes, leaves", yticks=at, xlim=(0.5, None),
           yticklabels=[f.instance.short for f in found])  # fmt: skip
    ax.set_ylabel("network : property")
    ax.margins(y=0.02)
    ax.grid(visible=False, axis="y")
    figures.legend_below(fig, ax, ncols=4)
    return fig


def sites(config: Config) -> Any:
    """The first network, for `activjax sites`."""
    first = Instance.read(config.instances[0])
    problem = verify.Problem.from_vnnlib(*first.files(Path(config.folder)))

    def tagged(params: Any, x: Any) -> Any:
        return aj.tag(problem.apply(params, aj.tag(x, "input")), "output")

    return tagged, (problem.params, jax.ShapeDtypeStruct(problem.input_shape, jnp.float32))
