"""What single codes stand for, beside single neurons, TopK units and codes that mean nothing.

Every search chooses on one half of the excerpts and is measured on the other (`find`'s halves).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from codebook_text_data import CONCEPTS, Held
from codebook_text_models import CODES, SAMPLED, TOPK, Network, Said

from activjax import stats
from activjax.codebooks import (
    Found,
    Hit,
    Index,
    IndexWriter,
    Layout,
    find,
    labels,
    open_index,
    reported_half,
)

NEURON, SHUFFLED = "best neuron", "codes, labels shuffled"
#: Searches, in the order of tables and figures.
SEARCHES = (CODES, TOPK, NEURON, SAMPLED, SHUFFLED)
Interval = tuple[float, float, float]
#: Shares of tokens above a neuron's threshold that are tried.
SHARES = np.geomspace(0.001, 0.5, 24)


def indexed(net: Network, held: Held, told: Said, path: Path, **meta: Any) -> Index:
    """An index of all excerpts, an example each."""
    layers, vocabulary = net.model.config.layers, held.vocabulary(net.model.config.vocab)
    layout = {s: Layout((layers,), one.groups, one.codes, one.k) for s, one in net.spec.items()}
    with IndexWriter(path, layout, vocabulary=vocabulary, meta=meta, overwrite=True) as writer:
        writer.add(held.tokens, told.traces)
    return open_index(path)


@dataclasses.dataclass(frozen=True)
class Best:
    """The best unit of one kind for one concept.

    Attributes:
        name: which unit.
        precision, recall, f1: on the half that did not choose it: value and the ends of the 95 %
            interval over excerpts; 0 where the unit is never on.
        lift: precision as a multiple of the base rate.
        chosen: F1 on the half that did.
    """

    name: str
    precision: Interval
    recall: Interval
    f1: Interval
    lift: float
    chosen: float


def measured(name: str, on: np.ndarray, marked: np.ndarray, chosen: float) -> Best:
    """How a unit that is on for some tokens goes with the tokens of a concept.

    Args:
        name: of the unit.
        on, marked: `[documents, size]`.
        chosen: F1 where it was chosen.
    """
    both, unit, label = (x.sum(1).astype(float) for x in (on & marked, on, marked))

    def share(hits: np.ndarray, of: np.ndarray) -> Interval:
        there = of > 0
        if not there.any():
            return 0.0, 0.0, 0.0
        return stats.ratio_interval(hits[there], of[there], draws=1000)

    precision = share(both, unit)
    lift = precision[0] * marked.size / label.sum()
    return Best(name, precision, share(both, label), share(2 * both, unit + label), lift, chosen)


@dataclasses.dataclass(frozen=True)
class Searched:
    """Everything found for one concept: the best of each search, and the codes' whole result."""

    base_rate: float
    best: dict[str, Best]
    found: Found


def search(
    held: Held, indexes: Mapping[str, Index], told: Said, draws: int
) -> tuple[dict[str, Searched], np.ndarray, dict[str, np.ndarray]]:
    """Search every concept that both halves have.

    Returns:
      By concept what was found; which excerpts are reported on; the labels, `[documents, size]`.
    """
    results: dict[str, Searched] = {}
    marks: dict[str, np.ndarray] = {}
    second = np.zeros(0, bool)
    for name in CONCEPTS:
        query = held.query(name)
        try:
            found = find(indexes[CODES], query, control=indexes[SAMPLED], draws=draws, top=1)
        except ValueError as error:
            if "labelled" not in str(error):
                raise
            continue  # so few excerpts that a half lacks the concept
        if not len(second):
            second = reported_half(len(held.tokens))
        marks[name] = labels(indexes[CODES], query).reshape(held.tokens.shape)
        topk = find(indexes[TOPK], query, draws=1, top=1)
        control = found.control[0] if found.control else None
        hits = {CODES: found.best, TOPK: topk.best, SAMPLED: control}
        best = {
            kind: measured(*chosen(indexes[kind], hit, second), marks[name][second], of_first(hit))
            for kind, hit in hits.items()
        }
        best[SHUFFLED] = dealt(max(found.shuffled, key=of_first, default=None))
        results[name] = Searched(found.base_rate, best, found)
    if not results:
        raise ValueError("documents: no concept is in both halves of the excerpts; take more")
    for name, best in neurons(told.acts["blocks/mlp/post"], second, marks).items():
        results[name].best[NEURON] = best
    return results, second, marks


