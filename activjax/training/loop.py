"""The one training loop: a pure step, scanned in chunks by one compiled program.

The number of steps of a chunk is an argument of the program, so wherever a run is cut (by a
checkpoint, a measurement, a kill) the same instructions run for every step: a resumed run ends
with the same bits. Arrays that the step closes over, such as a data set, are passed to the
program as arguments and are not compiled into it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jax_core
from jax.sharding import NamedSharding, PartitionSpec

from activjax import hosts

Step = Callable[[Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What happened between two looks of the host, as given to `on_chunk`.

    Attributes:
        start, stop: steps done before and after.
        state: the state after `stop` steps; valid only during the call (the next chunk reuses
            its memory).
        metrics: tree of numpy arrays `[stop - start, ...]`, one entry per step.
        measured: what `measure` gave at `stop`, or None where nothing was measured.
        seconds: wall time of the chunk.
    """

    start: int
    stop: int
    state: Any
    metrics: Any
    measured: Any
    seconds: float


@dataclasses.dataclass(frozen=True)
class Finished:
    """What `run` returns.

    Attributes:
        state: after the last step.
        metrics: tree of numpy arrays `[steps - start, ...]`.
        step_metrics: the abstract metrics of one step.
        measured: step -> tree of numpy arrays, in increasing order.
        compile_seconds: time spent tracing and compiling.
    """

    state: Any
    metrics: Any
    step_metrics: Any
    measured: dict[int, Any]
    compile_seconds: float


