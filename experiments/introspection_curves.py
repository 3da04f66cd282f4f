"""How identification depends on position, layer, number of training concepts and rank, for
`introspection_lab.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from introspection_world import Network, model_of, trials_of, tuned

from activjax import introspection

NOISE = "random vector detected"
#: What is varied, and how it is called in the results.
CURVES = {
    "back": "tokens before the question's last",
    "concepts": "concepts trained on",
    "rank": "rank",
}
MEASURED = ("detected", "identified")  # of the held-out concepts


@dataclasses.dataclass(frozen=True)
class Curve:
    """Rates at some settings."""

    x: tuple[int, ...]
    rates: tuple[dict[str, introspection.Rate], ...]


def curves_of(config: Any, net: Network, main: introspection.Tuned) -> dict[str, Curve]:
    """All curves of one network; empty where none is asked for."""
    model, trials = model_of(config), trials_of(config, net)

    def look(after: introspection.Tuned, **where: Any) -> dict[str, introspection.Rate]:
        def asked(kind: str) -> introspection.Condition:
            return introspection.ask(model, after.params, net.bank, trials, kind, **where)

        held = asked("injected")
        found = {m: held.rate(m) for m in MEASURED}
        return found | {NOISE: asked("noise").rate("detected")}

    def curve(values: Sequence[int], own: int, run: Any) -> Curve:
        every = sorted({*values, own})
        return Curve(tuple(every), tuple(here if v == own else run(v) for v in every))

    if not (config.back or config.training_concepts or config.ranks):
        return {}
    here = look(main)

    def fewer(number: int) -> dict[str, introspection.Rate]:
        return look(tuned(config, net, trials_of(config, net, concepts=number)))

    number = len(net.split.train)
    return {
        "back": curve(config.back, 0, lambda back: look(main, back=back)),
        "concepts": curve([n for n in config.training_concepts if n < number], number, fewer),
        "rank": curve(
            config.ranks, config.rank, lambda rank: look(tuned(config, net, trials, rank=rank))
        ),
    }


def layer_maps(config: Any, net: Network, main: introspection.Tuned) -> dict[str, np.ndarray]:
    """Share of held-out concepts identified, `[layers, layers]`.

    trained: by the layer trained at, then the layer put in at (with that layer's vectors); vector:
    trained at the configured layer, by the layer that the vector was read in, then where it is put.
    """
    model, layers = model_of(config), range(config.layers)
    shape = (config.layers, config.layers)
    trained, vector = np.zeros(shape), np.zeros(shape)

    def identified(after: introspection.Tuned, **where: Any) -> float:
        trials = trials_of(config, net)
        found = introspection.ask(model, after.params, net.bank, trials, "injected", **where)
        return found.rate("identified").value

    for i in layers:
        after = main
        if i != config.layer:
            after = tuned(config, net, trials_of(config, net, layer=i))
        for j in layers:
            trained[i, j] = identified(after, layer=j)
            vector[i, j] = identified(main, layer=j, source=i)
    return {"trained": trained, "vector": vector}
