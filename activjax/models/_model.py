"""`Model`: a network as two pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

Params = Mapping[str, Any]


def _stateless() -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Model:
    """A network as pure functions; nothing downstream knows about modules.

    Attributes:
      init: `init(key) -> params`, a nested dict with string keys and array leaves.
      apply: `apply(params, inputs, *, state=None, key=None, train=False, **kw)` returns `out`, or
        `(out, state)` when a state is given. `key` is needed where training draws random numbers.
      init_state: `init_state() -> state`: batch statistics or caches at their start; `{}` for a
        network that keeps none.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[..., Any]
    init_state: Callable[[], Params] = _stateless

    @staticmethod
    def from_nnx(build: Callable[..., Any]) -> Model:
        """Turn a Flax NNX module into a `Model`.

        Args:
          build: `build(rngs) -> nnx.Module`, called with `nnx.Rngs`. Variables of type `nnx.Param`
            become `params`, random streams follow `key`, every other variable becomes `state`.

        Returns:
          The model. `train` switches the module between its `train()` and `eval()` behaviour;
          `apply(..., method="encode")` calls another method of the module than `__call__`.
        """
        from activjax.models._nnx import from_nnx

        return from_nnx(build)