class Program:
    """The compiled loop over one `step`; made once, it serves every state of the same shapes.

    Args:
        step: `(*args, state) -> (state, metrics)`, pure; traced once.
        like: a state, or its abstract shapes.
        chunk: the most steps one call runs.
        args: what every step is given besides the state (hyper-parameters), or its abstract shapes.

    Raises:
        TypeError: the state that `step` returns differs in structure, shape or dtype; the message
            names the first leaf that does.
    """

    def __init__(self, step: Callable[..., Any], like: Any, chunk: int, args: tuple = ()):
        begin = time.perf_counter()
        self.chunk = chunk
        like, args = _abstracts((like, args))
        self._call, self._consts, (new, self.metrics_like) = _close(step, *args, like)
        _check_same(like, new)
        self._consts = beside(self._consts, like)
        # one compilation, before the first step, whatever chunk lengths come
        kept = jax.tree.map(lambda leaf: leaf.sharding, like)  # what comes out goes in again
        self._advance = (
            jax.jit(self._run, donate_argnums=1, out_shardings=(kept, None))
            .lower(_abstracts(self._consts), like, args, jax.ShapeDtypeStruct((), jnp.int32))
            .compile()
        )
        self.compile_seconds = time.perf_counter() - begin

    def _run(self, consts: Any, state: Any, args: tuple, n: Any) -> tuple[Any, Any]:
        buffers = jax.tree.map(
            lambda m: jnp.zeros((self.chunk, *m.shape), m.dtype), self.metrics_like
        )

        def body(i: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, metrics = self._call(consts, *args, carry[0])
            return state, jax.tree.map(lambda b, m: b.at[i].set(m), carry[1], metrics)

        return jax.lax.fori_loop(0, n, body, (state, buffers))

    def __call__(self, state: Any, n: int, *args: Any) -> tuple[Any, Any]:
        """Run `n <= chunk` steps. `state` is donated; metrics come back as numpy `[n, ...]`."""
        state, buffers = self._advance(self._consts, state, args, np.int32(n))
        return state, jax.tree.map(lambda b: b[:n], hosts.fetch(buffers))

    def memory(self) -> int | None:
        """Bytes a call needs on each device, as the compiler counts them; None if it does not."""
        return _memory(self._advance)


class Loop:
    """Training from any step to the last: `step` and `measure`, each traced and compiled once.

    Args:
        step: `(*args, state) -> (state, metrics)`, pure. Whatever has to be saved, such as the
            position of a batch iterator, is in the state. NaN and infinities in metrics pass
            through as they are.
        like: a state, or its abstract shapes.
        steps: total number of steps.
        chunk: the host looks at every multiple of it, and at `measure_at` and `steps`.
        args: as in `Program`.
        measure: `(*args, state) -> pytree of arrays`, pure; compiled at its first use.
        measure_at: steps at which to measure; 0 is before training, `steps` is the end.

    Attributes:
        program: the compiled loop.

    Raises:
        ValueError: `chunk < 1`, or a measurement outside `0..steps`.
        TypeError: `step` changes the structure, a shape or a dtype of the state.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        like: Any,
        *,
        steps: int,
        chunk: int,
        args: tuple = (),
        measure: Callable[..., Any] | None = None,
        measure_at: Iterable[int] = (),
    ):
        self.steps, self.chunk, self.measure_at = steps, chunk, sorted(set(measure_at))
        _check_steps(steps, chunk, 0, self.measure_at)
        self.program = Program(step, like, min(chunk, max(steps, 1)), args)
        self._measure = None if measure is None else _Measure(measure, (*args, like))

    @property
    def compile_seconds(self) -> float:
        """Time spent tracing and compiling so far."""
        return self.program.compile_seconds + (self._measure.seconds if self._measure else 0.0)

    def memory(self) -> int | None:
        """Bytes that training or measuring needs on each device, whichever is more."""
        needed = [self.program.memory()]
        if self._measure is not None:
            needed.append(self._measure.memory())
        known = [n for n in needed if n is not None]
        return max(known) if len(known) == len(needed) else None

    def measure(self, state: Any, *args: Any) -> Any:
        """What is measured of a state, as numpy arrays; None where nothing is."""
        return None if self._measure is None else self._measure(*args, state)

    def run(
        self,
        state: Any,
        *args: Any,
        start: int = 0,
        on_chunk: Callable[[Chunk], object] | None = None,
    ) -> Finished:
        """Run from step `start` to the last.

        Args:
            state: after `start` steps. It is copied once and not consumed.
            *args: for `step` and `measure`.
            start: steps done already. Measurements up to a `start > 0` are taken as made.
            on_chunk: called after every chunk, and at step 0 if that is measured. It ends the run
                by raising.

        Raises:
            ValueError: `start` not in `0..steps`.
        """
        _check_steps(self.steps, self.chunk, start, self.measure_at)
        # fresh buffers: donation needs leaves that share no memory, and the caller keeps its own
        state = jax.tree.map(_fresh, state)
        measured: dict[int, Any] = {}
        history = []

        def look(begin: int, stop: int, metrics: Any, seconds: float) -> None:
            seen = None
            if self._measure is not None and stop in self.measure_at:
                seen = measured[stop] = self.measure(state, *args)
            if on_chunk is not None:
                on_chunk(Chunk(begin, stop, state, metrics, seen, seconds))

        like = self.program.metrics_like
        nothing = jax.tree.map(lambda m: np.zeros((0, *m.shape), m.dtype), like)
        if start == 0 and 0 in self.measure_at:
            look(0, 0, nothing, 0.0)
        at = start
        while at < self.steps:
            begin = time.perf_counter()
            stop = next_boundary(at, self.steps, self.chunk, self.measure_at)
            state, metrics = self.program(state, stop - at, *args)
            history.append(metrics)
            look(at, stop, metrics, time.perf_counter() - begin)
            at = stop
        metrics = jax.tree.map(lambda *parts: np.concatenate(parts), nothing, *history)
        return Finished(state, metrics, like, measured, self.compile_seconds)


def run(
    step: Step,
    state: Any,
    *,
    steps: int,
    chunk: int,
    start: int = 0,
    measure: Callable[[Any], Any] | None = None,
    measure_at: Iterable[int] = (),
    on_chunk: Callable[[Chunk], object] | None = None,
) -> Finished:
    """Run `step` from `start` to `steps`: a `Loop` that is used once.

    Args:
        step: `state -> (state, metrics)`.
        state: pytree of arrays after `start` steps.
        steps, chunk, measure, measure_at: as in `Loop`.
        start, on_chunk: as in `Loop.run`.

    Raises:
        ValueError, TypeError: as `Loop`.
    """
    measure_at = sorted(set(measure_at))
    _check_steps(steps, chunk, start, measure_at)
    like = jax.tree.map(lambda leaf: _abstract(leaf, jax.eval_shape(_fresh, leaf)), state)
    whole = Loop(step, like, steps=steps, chunk=chunk, measure=measure, measure_at=measure_at)
    return whole.run(state, start=start, on_chunk=on_chunk)


def next_boundary(at: int, steps: int, chunk: int, measure_at: Iterable[int]) -> int:
    """Where the chunk that begins at step `at` ends; the same wherever the run began."""
    ends = [steps, (at // chunk + 1) * chunk, *(m for m in measure_at if m > at)]
    return min(ends)


class _Measure:
    """`measure`, traced and compiled once, at its first use."""

    def __init__(self, measure: Callable[..., Any], like: tuple):
        self._measure, self._like = measure, _abstracts(like)
        self._compiled: Any = None
        self.seconds = 0.0

    def __call__(self, *inputs: Any) -> Any:
        compiled = self._ready()
        return hosts.fetch(compiled(self._consts, *inputs))

    def memory(self) -> int | None:
        return _memory(self._ready())

    def _ready(self) -> Any:
        if self._compiled is None:
            begin = time.perf_counter()
            call, self._consts, _ = _close(self._measure, *self._like)
            self._consts = beside(self._consts, self._like)
            consts = _abstracts(self._consts)
            self._compiled = jax.jit(call).lower(consts, *self._like).compile()
            self.seconds = time.perf_counter() - begin
        return self._compiled


def _memory(compiled: Any) -> int | None:
    found = compiled.memory_analysis()
    if found is None:
        return None
    whole = found.argument_size_in_bytes + found.output_size_in_bytes
    return whole + found.temp_size_in_bytes - found.alias_size_in_bytes


def _close(f: Callable[..., Any], *like: Any) -> tuple[Callable[..., Any], list, Any]:
    """Trace `f(*like)` once: `call(consts, *inputs)`, the arrays closed over, abstract results."""
    closed, out_like = jax.make_jaxpr(f, return_shape=True)(*like)
    out_tree = jax.tree.structure(out_like)
    jaxpr = closed.jaxpr

    def call(consts: list, *inputs: Any) -> Any:
        f = jax_core.jaxpr_as_fun(jax_core.ClosedJaxpr(jaxpr, consts))
        leaves = f(*jax.tree.leaves(inputs))
        return jax.tree.unflatten(out_tree, map(_strong, leaves))

    return call, [jnp.asarray(c) for c in closed.consts], out_like


def beside(tree: Any, like: Any) -> Any:
    """The arrays of a tree, on every device of the mesh that those of `like` lie on, if they do."""
    shardings = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(like)]
    mesh = next((s.mesh for s in shardings if isinstance(s, NamedSharding)), None)
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())

    def moved(x: Any) -> Any:
        spread = isinstance(x, jax.Array) and len(x.devices()) > 1
        return x if spread else hosts.place(x, everywhere)

    return jax.tree.map(moved, tree)


def _fresh(leaf: Any) -> jax.Array:
    return _strong(jnp.copy(leaf))


def _strong(leaf: Any) -> Any:
    """The leaf without a weak type, so that what goes round the loop has one type for good."""
    return leaf if _is_key(leaf) else jax.lax.convert_element_type(leaf, leaf.dtype)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _abstracts(tree: Any) -> Any:
    return jax.tree.map(_abstract, tree)


def _abstract(leaf: Any, like: Any = None) -> jax.ShapeDtypeStruct:
    like = leaf if like is None else like
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=getattr(leaf, "sharding", None))


def _check_same(before: Any, after: Any) -> None:
    one, other = jax.tree.structure(before), jax.tree.structure(after)
    if one != other:
        raise TypeError(
            f"step must return a state of the structure it was given: got {other}, expected {one}"
        )
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after)):
        if a.shape != b.shape or a.dtype != b.dtype:
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "the state"
            raise TypeError(
                f"step changes {name} from {a.dtype}{list(a.shape)} to {b.dtype}{list(b.shape)}; "
                "cast or reshape it in step, or start from the type it has after one step"
            )


def _check_steps(steps: int, chunk: int, start: int, measure_at: list[int]) -> None:
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if not 0 <= start <= steps:
        raise ValueError(f"start must lie in 0..{steps}, got {start}")
    if measure_at and not 0 <= measure_at[0] <= measure_at[-1] <= steps:
        raise ValueError(f"measure_at must lie in 0..{steps}, got {measure_at}")
