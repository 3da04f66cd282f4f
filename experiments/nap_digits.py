"""Activation patterns as specifications: what they recall, tell apart and let verify, on digits.

Geng et al. ("Towards Reliable Neural Specifications", ICML 2023) take as the specification of a
class not balls around examples but a neural activation pattern (NAP): the units that nearly all
examples of the class have active, or inactive. They report that patterns are common to most unseen
examples, that patterns of two classes exclude one another, and that with them much larger regions
are verified than without, up to the whole input space. Here the same is asked of small networks on
digits, where every question has an exact answer or a proof.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import classifier
import jax
import jax.numpy as jnp
import nap_digits_figures as look
import nap_digits_proofs as proofs
import numpy as np

import activjax as aj
from activjax import data, models, runs, verify
from activjax.runs import figures

QUESTION = (
    "Do most unseen digits follow the activation pattern of their class and few that of another, "
    "and does a pattern let a larger region be verified than a ball without it?"
)
NETWORKS = ("mlp", "cnn")
CODES = ("trained", "untrained", "shuffled")
HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Config:
    """What may be set in the YAML file."""

    networks: tuple[str, ...] = runs.static(NETWORKS, help="mlp, cnn or both")
    widths: tuple[int, ...] = runs.static((32, 32, 32), help="hidden widths of the mlp")
    channels: int = runs.static(4, ge=1, help="of the cnn's convolution")
    hidden: int = runs.static(32, ge=1, help="units of the cnn's dense layer")
    steps: int = runs.static(1500, ge=1, help="of training")
    batch: int = runs.static(128, ge=1, help="examples of a step")
    rate: float = runs.static(3e-3, gt=0, help="of Adam")
    deltas: tuple[str, ...] = runs.static(
        ("0.9", "0.95", "0.99", "0.995", "1.0"), help="share of a class that must agree, decimals"
    )
    proved: tuple[str, ...] = runs.static(
        ("0.9", "0.99"), help="deltas whose patterns are used in proofs"
    )
    digits: int = runs.static(6, ge=1, help="held-out digits of each network in proofs")
    ball: float = runs.static(0.05, gt=0, help="radius of the fixed balls, pixels in [0, 1]")
    largest: float = runs.static(0.25, gt=0, le=1, help="largest radius that is tried")
    trials: int = runs.static(6, ge=1, help="radii tried for each digit")
    boxes: int = runs.static(1000, ge=1, help="parts that each proof may look at")

    def __post_init__(self) -> None:
        if not self.networks or set(self.networks) - set(NETWORKS):
            raise ValueError(f"networks: expected some of {NETWORKS}, got {self.networks}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths: expected positive integers, got {self.widths}")
        for name in ("deltas", "proved"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected distinct decimals, got {values}")
            for value in values:
                try:
                    fits = Decimal("0.5") < Decimal(value) <= 1
                except InvalidOperation:
                    fits = False
                if not fits:
                    raise ValueError(
                        f"{name}: expected decimals above 0.5, at most 1, such as '0.99', "
                        f"got {value!r}"
                    )


def network(config: Config, name: str) -> models.Model:
    """The mlp, or a convolution with average pooling and a dense layer."""
    if name == "mlp":
        return models.mlp([64, *config.widths, 10])
    sizes = config.channels, config.hidden
    return models.Model(partial(_cnn_init, sizes), _cnn_apply)


def _cnn_init(sizes: tuple[int, int], key: jax.Array) -> dict[str, Any]:
    channels, hidden = sizes
    shapes = {
        "conv": (3, 3, 1, channels),
        "dense": (16 * channels, hidden),
        "head": (hidden, 10),
    }
    out = {}
    for (name, shape), part in zip(shapes.items(), jax.random.split(key, 3), strict=True):
        he = (2 / np.prod(shape[:-1])) ** 0.5
        kernel = float(he) * jax.random.normal(part, shape)
        out[name] = {"kernel": kernel, "bias": jnp.zeros(shape[-1])}
    return out


def _cnn_apply(params: Any, inputs: Any, **_: Any) -> Any:
    n = inputs.shape[0]
    kernel, bias = params["conv"]["kernel"], params["conv"]["bias"]
    layout = ("NHWC", "HWIO", "NHWC")
    x = inputs.reshape(n, 8, 8, 1)
    x = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=layout, precision=HIGHEST
    )
    x = aj.tag(x + bias, "layers/0/pre", axes="batch height width channel")
    x = jax.nn.relu(x).reshape(n, 4, 2, 4, 2, -1).mean((2, 4)).reshape(n, -1)
    x = jnp.matmul(x, params["dense"]["kernel"], precision=HIGHEST) + params["dense"]["bias"]
    x = jax.nn.relu(aj.tag(x, "layers/1/pre", axes="batch unit"))
    x = jnp.matmul(x, params["head"]["kernel"], precision=HIGHEST) + params["head"]["bias"]
    return aj.tag(x, "logits", axes="batch class")


def train(config: Config, model: models.Model, key: jax.Array, x: Any, y: Any) -> Any:
    """Parameters before and after training."""
    return classifier.trained(
        model, x, y, key, rate=config.rate, batch=config.batch, steps=config.steps
    )


def curves(
    config: Config, model: models.Model, start: Any, params: Any, split: data.Split, seed: int
) -> tuple[dict[str, verify.NapCurve], verify.Nap, np.ndarray]:
    """Curves by kind of code, the patterns, and which held-out digits are classified rightly."""
    seen = np.asarray(model.apply(params, split.train_x)).argmax(-1)
    right = np.asarray(model.apply(params, split.test_x)).argmax(-1) == split.test_y
    found, mined = {}, {}
    for kind in CODES:
        held = start if kind == "untrained" else params
        labels = seen
        if kind == "shuffled":
            labels = np.random.default_rng([seed, 5]).permutation(seen)
        codes = verify.codes(model.apply, held, jnp.asarray(split.train_x))
        mined[kind] = verify.mine_nap(codes, labels, config.deltas[0])
        unseen = verify.codes(model.apply, held, jnp.asarray(split.test_x))
        found[kind] = verify.nap_curve(mined[kind], unseen, split.test_y, config.deltas)
    return found, mined["trained"], right


def main(config: Config, out: Any) -> runs.Result:
    """Train every network, mine its patterns, and prove what can be proved with them."""
    measured = {name: measure(config, name, out) for name in config.networks}
    rows = [row for name in config.networks for row in rows_of(config, name, measured[name])]
    for name, values in measured.items():
        out.arrays({f"{name}.{key}": value for key, value in values.items()})
    proofs.tables(config, measured, out)
    with figures.style():
        out.figure("recall", look.recall(config, measured), caption=look.RECALL)
        out.figure("radius", look.radius(config, measured), caption=look.RADIUS)
        out.figure("balls", look.balls(config, measured), caption=look.BALLS)
        out.figure("pairs", look.pairs(config, measured), caption=look.PAIRS)
    return runs.Result(QUESTION, answer(config, rows), tuple(rows))


def measure(config: Config, name: str, out: Any) -> dict[str, np.ndarray]:
    """All numbers of one kind of network, with a leading axis of seeds."""
    model = network(config, name)
    seeds = out.seeds.tolist()
    splits = [data.digits(seed=s) for s in seeds]
    x, y = (np.stack([getattr(s, f"train_{a}") for s in splits]) for a in "xy")
    keys = jnp.stack([jax.random.key(s) for s in seeds])
    untrained, trained = jax.jit(jax.vmap(partial(train, config, model)))(keys, x, y)
    each = []
    for i, (seed, split) in enumerate(zip(seeds, splits, strict=True)):
        start, params = (jax.tree.map(lambda a, i=i: a[i], p) for p in (untrained, trained))
        found, nap, right = curves(config, model, start, params, split, seed)
        one = {"accuracy": right.mean()}
        for kind, curve in found.items():
            one[f"recall.{kind}"] = curve.coverage
            one[f"hits.{kind}"] = curve.ambiguity
            one[f"fixed.{kind}"] = curve.fixed.mean(1) / sum(n for _, n in nap.units)
        setting = proofs.Setting(config, model.apply, params, nap, split, right, seed)
        each.append({**one, **setting.measure()})
        out.log(f"{name}, network {i + 1} of {len(seeds)} done")
    return {key: np.stack([np.asarray(one[key]) for one in each]) for key in each[0]}


def rows_of(config: Config, name: str, found: dict[str, np.ndarray]) -> list[runs.Row]:
    """The summary of one kind of network."""
    rows = [
        runs.Row.over("test accuracy", found["accuracy"], baseline=0.1, baseline_name="chance",
                      network=name)
    ]  # fmt: skip
    for i, delta in enumerate(config.deltas):
        where = {"network": name, "delta": delta}
        for key, text in (("recall", "recall"), ("hits", "other-class hits")):
            rows.append(
                runs.Row.over(text, found[f"{key}.trained"][:, i],
                              baseline=found[f"{key}.untrained"][:, i],
                              baseline_name="untrained network", **where)
            )  # fmt: skip
        over = {k: found[f"recall.{k}"][:, i] - found[f"hits.{k}"][:, i] for k in CODES}
        rows.append(
            runs.Row.over("recall minus other-class hits", over["trained"],
                          baseline=over["shuffled"], baseline_name="shuffled labels", **where)
        )  # fmt: skip
    return rows + proofs.rows_of(config, name, found)


def answer(config: Config, rows: list[runs.Row]) -> str:
    """One paragraph from the rows."""
    table = {(r.name, r.where["network"], r.where.get("delta")): r for r in rows}
    parts = []
    for name in config.networks:

        def said(what: str, delta: str | None = None, name: str = name) -> float:
            return table[what, name, delta].value

        curve = ", ".join(
            f"{delta}: {said('recall', delta):.3f} and {said('other-class hits', delta):.3f}"
            for delta in config.deltas
        )
        parts.append(
            f"{name} (accuracy {said('test accuracy'):.3f}): recall and other-class hits at delta "
            f"{curve}."
        )
        for delta in config.proved:
            gain = table["gain of radius", name, delta]
            spread = "" if gain.low is None else f" [{gain.low:+.4f}, {gain.high:+.4f}]"
            parts.append(
                f"At delta {delta}, {said('pairs of classes that exclude one another', delta):.2f} "
                f"of the pairs of classes exclude one another and "
                f"{said('pairs of classes with a common input', delta):.2f} have an input in "
                f"common; the pattern verifies "
                f"{said('classes verified in the whole box', delta):.2f} of the classes in the "
                f"whole box; the verified radius is "
                f"{said('verified radius', delta):.4f} with the pattern and "
                f"{table['verified radius', name, delta].baseline:.4f} without, a gain of "
                f"{gain.value:+.4f}{spread}; of balls of radius {config.ball} "
                f"{said('balls verified', delta):.2f} are verified (without the pattern "
                f"{table['balls verified', name, delta].baseline:.2f}) and "
                f"{said('empty balls', delta):.2f} hold no input with the pattern."
            )
    return " ".join(parts)


def sites(config: Config) -> Any:
    """The first kind of network, for `activjax sites`."""
    model = network(config, config.networks[0])
    params = jax.eval_shape(model.init, jax.random.key(0))
    return model.apply, (params, jax.ShapeDtypeStruct((450, 64), jnp.float32))
