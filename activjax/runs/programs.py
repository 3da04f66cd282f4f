"""The compiled programs of one case under the traced contract, for batches of any cells."""

from __future__ import annotations

import contextlib
import operator
from typing import Any

import jax

from activjax import hosts
from activjax.runs import cells as cells_of, contract, fields
from activjax.runs.cells import Cells
from activjax.runs.contract import Experiment
from activjax.runs.history import flatten
from activjax.training import loop

DEFAULT_CHUNK = 100


class Programs:
    """The compiled programs of one case for batches of `width` cells.

    Args:
        experiment: the experiment.
        case: its name; None where the experiment has no cases.
        config: the case's `Config`; its traced fields are not looked at.
        width: cells of a batch.
        sharded: spread them over the local devices.

    Attributes:
        static: what `setup` returned.
        steps, chunk, measure_at: its schedule.
        devices: how many devices share the cells.

    Raises:
        ExperimentError: `setup` or `init` raised, or `static` is not what the contract asks for.
    """

    def __init__(
        self,
        experiment: Experiment,
        case: str | None,
        config: Any,
        width: int,
        *,
        sharded: bool = False,
    ):
        self.experiment, self.case, self.width = experiment, case, width
        with self.user("setup"):
            self.static = self._function("setup")(fields.hide_traced(config))
            self.steps, self.chunk, self.measure_at = self._schedule()
        self.mesh = cells_of.mesh_for(width) if sharded else None
        self.devices = 1 if self.mesh is None else self.mesh.size
        of_one = Cells.of([(config, 0)])
        widened = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape[1:]), leaf.dtype),
            (of_one.hp, of_one.keys),
        )
        self._hp_like, keys_like = self.placed(widened)
        self._init = jax.jit(self._over("init"))
        with self.user("init"):
            like = jax.eval_shape(self._init, self._hp_like, keys_like)
        self.states_like = self.placed(like)
        self._loop: loop.Loop | None = None

    def user(self, name: str) -> contextlib.AbstractContextManager[None]:
        """For blocks that run the experiment's code."""
        named = f"{name}(case {self.case})" if self.case else name
        return contract.running(self.experiment, named)

    def init(self, cells: Cells) -> Any:
        """The states before the first step. Raises `ExperimentError`."""
        with self.user("init"):
            return self._init(*self.placed((cells.hp, cells.keys)))

    def placed(self, tree: Any) -> Any:
        """Arrays with a leading cell axis, where the programs expect them."""
        return cells_of.place(tree, self.mesh)

    def mine(self, i: int) -> bool:
        """Whether this process is the one that has the `i`-th cell; without a mesh all have it."""
        if self.mesh is None:
            return hosts.index() == 0
        device = i // (self.width // self.devices)
        return self.mesh.devices.ravel()[device].process_index == hosts.index()

    def cell(self, states: Any, i: int) -> Any:
        """The states of the `i`-th cell alone, with a leading axis of one."""
        if self.mesh is not None:  # taken from the device that has it, not gathered from all
            share = self.width // self.devices
            device, i = divmod(i, share)
            device = self.mesh.devices.ravel()[device]
            states = jax.tree.map(
                lambda leaf: next(s.data for s in leaf.addressable_shards if s.device == device),
                states,
            )
        return _one(states, i)

    @property
    def loop(self) -> loop.Loop:
        """The training loop, compiled when it is first asked for. Raises `ExperimentError`."""
        if self._loop is None:
            measure = None if self._measure is None else self._over("measure")
            with self.user("step"):
                made = loop.Loop(
                    self._over("step"),
                    self.states_like,
                    steps=self.steps,
                    chunk=self.chunk,
                    args=(self._hp_like,),
                    measure=measure,
                    measure_at=self.measure_at,
                )
                flatten(made.program.metrics_like)  # complains now, about the experiment
            self._loop = made
        return self._loop

    def memory(self) -> int | None:
        """Bytes that the compiled programs need on each device. Raises `ExperimentError`."""
        training = self.loop
        with self.user("measure"):
            return training.memory()

    @property
    def compile_seconds(self) -> float:
        """Time spent tracing and compiling so far."""
        return self._loop.compile_seconds if self._loop else 0.0

    def measured_like(self) -> Any:
        """The abstract result of `measure` on all cells."""
        with self.user("measure"):
            return jax.eval_shape(self._over("measure"), self._hp_like, self.states_like)

    @property
    def _measure(self) -> Any:
        return self.experiment.function("measure")

    def _function(self, name: str) -> Any:
        return getattr(self.experiment.module, name)

    def _over(self, name: str) -> Any:
        return cells_of.over(self._function(name), self.static, self.mesh)

    def _schedule(self) -> tuple[int, int, tuple[int, ...]]:
        """`steps`, `chunk` and `measure_at` of what `setup` returned, checked."""
        if not hasattr(self.static, "steps"):
            raise TypeError("what setup returns must have an attribute steps: int")
        steps = operator.index(self.static.steps)
        chunk = operator.index(getattr(self.static, "chunk", min(max(steps, 1), DEFAULT_CHUNK)))
        at = tuple(sorted({operator.index(s) for s in getattr(self.static, "measure_at", ())}))
        if steps < 0 or chunk < 1 or (at and not 0 <= at[0] <= at[-1] <= steps):
            raise ValueError(
                "static must have steps >= 0, chunk >= 1 and measure_at within 0..steps; "
                f"got steps={steps}, chunk={chunk}, measure_at={at}"
            )
        if bool(at) != (self._measure is not None):
            raise TypeError(
                "measure(static, hp, state) and static.measure_at go together: only one is there"
            )
        return steps, chunk, at


@jax.jit
def _one(states: Any, i: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, i, 1), states)
