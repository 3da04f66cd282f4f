"""Optuna, held in memory and rebuilt by doing again what the journal says."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from activjax.runs.search.journal import COMPLETE, PRUNED
from activjax.runs.search.plan import SearchPlan
from activjax.runs.search.space import point_of


class Study:
    """Suggests the points of trials and prunes.

    Args:
        plan: of the search.
    """

    def __init__(self, plan: SearchPlan):
        import optuna  # pyright: ignore

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._plan, self._trials = plan, {}
        self._distributions = {key: dim.distribution() for key, dim in plan.space.items()}
        settings = plan.settings
        with warnings.catch_warnings():  # what Optuna calls experimental
            warnings.simplefilter("ignore")
            self._study = optuna.create_study(
                direction=settings.direction, sampler=_sampler(settings), pruner=_pruner(settings)
            )

    def ask(self, number: int, point: dict[str, Any] | None = None) -> dict[str, Any]:
        """The point of the next trial.

        Args:
            number: of the trial; trial 0 runs at the config's defaults.
            point: what it has to be, where that is known.
        """
        plan = self._plan
        if number == 0:
            point = plan.defaults
            if not plan.default_in_space:
                return point  # the sampler has no use for it
        if point is not None:
            params = {key: dim.encode(point[key]) for key, dim in plan.space.items()}
            self._study.enqueue_trial(params)
        trial = self._trials[number] = self._study.ask(self._distributions)
        return plan.defaults if number == 0 else point_of(plan.space, trial.params)

    def report(self, number: int, rung: int, value: float) -> None:
        """Tell what a trial's metric is at the rung with this index."""
        prune = self._plan.settings.prune
        assert prune is not None
        if number in self._trials:
            # Optuna's pruners go by the direction of the objective
            sign = 1.0 if prune.direction == self._plan.settings.direction else -1.0
            # halving counts its rungs in powers of its factor
            step = 2**rung if prune.rule == "halving" else prune.at[rung]
            self._trials[number].report(sign * value, step)

    def prunes(self, number: int, value: float) -> bool:
        """Whether a trial is to end after its last report."""
        return not math.isfinite(value) or (
            number in self._trials and self._trials[number].should_prune()
        )

    def tell(self, number: int, state: str, value: float | None) -> None:
        """Tell how a trial ended."""
        from optuna.trial import TrialState  # pyright: ignore

        if number in self._trials:
            states = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}
            values = value if state == COMPLETE else None
            self._study.tell(self._trials[number], values, states.get(state, TrialState.FAIL))

    def importance(self) -> dict[str, float]:
        """How much of the objective's variance each key accounts for; empty where unknown."""
        from optuna.importance import get_param_importances  # pyright: ignore

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from optuna.importance import FanovaImportanceEvaluator  # pyright: ignore

                evaluator = FanovaImportanceEvaluator(seed=0)
                return get_param_importances(self._study, evaluator=evaluator)
        except (ValueError, RuntimeError, ImportError):  # too few trials, or all are equal
            return {}


def rebuilt(plan: SearchPlan, events: Sequence[dict[str, Any]], say: Any) -> Study:
    """The study after some events.

    Doing all again gives the sampler the state that it had, so what it suggests next is the same.
    Where it suggests something else than it did, as another version of Optuna may, the journal is
    right and the search goes on from its points.
    """
    for forced in (False, True):
        study = Study(plan)
        for event in events:
            if "asked" in event:
                wanted = event["point"]
                if study.ask(event["asked"], wanted if forced else None) != wanted:
                    break
            elif "reported" in event:
                study.report(event["reported"], event["rung"], float(event["value"]))
            elif "decided" in event:
                study.prunes(event["decided"], float(event["value"]))
            else:
                study.tell(event["told"], event["state"], event["value"])
        else:
            return study
        if not forced:
            say("the sampler suggests other points than it did (another version of Optuna?): "
                "the search goes on from those of trials.jsonl")  # fmt: skip
    raise AssertionError("a point that was given was not taken")


def _sampler(settings: Any) -> Any:
    from optuna import samplers  # pyright: ignore

    if settings.sampler == "random":
        return samplers.RandomSampler(seed=settings.seed)
    if settings.sampler == "cmaes":
        return samplers.CmaEsSampler(seed=settings.seed)
    return samplers.TPESampler(seed=settings.seed, constant_liar=True)


def _pruner(settings: Any) -> Any:
    from optuna import pruners  # pyright: ignore

    if settings.prune is None:
        return pruners.NopPruner()
    if settings.prune.rule == "median":
        return pruners.MedianPruner(n_startup_trials=settings.prune.startup)
    return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