def of_first(hit: Hit | None) -> float:
    """F1 on the half that chose."""
    return 0.0 if hit is None else float(hit.chosen.f1)


def chosen(index: Index, hit: Hit | None, second: np.ndarray) -> tuple[str, np.ndarray]:
    """A code's name, and the tokens of the second half that chose it."""
    on = np.zeros(len(index.tokens), bool)
    if hit is not None:
        code = hit.code
        on[index.codebook(code.site, code.loop, code.group).tokens_with(code.code)] = True
    return "none" if hit is None else str(hit.code), on.reshape(len(second), -1)[second]


def dealt(hit: Hit | None) -> Best:
    """The best code for labels dealt at random: then tokens are independent, as Wilson has it."""
    if hit is None:
        return Best("none", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.0)
    s = hit.reported

    def part(value: float, interval: tuple[float, float]) -> Interval:
        found = np.nan_to_num([value, *interval]).tolist()
        return found[0], found[1], found[2]

    return Best(
        str(hit.code), part(s.precision, s.precision_interval),
        part(s.recall, s.recall_interval), part(s.f1, s.f1_interval),
        float(np.nan_to_num(s.lift)), of_first(hit),
    )  # fmt: skip


def neurons(
    acts: np.ndarray, second: np.ndarray, marks: Mapping[str, np.ndarray]
) -> dict[str, Best]:
    """For each concept the neuron and threshold, above or below, of the best F1 on the first half.

    Args:
        acts: `[documents, size, layers, units]`.
        second: `[documents]`, the half that is reported on.
        marks: by concept, `[documents, size]`.
    """
    layers, units = acts.shape[2:]
    first = acts[~second].reshape(-1, layers * units)
    wanted = np.stack([m[~second].reshape(-1) for m in marks.values()]).astype(np.float32)
    some = np.sort(first[:: max(1, len(first) // 20_000)].astype(np.float32), axis=0)
    rank = (SHARES * (len(some) - 1)).astype(int)
    limits = np.stack([some[::-1][rank], some[rank]])  # [above or below, shares, units]
    labelled = wanted.sum(1)[:, None]
    scores = np.zeros((2, len(SHARES), len(wanted), layers * units))
    for side, share in np.ndindex(scores.shape[:2]):
        on = _beyond(first, limits[side, share], side).astype(np.float32)
        scores[side, share] = 2 * (wanted @ on) / np.maximum(on.sum(0) + labelled, 1)
    found = {}
    for c, (name, marked) in enumerate(marks.items()):
        side, share, unit = np.unravel_index(scores[:, :, c].argmax(), scores[:, :, c].shape)
        layer, number = divmod(int(unit), units)
        limit = limits[side, share, unit]
        on = _beyond(acts[second][:, :, layer, number], limit, int(side))
        where = f"blocks/mlp/post[{layer}] #{number} {'<' if side else '>'} {limit:.3g}"
        found[name] = measured(where, on, marked[second], float(scores[side, share, c, unit]))
    return found


def _beyond(values: np.ndarray, limit: Any, side: int) -> np.ndarray:
    return values < limit if side else values > limit


def usage(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """Share of codes that no held-out token chose, and perplexity, of every codebook."""
    dead, perplexity = [], []
    for book in index.codebooks():
        share = book.counts / max(book.counts.sum(), 1)
        share = share[share > 0]
        dead.append(float(book.dead.mean()))
        perplexity.append(float(np.exp(-(share * np.log(share)).sum())))
    return np.array(dead), np.array(perplexity)
