"""Evaluation with every control: none can be left out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.introspection._bank import ConceptBank, check_names
from activjax.introspection._inject import LAST, Units
from activjax.introspection._put import put
from activjax.introspection._report import Condition, Report
from activjax.introspection._respond import respond_all
from activjax.introspection._rows import Rows
from activjax.introspection._trials import Trials
from activjax.models import Decoder

_put = jax.jit(put, static_argnames="units")
_WHERE = {"layer", "source", "at", "back", "units", "chunk"}


def evaluate(
    model: Decoder,
    params: Any,
    bank: ConceptBank,
    trials: Trials,
    *,
    strengths: Sequence[float] = (1.0,),
    **options: Any,
) -> Report:
    """Ask a model about its thoughts: with concepts put in, and under every control.

    Conditions: the held-out concepts and the trained ones put in; nothing put in, with a question
    that names no concept ("clean") and with one that speaks of a concept ("mention"); random
    vectors of the same length ("noise"); a concept put in while the question speaks of another
    ("mismatch"); a concept put in while something else is asked ("wrong prompt"), and that question
    with nothing put in. Without the controls a model that claims a thought whenever a concept is
    mentioned looks perfect.

    Answers are greedy, so equal inputs give equal answers: every rate is printed with the number of
    different ones, and no input is asked twice.

    Args:
      model, params: the decoder.
      bank: the concepts.
      trials: which concepts are held out, and what the test questions are.
      strengths: all conditions with something put in are run at each.
      **options: where, and how: `layer`, `source`, `at`, `back`, `units`, `chunk`, as `ask`.

    Returns:
      The report; printing it gives the table.

    Raises:
      ValueError: no strengths; as `ask`.
      TypeError: another option, such as one of `ask` that would make a condition mean another.
    """
    if odd := set(options) - _WHERE:
        raise TypeError(f"evaluate: no option {min(odd)!r}; there are {', '.join(sorted(_WHERE))}")
    if not len(strengths):
        raise ValueError("strengths: expected at least one, got none")
    strengths = list(dict.fromkeys(float(s) for s in strengths))
    for strength in strengths:
        _check(bank, trials, strength, options)
    one = partial(ask, model, params, bank, trials, **options)
    found = [
        one("clean"),
        one("mention"),
        one("wrong prompt", nothing=True),
    ]
    for s in strengths:
        found += [
            one("injected", strength=s, forced=True, name="injected, held out"),
            one("injected", strength=s, forced=True, name="injected, trained",
                concepts=trials.train),
            one("mismatch", strength=s, forced=True),
            one("noise", strength=s),
            one("wrong prompt", strength=s),
        ]  # fmt: skip
    return Report(trials.talk, tuple(found))


def ask(
    model: Decoder,
    params: Any,
    bank: ConceptBank,
    trials: Trials,
    kind: str,
    *,
    strength: float = 1.0,
    layer: int | None = None,
    source: int | None = None,
    at: str = LAST,
    back: int = 0,
    units: Units = "resid_norm",
    concepts: Sequence[int] | None = None,
    nothing: bool = False,
    forced: bool = False,
    name: str | None = None,
    chunk: int = 256,
) -> Condition:
    """One condition of `evaluate`; for maps and curves, beside a whole report.

    Args:
      model, params, bank, trials: as `evaluate`.
      kind: one of `KINDS` but "replay".
      strength: of what is put in.
      layer: where; None for the first that the trials train on.
      source: the layer whose vectors are put there; None for the same.
      at, units: as `inject`.
      back: with "last_prompt", put in so many tokens before it.
      concepts: those put in; None for the held-out ones.
      nothing: ask the same, and put nothing in.
      forced: also ask with the claim written for the model.
      name: of the condition; None for its kind.
      chunk: answers at a time.

    Raises:
      ValueError: a strength that is not finite, other concepts in the bank than in the
        conversation, a layer that the bank has not, no such kind, concepts that there are not,
        `back` beyond the first token, no room for answers in the decoder's context; answers that
        are NaN.
    """
    talk = trials.talk
    _check(bank, trials, strength, {"layer": layer, "source": source, "at": at, "back": back})
    layer = int(trials.layers[0] if layer is None else layer)
    rows = trials.testing(kind, strength=strength, layer=layer, concepts=concepts)
    if back > rows.prompts.last.min():
        raise ValueError(f"back: a prompt has {rows.prompts.last.min() + 1} tokens, got {back}")
    if nothing:
        rows, name = rows.emptied(), name or f"{kind}, nothing put in"

    def answers(prefix: Any = None) -> np.ndarray:
        return respond_all(
            model, params, rows.prompts, _vectors(bank, trials, rows, units, source),
            site=bank.site, layer=None if bank.layers is None else rows.layer, steps=talk.steps,
            at=at, back=back, prefix=prefix, stop=talk.stop, pad=talk.pad, chunk=chunk,
        )  # fmt: skip

    given = answers()
    named = talk.read(answers(talk.claim())).named if forced else None
    right = None
    if kind == "wrong prompt" and (known := talk.answer_else(rows.mentions)) is not None:
        right = (given == known).all(axis=1)
    strength = 0.0 if nothing or kind in ("clean", "mention") else float(strength)
    return Condition(name or kind, strength, layer, rows, given, talk.read(given), named, right)


def _check(bank: ConceptBank, trials: Trials, strength: float, options: Any) -> None:
    if not np.isfinite(strength):
        raise ValueError(f"strengths: expected finite numbers, got {strength}")
    check_names(bank, trials.talk.names)
    back, at = options.get("back", 0), options.get("at", LAST)
    if back < 0 or (back and at != LAST):
        raise ValueError(f"back: expected at least 0, and at={LAST!r} with it; got {back}, {at!r}")
    for name in ("layer", "source"):
        number = options.get(name)
        number = trials.layers[0] if number is None and name == "layer" else number
        if bank.layers is not None and number is not None and number not in bank.layers:
            raise ValueError(f"{name}: {number} is not in the bank, which has {bank.layers}")


def _vectors(bank: ConceptBank, trials: Trials, rows: Rows, units: Units, source: Any) -> Any:
    def of(which: np.ndarray) -> Any:
        given = (rows.concept, rows.noise, rows.strength, rows.layer)
        concept, noise, strength, layer = (jnp.asarray(x[which]) for x in given)
        other = None if source is None else jnp.full(layer.shape, source, jnp.int32)
        return _put(
            bank, concept, noise, strength, layer, seed=jnp.uint32(trials.seed), units=units,
            source=other,
        )  # fmt: skip

    return of
