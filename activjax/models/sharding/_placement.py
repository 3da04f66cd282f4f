"""`sharding`: where on a mesh each array of a model lives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from activjax.models._model import Model
from activjax.models.decoder import Cache, Decoder, axes as of_decoder
from activjax.models.encoder import Encoder, axes as of_encoder
from activjax.models.sharding import _table
from activjax.models.sharding._axes import (
    FACTORS,
    Axes,
    Path,
    check_pieces,
    leaves,
    named_axes,
    names_of,
    path_of,
    same_shape,
)
from activjax.models.sharding._rules import Rules, as_rules, cut
from activjax.models.sharding._table import Entry
from activjax.transforms import intervene


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Placement:
    """Where the arrays of a model live on a mesh; made by `sharding`. Printed, it is a table.

    Attributes:
      mesh: the mesh.
      model: the model, to be run on the mesh. Where a rule splits parameters over the mesh axis of
        the batch (as "fsdp" does), its `pin`ned sites are held to the batch's sharding.
      rules: logical axis -> mesh axes.
      axes: path of a parameter -> its logical axes; those without are on every device whole.
      pieces: logical axis -> how many pieces it has that are never cut.
      shapes: the parameters' shapes and dtypes.
    """

    mesh: Mesh
    model: Any
    rules: Mapping[str, tuple[str, ...]]
    axes: Mapping[Path, Axes]
    pieces: Mapping[str, int]
    shapes: Any

    @property
    def params(self) -> Any:
        """A `NamedSharding` for each parameter: `jit(model.init, out_shardings=place.params)`."""
        return self.like(self.shapes)

    @property
    def batch(self) -> NamedSharding:
        """The sharding of any array whose first axis is the batch: tokens, masks, segments."""
        return self._named(cut((0,), ("batch",), self.rules, {}, self.mesh).spec)

    def like(self, tree: Any) -> Any:
        """The sharding of each leaf of anything that holds arrays of the model.

        A leaf is split as a parameter if its path ends in the parameter's and it has its shape:
        optimiser states, gradients and a `TrainState` are split like the parameters they mirror.
        Low-rank adapters of a kernel are split on the side where the kernel is. A `Cache` is split
        over sequences and key heads. All other leaves (step counts, keys, data) are on every
        device whole.

        Args:
          tree: a pytree of arrays or `jax.ShapeDtypeStruct`s, such as
            `jax.eval_shape(optimiser.init, params)`.

        Returns:
          The same pytree of `NamedSharding`s, for `jit(..., out_shardings=)` and `device_put`.
        """
        return jax.tree.map(lambda entry: self._named(entry.cut.spec), self._entries(tree))

    def make(self, f: Callable[..., Any], *args: Any) -> Any:
        """What `f(*args)` returns, made in place: each device computes and holds its share only.

        `place.make(model.init, key)`; `place.make(lambda: model.init_cache(8, 64))`. Compiles anew
        each time.
        """
        out = self.like(jax.eval_shape(f, *args))
        return jax.jit(f, out_shardings=out)(*args)

    def put(self, tree: Any) -> Any:
        """Arrays that are there already, moved to where `like` says.

        A `jax.ShapeDtypeStruct` gets its sharding instead, so that
        `training.restore(folder, place.put(jax.eval_shape(start, key)))` loads a checkpoint onto
        the mesh, whatever mesh it was saved from.
        """

        def one(leaf: Any, sharding: NamedSharding) -> Any:
            if isinstance(leaf, jax.ShapeDtypeStruct):
                return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
            return jax.device_put(leaf, sharding)

        return jax.tree.map(one, tree, self.like(tree))

    def entries(self, tree: Any = None) -> tuple[Entry, ...]:
        """What becomes of each leaf: of the parameters, or of another tree as `like` takes it."""
        return tuple(jax.tree.leaves(self._entries(self.shapes if tree is None else tree)))

    def table(self, tree: Any = None) -> Any:
        """A `rich` table: path, axes, the mesh axes that split them, bytes a device, notes.

        Args:
          tree: as in `like`; None for the parameters.
        """
        return _table.table(self.entries(tree), self.mesh)

    def nbytes(self, tree: Any = None) -> int:
        """Bytes on each device, of the parameters or of another tree as `like` takes it."""
        return sum(entry.local_bytes(self.mesh) for entry in self.entries(tree))

    def __repr__(self) -> str:
        return _table.text(self.table())

    def _named(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    @cached_property
    def _known(self) -> dict[Path, tuple[int, ...]]:
        return {path: leaf.shape for path, leaf in leaves(self.shapes)}

    def _entries(self, tree: Any) -> Any:
        def one(path: Any, leaf: Any) -> Any:
            if not isinstance(leaf, Cache):
                return self._entry(path_of(path), leaf)
            axes = {name: names_of(text) for name, text in of_decoder.CACHE.items()}
            return jax.tree_util.tree_map_with_path(
                lambda own, x: self._cut(path_of((*path, *own)), x, axes[path_of(own)[0]]), leaf
            )

        return jax.tree_util.tree_map_with_path(one, tree, is_leaf=lambda x: isinstance(x, Cache))

    def _entry(self, path: Path, leaf: Any) -> Entry:
        note = ""
        for end in (path[i:] for i in range(len(path))):
            *of, last = end
            if end in self._known:
                shape, axes = self._known[end], self.axes.get(end)
            elif last in FACTORS and len(self._known.get(tuple(of), ())) > 1:
                shape = FACTORS[last](self._known[tuple(of)])
                axes = FACTORS[last](self.axes[tuple(of)]) if tuple(of) in self.axes else None
            else:
                continue
            if not same_shape(jnp.shape(leaf), shape):
                note = "whole: not of the parameter's shape"
            elif axes is None:
                note = "whole: no logical axes"
            else:
                return self._cut(path, leaf, axes)
        return self._cut(path, leaf, (None,) * jnp.ndim(leaf), note)

    def _cut(self, path: Path, leaf: Any, axes: Axes, note: str = "") -> Entry:
        how = cut(jnp.shape(leaf), axes, self.rules, self.pieces, self.mesh)
        notes = (note, *how.notes) if note else how.notes
        dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        count = tuple(self.pieces.get(name, 0) if name else 0 for name in axes)
        return Entry("/".join(path), jnp.shape(leaf), dtype, axes, count, how, "; ".join(notes))


def sharding(
    model: Model,
    mesh: Mesh,
    *,
    rules: str | Rules = "tensor",
    axes: Mapping[str, str] | None = None,
    pieces: Mapping[str, int] | None = None,
    pin: str | Sequence[str] = (),
) -> Placement:
    """Say where on a mesh a model's parameters, its batch and everything made from them live.

        mesh = models.mesh(data=2, model=4)
        place = models.sharding(model, mesh)
        print(place)                                  # what is split how, and what is not and why
        params = place.make(model.init, key)          # no device ever holds all of it
        tokens = jax.device_put(tokens, place.batch)
        logits = jax.jit(place.model.apply)(params, tokens)

    and for training

        start = lambda key: training.init_state(place.model, optimiser, batches, key)
        state = place.make(start, key)                # Adam's moments lie beside their parameters
        step = jax.jit(step, out_shardings=(place.like(state), None))

    `capture`, `intervene`, `generate` and the rest are called as ever, with placed arguments.

    Args:
      model: a decoder or an encoder, whose axes are known; or any model.
      mesh: from `models.mesh`.
      rules: "tensor", "fsdp" (see `SHARDING_RULES`), or a mapping from logical axes to a mesh axis,
        to a tuple of them, or to None. A mesh axis splits one axis of an array: that of the earlier
        rule. An axis that cannot be split evenly stays whole; the table says so.
      axes: path of a parameter (a glob, such as "layers/*/kernel") -> names of its axes, such as
        "embed mlp", `_` for one that stays whole. The first glob that matches counts, a decoder's
        own come last; parameters without an entry are on every device whole.
      pieces: logical axis -> number of pieces that it has and that must not be cut, where they are
        more than one index long: `{"heads": 8}`. A decoder's are known.
      pin: sites (globs) whose first axis is the batch and stays split as the batch is, where rules
        split parameters over the batch's mesh axis too; without, the compiler may gather the batch
        instead of the parameters. A decoder's residual stream is pinned anyway.

    Returns:
      The placement.

    Raises:
      ValueError: unknown rules, logical axes or mesh axes, with the nearest name; a glob that
        matches no parameter, or names not as many as its axes; pieces that an axis cannot have; a
        mesh whose axes are not `AxisType.Auto`.
    """
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"mesh: expected axes of type Auto, got {mesh.axis_types}: models.mesh makes one"
        )
    config: Any = getattr(model, "config", None)
    kinds = ((Decoder, of_decoder), (Encoder, of_encoder))
    own = next((known for kind, known in kinds if isinstance(model, kind)), None)
    sites = (pin,) if isinstance(pin, str) else tuple(pin)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    named = named_axes(shapes, axes or {}, own.PARAMETERS if own else {})
    whole = {**(own.pieces(config) if own else {}), **(pieces or {})}
    check_pieces(whole, shapes, named)
    used = {name for names in named.values() for name in names if name}
    place = Placement(mesh, model, as_rules(rules, mesh, used), named, whole, shapes)
    sites = (*(own.RESIDUAL if own else ()), *sites)
    return dataclasses.replace(place, model=_pinned(place, sites))


def _pinned(place: Placement, sites: Sequence[str]) -> Any:
    """The model, its sites held to the batch's sharding where parameters are split likewise."""
    batch = {name for name in place.rules.get("batch", ()) if place.mesh.shape[name] > 1}
    over = {name for entry in place.entries() for names in entry.cut.over for name in names}
    if not sites or not batch & over:
        return place.model

    def hold(x: jax.Array) -> jax.Array:
        if not x.ndim or cut(x.shape[:1], ("batch",), place.rules, {}, place.mesh).notes:
            return x  # fewer sequences than devices for them
        return jax.lax.with_sharding_constraint(x, place.batch)

    apply = intervene(place.model.apply, [(site, hold) for site in sites])
    return dataclasses.replace(place.model, apply=apply)
