"""Flax NNX modules as pure functions: split once when built, merged inside every trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from activjax.models._low_rank import LowRank
from activjax.models._model import Model

_SEED = 0  # of the abstract build, which draws nothing


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(p) for p in path)


def nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Nested dicts of values by path."""
    out: dict[str, Any] = {}
    for path, value in flat.items():
        node = out
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return out


def _leaf(tree: Mapping[str, Any], path: tuple[str, ...], like: Any, what: str) -> Any:
    node: Any = tree
    for name in path:
        if not isinstance(node, Mapping) or name not in node:
            have = sorted(node) if isinstance(node, Mapping) else "an array"
            raise ValueError(f"{what}: nothing at {'/'.join(path)!r}; found {have}")
        node = node[name]
    low_rank = isinstance(node, LowRank)
    if low_rank and not like.get_metadata().get("low_rank"):
        raise ValueError(
            f"{what}: {'/'.join(path)!r} is a low-rank kernel, which this module cannot use: merge "
            "it (lora.merge)"
        )
    shape = node.shape if low_rank else jnp.shape(node)
    if shape != jnp.shape(like):
        raise ValueError(
            f"{what}: {'/'.join(path)!r} has shape {shape}, expected {jnp.shape(like)}"
        )
    return node


def _check_unused(tree: Mapping[str, Any], known: set[tuple[str, ...]], what: str) -> None:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, LowRank))
    paths = ((tuple(str(getattr(k, "key", k)) for k in path)) for path, _ in flat)
    if unused := sorted("/".join(path) for path in paths if path not in known):
        raise ValueError(f"{what}: the model has nothing at {', '.join(map(repr, unused))}")


def _values(state: nnx.State) -> dict[tuple[str, ...], Any]:
    return {_names(path): v.get_value() for path, v in nnx.to_flat_state(state)}


def _fill(abstract: nnx.State, value: Callable[[tuple[str, ...], Any], Any]) -> nnx.State:
    flat = [(path, v.replace(value(_names(path), v))) for path, v in nnx.to_flat_state(abstract)]
    return nnx.from_flat_state(flat)


def _state(module: Any) -> dict[str, Any]:
    _, _, _, state = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return nested(_values(state))


def from_nnx(build: Callable[..., Any]) -> Model:
    """See `Model.from_nnx`."""
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(_SEED)))
    graph, params_of, streams_of, state_of = nnx.split(abstract, nnx.Param, nnx.RngState, ...)
    known = {
        "params": {_names(path) for path, _ in nnx.to_flat_state(params_of)},
        "state": {_names(path) for path, _ in nnx.to_flat_state(state_of)},
    }
    has_state = bool(known["state"])
    has_streams = bool(nnx.to_flat_state(streams_of))

    def init(key: jax.Array) -> dict[str, Any]:
        _, params, _, _ = nnx.split(build(nnx.Rngs(key)), nnx.Param, nnx.RngState, ...)
        return nested(_values(params))

    def init_state() -> dict[str, Any]:
        return _state(build(nnx.Rngs(_SEED)))

    def stream(key: jax.Array | None) -> Callable[[tuple[str, ...], Any], Any]:
        if key is None:
            key = jax.random.key(_SEED)
        keys = iter(jax.random.split(key, max(1, len(nnx.to_flat_state(streams_of)))))
        return lambda path, v: jnp.zeros(v.shape, v.dtype) if path[-1] == "count" else next(keys)

    def apply(
        params: Mapping[str, Any],
        inputs: Any,
        *,
        state: Mapping[str, Any] | None = None,
        key: jax.Array | None = None,
        train: bool = False,
        method: str = "__call__",
        **kwargs: Any,
    ) -> Any:
        if has_state and state is None:
            raise ValueError(
                "this model keeps a state (batch statistics): pass state=model.init_state() and "
                "carry on with the state that apply returns"
            )
        if train and has_streams and key is None:
            raise ValueError("this model draws random numbers in training: pass key=")
        for what, tree in (("params", params), ("state", state or {})):
            _check_unused(tree, known[what], what)
        module = nnx.merge(
            graph,
            _fill(params_of, lambda path, v: _leaf(params, path, v, "params")),
            _fill(streams_of, stream(key)),
            _fill(state_of, lambda path, v: _leaf(state or {}, path, v, "state")),
        )
        module.train() if train else module.eval()
        out = getattr(module, method)(inputs, **kwargs)
        if state is None:
            return out
        return out, _state(module)

    return Model(init, apply, init_state)
