"""A tiny experiment of which single cells can be told to go wrong in every way."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from activjax import runs

TRACES: list[str] = []
LOG = "DRILL_LOG"  # a file that every finished cell is appended to


@dataclasses.dataclass(frozen=True)
class Model:
    size: int = runs.static(3, ge=1)
    scale: float = runs.traced(1.0, gt=0)


@dataclasses.dataclass(frozen=True)
class Config:
    model: Model = Model()
    lr: float = runs.traced(0.05, gt=0, le=1)
    bad: float = runs.traced(0.0)
    trouble: str = runs.static("")
    steps: int = runs.static(20, ge=0)
    chunk: int = runs.static(5, ge=1)
    sleep: float = runs.static(0.0, ge=0)

    def __post_init__(self) -> None:
        if self.steps == 13:
            raise ValueError("13 steps bring bad luck")


class Static(NamedTuple):
    x: Any
    y: Any
    steps: int
    chunk: int
    measure_at: tuple[int, ...]
    config: Config


class State(NamedTuple):
    w: jax.Array
    key: jax.Array


def setup(config: Config) -> Static:
    if config.trouble == "setup":
        raise RuntimeError("asked to fail in setup")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, config.model.size)).astype(np.float32)
    y = x.sum(1) + 0.1 * rng.normal(size=40).astype(np.float32)
    return Static(x, y, config.steps, config.chunk, (0, config.steps), config)


def init(static: Static, hp: Any, key: jax.Array) -> State:
    size = static.x.shape[1]
    return State(hp.model.scale * jax.random.normal(key, (size,)), jax.random.fold_in(key, 1))


def step(static: Static, hp: Any, state: State) -> tuple[State, dict]:
    TRACES.append("step")
    key, sub = jax.random.split(state.key)
    i = jax.random.randint(sub, (8,), 0, 40)
    x, y = jnp.asarray(static.x)[i], jnp.asarray(static.y)[i]
    loss, grad = jax.value_and_grad(lambda w: jnp.mean((x @ w - y) ** 2))(state.w)
    if static.config.sleep:
        jax.debug.callback(lambda: time.sleep(static.config.sleep))
    if static.config.trouble in STEP:
        jax.debug.callback(lambda bad: bad and STEP[static.config.trouble](), hp.bad)
    if static.config.trouble == "nan":
        loss = jnp.where(hp.bad > 0, jnp.nan, loss)
    return State(state.w - hp.lr * grad, key), {"loss": loss}


def measure(static: Static, hp: Any, state: State) -> dict:
    return {"loss": jnp.mean((jnp.asarray(static.x) @ state.w - jnp.asarray(static.y)) ** 2)}


def finish(static: Static, hp: Any, states: State, out: Any) -> runs.Result:
    if hp.bad[0] and static.config.trouble.startswith("finish "):
        STEP[static.config.trouble.removeprefix("finish ")]()
    if LOG in os.environ:
        with open(os.environ[LOG], "a") as file:
            file.write(f"{out.seeds[0]} {hp.lr[0]} {os.getpid()}\n")
    first, last = out.measured[0]["loss"], out.measured[static.steps]["loss"]
    if static.config.trouble == "nan":
        last = out.history["loss"][:, -1]
    out.array("w", states.w)
    rows = (
        runs.Row.over("loss", last, baseline=first, baseline_name="before training"),
        runs.Row.over("mean loss", out.history["loss"].mean(1), part="history"),
    )
    return runs.Result("Does it fit?", "Yes.", rows)


def _raise() -> None:
    raise RuntimeError("asked to fail")


def _hang() -> None:
    print("hanging", flush=True)
    time.sleep(1000)


def _eat() -> None:
    kept = []
    while True:
        kept.append(np.ones(8_000_000))
        time.sleep(0.02)


def _crash() -> None:
    os.abort()


STEP = {"raise": _raise, "hang": _hang, "eat": _eat, "crash": _crash}
