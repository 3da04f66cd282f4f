"""A tiny experiment under the traced contract: linear regression by noisy SGD, two widths."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from helper import line_plot

from activjax import runs, tag

TRACES: list[str] = []


@dataclasses.dataclass(frozen=True)
class Config:
    widths: tuple[int, ...] = (2, 3)
    lr: float = runs.traced(0.05, gt=0, le=1, help="step size")
    steps: int = runs.static(60, ge=0, le=100_000)
    chunk: int = 7
    sleep: float = 0.0
    diverge: bool = False
    fail_in: str = ""


class Static(NamedTuple):
    x: jax.Array
    y: jax.Array
    steps: int
    chunk: int
    measure_at: tuple[int, ...]
    config: Config


class State(NamedTuple):
    w: jax.Array
    velocity: jax.Array
    key: jax.Array


def cases(config: Config) -> dict[str, Config]:
    return {f"w{width}": dataclasses.replace(config, widths=(width,)) for width in config.widths}


def setup(config: Config) -> Static:
    fail(config, "setup")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, config.widths[0])).astype(np.float32)
    y = x.sum(1) + 0.1 * rng.normal(size=40).astype(np.float32)
    at = tuple(s for s in (0, 10, config.steps) if s <= config.steps)
    return Static(jnp.asarray(x), jnp.asarray(y), config.steps, config.chunk, at, config)


def init(static: Static, hp: Any, key: jax.Array) -> State:
    d = static.x.shape[1]
    w = jax.random.normal(key, (d,))
    return State(w, jnp.zeros(d, jnp.bfloat16), jax.random.fold_in(key, 1))


def step(static: Static, hp: Any, state: State) -> tuple[State, dict]:
    TRACES.append(f"w{static.x.shape[1]}")
    fail(static.config, "step")
    if static.config.sleep:
        jax.debug.callback(lambda: time.sleep(static.config.sleep))
    key, sub = jax.random.split(state.key)
    i = jax.random.randint(sub, (8,), 0, static.x.shape[0])

    def loss(w):
        return jnp.mean((static.x[i] @ w - static.y[i]) ** 2)

    value, grad = jax.value_and_grad(loss)(state.w)
    velocity = (state.velocity * jnp.bfloat16(0.5)).astype(jnp.bfloat16)
    velocity = velocity + grad.astype(jnp.bfloat16)
    w = state.w - hp.lr * velocity.astype(jnp.float32)
    if static.config.diverge:
        value = jnp.where(value < 1.0, jnp.nan, value)
    return State(w, velocity, key), {"loss": value, "norm": {"w": jnp.abs(w)}}


def measure(static: Static, hp: Any, state: State) -> dict:
    return {"loss": jnp.mean((static.x @ state.w - static.y) ** 2), "key": state.key}


def finish(static: Static, hp: Any, states: State, out: Any) -> runs.Result:
    fail(out.config, "finish")
    assert out.history["loss"].shape == (len(out.seeds), static.steps)
    assert out.history["norm/w"].shape == (*out.history["loss"].shape, static.x.shape[1])
    assert hp.lr.shape == (len(out.seeds),)
    last = out.measured[static.steps]["loss"]
    first = out.measured[0]["loss"]
    out.array("w", states.w)
    out.array("velocity", states.velocity)
    line_plot(out, "loss", out.history["loss"][0])
    out.table("measured", [(k, v["loss"].mean()) for k, v in out.measured.items()], ["step", "x"])
    row = runs.Row.over(
        "loss", last, baseline=first, baseline_name="before training", width=static.x.shape[1]
    )
    history = runs.Row.over("mean loss", out.history["loss"].sum(1) / 60, width=static.x.shape[1])
    return runs.Result("Does SGD fit a line?", f"The loss is {row.value!r}.", (row, history))


def combine(config: Config, results: dict[str, runs.Result], out: Any) -> runs.Result:
    fail(config, "combine")
    norms = [float(np.square(out.load("w", case=name)).sum()) for name in results]
    rows = [row for result in results.values() for row in result.summary]
    rows.append(runs.Row.over("squared norm", norms, baseline=0.0, baseline_name="zero"))
    return runs.Result("Does SGD fit lines?", "Yes: " + str(norms), tuple(rows))


def sites(config: Config):
    return (lambda w: tag(w * w, "tiny/product").sum()), (jnp.ones(3),)


def fail(config: Config, where: str) -> None:
    if config.fail_in == where:
        raise RuntimeError(f"asked to fail in {where}")
