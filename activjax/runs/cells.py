"""The cells of one program: seeds, and values of traced fields, stacked on a leading axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from activjax.runs import fields


@dataclasses.dataclass(frozen=True)
class Cells:
    """What distinguishes the members of a batch of runs.

    Attributes:
        seeds: `[cells]`.
        hp: NamedTuple of the traced fields, each `[cells]`.
        keys: `[cells]` typed random keys, `jax.random.key(seed)`.
    """

    seeds: np.ndarray
    hp: Any
    keys: jax.Array

    @classmethod
    def of(cls, cells: Sequence[tuple[Any, int]]) -> Cells:
        """Stack (config, seed) pairs whose configs differ in traced fields only.

        Raises:
            ValueError: no cells.
        """
        if not cells:
            raise ValueError("a program needs at least one cell")
        values = [fields.traced_values(config) for config, _ in cells]
        hp = fields.hyper(
            cells[0][0], lambda path, _: jnp.asarray(np.array([v[path] for v in values]))
        )
        seeds = [seed for _, seed in cells]
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return cls(np.asarray(seeds, np.int64), hp, keys)

    @property
    def width(self) -> int:
        """How many cells there are."""
        return len(self.seeds)

    def init(self, init: Callable[..., Any], static: Any) -> Callable[[], Any]:
        """`init` of the contract as a function of nothing, over all cells."""
        return lambda: jax.vmap(lambda hp, key: init(static, hp, key))(self.hp, self.keys)

    def over(self, f: Callable[..., Any], static: Any) -> Callable[[Any], Any]:
        """`step` or `measure` of the contract as a function of the stacked states."""
        return lambda states: jax.vmap(lambda hp, state: f(static, hp, state))(self.hp, states)
