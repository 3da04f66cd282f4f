"""What is measured of a network that reports thoughts, for `introspection_mechanisms.py`: a
direction removed at all layers, doses, MLP units and their patching."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from introspection_world import Network, language, model_of

from activjax import introspection

LEVELS = (0.0, 0.5, 1.0)


class Hits(NamedTuple):
    """Outcomes of trials, those of one cluster (a concept of a network) not independent."""

    hits: np.ndarray
    clusters: np.ndarray
    distinct: int

    @property
    def rate(self) -> introspection.Rate:
        """The share, with its interval over clusters."""
        return introspection.rate(self.hits, self.clusters, self.distinct)


def pooled(parts: Sequence[Hits]) -> Hits:
    """Outcomes of several networks; concepts of different ones are different clusters."""
    clusters = [np.unique(p.clusters, return_inverse=True)[1].ravel() for p in parts]
    shift = np.cumsum([0, *[c.max(initial=-1) + 1 for c in clusters[:-1]]])
    return Hits(
        np.concatenate([p.hits for p in parts]),
        np.concatenate([c + s for c, s in zip(clusters, shift, strict=True)]),
        sum(p.distinct for p in parts),
    )


def repeated(parts: Sequence[Hits]) -> Hits:
    """Outcomes of the same trials under several treatments: their clusters stay the same ones."""
    hits, clusters = (np.concatenate([getattr(p, f) for p in parts]) for f in ("hits", "clusters"))
    return Hits(hits, clusters, parts[0].distinct)


def of_condition(condition: introspection.Condition, measure: str) -> Hits:
    """Outcomes of a condition of a report: "detected", "identified", "right answer"."""
    return Hits(condition.hits(measure), condition.clusters, condition.rows.distinct)


# --- a direction removed at all layers ---


class Ablated(NamedTuple):
    """What a network says with one direction removed, by condition.

    Attributes:
      uniform: with one weight at all layers, `[weights]`.
      chosen: with the weights that were best in training trials.
      weights: these weights, `[layers]`.
    """

    uniform: dict[str, np.ndarray]
    chosen: dict[str, Hits]
    weights: np.ndarray


def conditions(trials: introspection.Trials, weak: float) -> dict[str, introspection.Rows]:
    """Test trials: concepts put in at two strengths, and the controls."""
    return {
        "held out, weak": trials.testing("injected", strength=weak),
        "held out": trials.testing("injected", strength=1.0),
        "clean": trials.testing("clean"),
        "mention": trials.testing("mention"),
        "noise": trials.testing("noise", strength=1.0),
    }


def question_direction(config: Any, net: Network, params: Any, trials: Any, n: int) -> Any:
    """Mean stream after the question about thoughts, less that after another question.

    Of the same texts as to kind, all of which speak of a concept: the one question has been
    answered "NO", the other by the concept's name. The laboratory's counterpart of refusal, which
    is found by prompts that are refused and such that are not.
    """
    asked, other = (trials.training(n, mix={kind: 1.0}).rows.prompts
                    for kind in ("mention", "wrong prompt"))  # fmt: skip
    return introspection.contrast(model_of(config).apply, params, asked, other, net.bank.site)


def ablations(
    config: Any, net: Network, params: Any, trials: introspection.Trials, direction: Any
) -> Ablated:
    """Remove a direction at all layers, the weights swept and then chosen on training trials."""
    tests = conditions(trials, config.weak)
    given = _inputs(net, trials, list(tests.values()))
    places = np.cumsum([len(rows) for rows in tests.values()])[:-1]
    says = functools.partial(
        _says, model_of(config), net.bank.site, config.layer, language().yes, params, direction
    )
    steady = np.repeat(np.array(config.weights, np.float32)[:, None], config.layers, axis=1)
    shares = [x.mean(axis=1) for x in np.split(np.asarray(says(given, steady)), places, axis=1)]

    mix = {"injected": 0.4, "clean": 0.2, "mention": 0.2, "noise": 0.2}
    recipe = dataclasses.replace(trials, strengths=(config.weak,), mix=mix)
    rows = recipe.training(config.tuning).rows
    grid = _grid(config.layers)
    yes = np.asarray(says(_inputs(net, trials, [rows]), grid))
    thought = rows.concept >= 0
    better = yes[:, thought].mean(axis=1) - yes[:, ~thought].mean(axis=1)
    best = grid[int(np.argmax(better))]
    # as many settings as before, so that the program is the same
    hits_of = np.split(np.asarray(says(given, np.tile(best, (len(steady), 1))))[0], places)
    chosen = {}
    for (name, rows), hits in zip(tests.items(), hits_of, strict=True):
        clusters = rows.concept if (rows.concept >= 0).any() else (
            rows.mentions if name == "mention" else np.arange(len(rows)))  # fmt: skip
        chosen[name] = Hits(hits, clusters, rows.distinct)
    return Ablated(dict(zip(tests, shares, strict=True)), chosen, best)


def _grid(layers: int, most: int = 81) -> np.ndarray:
    """Weights to choose among, `[n, layers]`, the least first: of equals the first is taken."""
    every = np.array(list(itertools.islice(itertools.product(LEVELS, repeat=layers), 3**8)))
    if len(every) > most:
        kept = np.random.default_rng(0).choice(len(every) - 1, most - 1, replace=False) + 1
        every = every[np.append(0, kept)]
    return every[np.argsort(every.sum(axis=1), kind="stable")].astype(np.float32)


def _inputs(
    net: Network, trials: introspection.Trials, parts: Sequence[introspection.Rows]
) -> dict[str, Any]:
    """Trials of several kinds as one batch."""
    concept, noise, strength, layer = (
        np.concatenate([getattr(rows, name) for rows in parts])
        for name in ("concept", "noise", "strength", "layer")
    )
    vectors = introspection.put(
        net.bank, concept, noise, strength, layer, seed=np.uint32(trials.seed), units="resid_norm"
    )
    width = language().length
    tokens = [np.pad(rows.prompts.tokens, [(0, 0), (0, width - rows.prompts.tokens.shape[1])])
              for rows in parts]  # fmt: skip
    last = np.concatenate([rows.prompts.last for rows in parts])
    prompts = introspection.Prompts(np.concatenate(tokens), last)
    given = {"tokens": prompts.tokens, "mask": prompts.mask, "last": last}
    return {"vectors": vectors, **{k: jnp.asarray(v) for k, v in given.items()}}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _says(
    model: Any, site: str, layer: int, word: int, params: Any, direction: Any, x: Any, weights: Any
) -> Any:
    """Whether the next token is the word, `[settings, n]`; the thought is not removed itself."""

    def one(weight: Any) -> Any:
        ablated = introspection.ablate(model.apply, direction, weight, site=site)
        f = introspection.inject_vectors(ablated, site, x["vectors"], layer=layer)
        logits = f(params, x["tokens"], mask=x["mask"])
        return jnp.argmax(logits[jnp.arange(len(x["last"])), x["last"]], axis=-1) == word

    return jax.lax.map(one, jnp.asarray(weights))


# --- doses ---


class Doses(NamedTuple):
    """Claims against denials in nats, by dose: `[layers, concepts, doses]`, mean over prompts."""

    concepts: np.ndarray
    noise: np.ndarray


def doses(config: Any, net: Network, params: Any, trials: introspection.Trials) -> Doses:
    """Sweep the strength of held-out concepts, and of as many random vectors."""
    drawn = np.random.default_rng(net.seed).standard_normal(net.bank.vectors.shape)
    noise = dataclasses.replace(net.bank, vectors=jnp.asarray(drawn, jnp.float32))
    found = [
        introspection.sweep(
            model_of(config), params, bank, questions(trials), concepts=trials.held_out,
            strengths=config.doses, layers=(config.layer, config.layers - 1), read=_metric(config),
        )
        for bank in (net.bank, noise)
    ]  # fmt: skip
    return Doses(*(np.asarray(x).mean(axis=-1) for x in found))


def rising(config: Any, curves: np.ndarray) -> np.ndarray:
    """Which curves never fall up to strength 1: `[concepts]`."""
    return np.array([introspection.monotone(config.doses, y) == 1 for y in curves])


@functools.cache
def _metric(config: Any) -> Any:
    w = language()
    return introspection.claims(model_of(config), [w.yes], [w.no])


def questions(trials: introspection.Trials) -> introspection.Prompts:
    """The different test questions that name no concept."""
    rows = trials.testing("injected").prompts
    return introspection.Prompts(rows.tokens[: trials.prompts], rows.last[: trials.prompts])


# --- units ---


class Units(NamedTuple):
    """Effects of patching MLP units, by what is patched: `"gates silenced"` and so on.

    Attributes:
      effect, chance: by name, of the chosen units and of random ones, `[concepts]`.
      whole: what there is to change from the one run to the other, `[concepts]`.
      rank: by name, share of random draws with as large a mean effect.
      seen: the sweep of all units.
      chosen: which, by kind.
    """

    effect: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    whole: dict[str, np.ndarray]
    rank: dict[str, float]
    seen: introspection.Features
    chosen: dict[str, np.ndarray]


#: Which run is patched and which one the values are of: strengths.
RUNS = {"taken from the clean run": (1.0, 0.0), "put into the clean run": (0.0, 1.0)}


def units(config: Any, net: Network, params: Any, trials: introspection.Trials) -> Units:
    """Choose units by trained concepts and training questions; patch with held-out ones."""
    model, w = model_of(config), language()
    ids: Mapping[str, Any] = {"layer": config.layer, "claim": [w.yes], "denial": [w.no]}
    asked = trials.training(trials.prompts, mix={"clean": 1.0}).rows.prompts
    seen = introspection.features(
        model, params, net.bank, asked, strengths=(0.25, 0.5, 0.75, 1.0),
        concepts=trials.train, **ids,
    )  # fmt: skip
    above = [(n, u) for n in range(config.layers) for u in range(model.config.hidden)]
    chosen = {
        "gates": seen.gates(config.units),
        "evidence": seen.evidence(config.units),
        "all units": np.array(above, np.int32),
    }
    effect, chance, whole, rank = {}, {}, {}, {}
    for kind, which in chosen.items():
        for how, (strength, taken) in RUNS.items():
            if not len(which):
                continue
            found = introspection.patch_units(
                model, params, net.bank, questions(trials), which, strength=strength, taken=taken,
                concepts=trials.held_out, draws=1 if kind == "all units" else config.draws,
                seed=net.seed, **ids,
            )  # fmt: skip
            name = f"{kind}, {how}"
            effect[name], chance[name] = found.effect, found.by_chance.mean(axis=0)
            whole[name], rank[name] = found.whole, found.rank
    return Units(effect, chance, whole, rank, seen, chosen)
