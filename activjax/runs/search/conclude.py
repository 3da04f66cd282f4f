"""The answer of a search: its best trial, against a trivial baseline and the config's defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from activjax.runs.errors import ExperimentError
from activjax.runs.out import Out
from activjax.runs.result import SCALARS, Result, Row
from activjax.runs.search import journal as journals
from activjax.runs.search.plan import SearchPlan
from activjax.runs.search.study import Study
from activjax.runs.search.trials import Trial, distinct, failure, objective, words
from activjax.runs.sweep import index
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.table import compact


def conclude(
    plan: SearchPlan, folder: SweepFolder, found: Sequence[Trial], study: Study
) -> tuple[Result, list[str], list[dict[str, Any]]]:
    """What a search found.

    Args:
        plan: of the search.
        folder: its folder, with a record of every cell.
        found: its trials, all told.
        study: after the last of them.

    Returns:
        The result, warnings, and what was saved on the way, as in `contents.json`.

    Raises:
        ExperimentError: every trial failed.
    """
    lines = {line.id: line for line in index.rows(folder)}
    complete = [t for t in found if t.state == journals.COMPLETE and t.value is not None]
    failed = [t for t in found if t.state == journals.FAILED]
    pruned = [t for t in found if t.state == journals.PRUNED]
    if not complete:
        why = "; ".join(dict.fromkeys(failure(trial, lines) for trial in failed[:3]))
        raise ExperimentError(f"{plan.experiment.label}: no trial came to its end: {why}")
    best = _best(plan, complete)
    row, first = objective(plan, best, lines), objective(plan, found[0], lines)
    assert row is not None
    where = {k: v if isinstance(v, SCALARS) else compact(v) for k, v in best.point.items()}
    name = f"best {row.name}"
    rows = [dataclasses.replace(row, name=name, where=where)]
    if first is not None:
        rows.append(dataclasses.replace(
            row, name=f"{name} against the defaults", baseline=first.value,
            baseline_name="trial 0: the config's defaults", where=where,
        ))  # fmt: skip
    number = distinct(found)
    for what, count in (("trials", number), ("pruned", len(pruned)), ("failed", len(failed))):
        rows.append(Row(what, count, None, None, number, "", None, "a count"))
    base = "" if row.baseline is None else f" (baseline {row.baseline:.4g}, {row.baseline_name})"
    than = "" if first is None else f"; the config's defaults reach {first.value:.4g}"
    ends = "" if row.low is None else f" [{row.low:.4g}, {row.high:.4g}]"
    answer = (
        f"{row.name} {row.value:.4g}{ends}{base} with {words(best.point)}{than}. "
        f"Trial {best.number} is the best of {number} distinct ones, {len(pruned)} of them pruned "
        f"and {len(failed)} failed; it was chosen by this very number, so expect a little worse of "
        "other seeds."
    )
    most = "highest" if plan.settings.direction == "maximize" else "lowest"
    question = f"Which {', '.join(plan.space)} gives the {most} {row.name}?"
    warnings = [f"{len(failed)} of {len(found)} trials failed"] if failed else []
    out = Out(folder.path, None, np.asarray(plan.seeds, np.int64))
    _history(plan, out, found, lines)
    importance = study.importance()
    if importance:
        out.table("importance", [(k, round(v, 4)) for k, v in importance.items()],
                  ["key", "share of the objective's variance (fANOVA)"])  # fmt: skip
    return Result(question, answer, tuple(rows)), warnings, out.contents


def _best(plan: SearchPlan, complete: Sequence[Trial]) -> Trial:
    """The first of the best."""
    sign = 1.0 if plan.settings.direction == "maximize" else -1.0
    return max(complete, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))


def _history(
    plan: SearchPlan, out: Out, found: Sequence[Trial], lines: dict[str, index.Line]
) -> None:
    """A figure and a table of all trials."""
    import matplotlib.pyplot as plt

    complete = [t for t in found if t.value is not None]
    values = np.asarray([t.value for t in complete], np.float64)
    up = plan.settings.direction == "maximize"
    best = np.maximum.accumulate(values) if up else np.minimum.accumulate(values)
    numbers = [t.number for t in complete]
    fig, ax = plt.subplots(figsize=(6, 3.2))
    ax.plot(numbers, values, "o", ms=4, label="trials")
    ax.step(numbers, best, where="post", label="best so far")
    for state, mark in ((journals.PRUNED, "|"), (journals.FAILED, "x")):
        at = [t.number for t in found if t.state == state]
        if at:
            low = np.full(len(at), values.min())
            ax.plot(at, low, mark, color="0.5", label=state)
    ax.set_xlabel("trial")
    ax.set_ylabel(plan.settings.objective)
    ax.legend(frameon=False)
    out.figure("history", fig, caption="The objective of every trial, and the best so far.")
    rows = []
    for trial in found:
        row = objective(plan, trial, lines)
        ends = "" if row is None or row.low is None else f"[{row.low:.4g}, {row.high:.4g}]"
        told = "" if trial.value is None else f"{trial.value:.6g}"
        point = [compact(value) for value in trial.point.values()]
        rows.append((trial.number, trial.state or "", told, ends, *point))
    out.table("trials", rows, ["trial", "state", plan.settings.objective, "95 %", *plan.space])
