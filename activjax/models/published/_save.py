"""`save`: a model in the files of the `transformers` library."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from activjax.models._low_rank import LowRank
from activjax.models._model import Model, Params
from activjax.models.published._family import CannotExpress, Family
from activjax.models.published._load import CONFIG, RUNTIME
from activjax.models.published._options import Options, read_json, without_effect
from activjax.models.published._plan import Use, uses
from activjax.models.published._safetensors import WeightsError, write
from activjax.models.published._shards import INDEX, SINGLE
from activjax.models.published._where import TOKENIZER
from activjax.models.published.families import FAMILIES
from activjax.models.sharding._axes import leaves
from activjax.transforms._names import nearest


def save(
    folder: str | Path,
    model: Model,
    params: Params,
    *,
    like: str | Path | None = None,
    family: str | Family | None = None,
    shard_bytes: int = 5_000_000_000,
) -> Path:
    """Write a model as a folder that `load` and the `transformers` library read.

    `config.json` is written last: a folder without it is unfinished.

    Args:
      folder: created if missing; what was there of a model is replaced.
      model: a decoder or an encoder, whether it was loaded or trained from nothing.
      params: its parameters; merge adapters first (`training.lora.merge`), or write them alone
        with `save_adapters`.
      like: a folder to take the tokenizer's files from, and the options of `config.json` that do
        not change the model, such as special token ids.
      family: as `model_type` names it, or one of your own; None for the first that can express
        the config.
      shard_bytes: of a file; larger models become several.

    Returns:
      The folder.

    Raises:
      WeightsError: a config that no family (or not the one named) can express; parameters of
        another model, or with adapters; a file that cannot be written.
      FileNotFoundError: no such folder `like`.
    """
    config: Any = getattr(model, "config", None)
    if config is None:
        raise WeightsError("save: expected a decoder or an encoder, which have a config")
    shapes = shapes_of(model)
    chosen, options, plan = family_of(config, shapes, family)
    given = _checked(params, shapes)
    source = None if like is None else Path(like).expanduser()
    if source is not None and not source.is_dir():
        raise FileNotFoundError(f"like: no such folder: {source}")
    about = {
        **_carried(source),
        "architectures": [chosen.architectures[0]],
        "model_type": chosen.name,
        "dtype": config.param_dtype,
        **options,
    }
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    _write(folder, plan, config, given, shard_bytes)
    if source is not None and source.resolve() != folder.resolve():
        for file in (source / name for name in TOKENIZER):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
    write_json(folder / CONFIG, about)
    return folder


def shapes_of(model: Model) -> dict[str, Any]:
    """Path of a parameter -> its shape."""
    return {p: leaf.shape for p, leaf in _flat(jax.eval_shape(model.init, jax.random.key(0)))}


def family_of(
    config: Any, shapes: Mapping[str, Any], family: str | Family | None = None
) -> tuple[Family, dict[str, Any], list[Use]]:
    """The family of a config, its options and its arrays.

    Raises:
      WeightsError: no family can express it, or not the one that is named.
    """
    families = (family,) if isinstance(family, Family) else FAMILIES
    if isinstance(family, str):
        families = tuple(f for f in FAMILIES if f.name == family)
        if not families:
            names = [f.name for f in FAMILIES]
            near = nearest(family, names) or names
            raise WeightsError(f"save: family {family!r} is not known; nearest: {', '.join(near)}")
    reasons = []
    for family in families:
        try:
            options = dict(family.write(config))
            plan = uses(family, config, shapes, True)
            keys = {key for use in plan for key in use.keys}
            again = family.read(Options(options, family.name, keys=keys))
        except (CannotExpress, ValueError, AttributeError) as error:
            reasons.append(f"{family.name}: {error}")
            continue
        if not (wrong := _differences(config, again)):
            return family, options, plan
        reasons.append(f"{family.name}: {', '.join(wrong)}")
    raise WeightsError(
        f"save: no family has options for this config ({'; '.join(reasons)}). "
        "training.save_model writes any decoder in this package's own format"
    )


#: Fields that may be None, and what they then are.
_DERIVED = {"kv_heads": "groups_of", "head_width": "head_size", "mlp_width": "hidden"}


def _differences(config: Any, other: Any) -> list[str]:
    """The fields of two configs that differ in effect."""
    if type(config) is not type(other):
        return [type(config).__name__]

    def value(of: Any, name: str) -> Any:
        if name in _DERIVED:
            return getattr(getattr(of, "shared", of), _DERIVED[name])
        return getattr(of, name)

    names = [f.name for f in dataclasses.fields(config) if f.name not in RUNTIME]
    wrong = [name for name in names if value(config, name) != value(other, name)]
    return [f"{name}={getattr(config, name)!r}" for name in wrong]


def _checked(params: Params, shapes: dict[str, Any]) -> dict[str, Any]:
    flat, _ = jax.tree_util.tree_flatten(params, is_leaf=lambda x: isinstance(x, LowRank))
    if any(isinstance(leaf, LowRank) for leaf in flat):
        raise WeightsError(
            "save: the parameters have adapters: merge them (training.lora.merge), or write them "
            "alone (save_adapters)"
        )
    given = dict(_flat(params))
    for path in [*shapes, *given]:
        a = tuple(shapes[path]) if path in shapes else "nothing"
        b = tuple(given[path].shape) if path in given else "nothing"
        if a != b:
            raise WeightsError(f"save: {path} should be {a}, it is {b}: another model's parameters")
    return given


def _flat(tree: Any) -> Iterator[tuple[str, Any]]:
    return (("/".join(path), leaf) for path, leaf in leaves(tree))


def _carried(source: Path | None) -> dict[str, Any]:
    """The options of another model that do not change what it computes."""
    if source is None or not (source / CONFIG).is_file():
        return {}
    own = ("dtype", "torch_dtype", "transformers_version", "auto_map")
    given = read_json(source / CONFIG)
    return {k: v for k, v in given.items() if without_effect(k) and k not in own}


def _clear(folder: Path) -> None:
    """Remove what was there of a model; the options first, so that no half of it is believed."""
    for name in (CONFIG, INDEX):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("model*.safetensors"):
        path.unlink()


def _write(
    folder: Path, plan: Sequence[Use], config: Any, given: dict[str, Any], shard_bytes: int
) -> None:
    shards: list[dict[str, tuple[Any, Callable[[], np.ndarray]]]] = [{}]
    filled = 0
    for use in plan:
        held = _Held(use, config, given)
        shape = use.entry.layout.shape(use.shapes, config)
        leaf = jax.ShapeDtypeStruct(shape, given[use.entry.paths[0]].dtype)
        for layer, key in enumerate(use.keys):
            if filled and filled + leaf.size * leaf.dtype.itemsize > shard_bytes:
                shards.append({})
                filled = 0
            filled += leaf.size * leaf.dtype.itemsize
            shards[-1][key] = (leaf, lambda layer=layer, held=held: held.array(layer))
    for number, shard in enumerate(shards, 1):
        name = SINGLE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write(
            folder / name,
            {key: leaf for key, (leaf, _) in shard.items()},
            (array() for _, array in shard.values()),
        )
    if len(shards) > 1:
        total = sum(leaf.size * leaf.dtype.itemsize for s in shards for leaf, _ in s.values())
        names = {
            key: f"model-{n:05}-of-{len(shards):05}.safetensors"
            for n, shard in enumerate(shards, 1)
            for key in shard
        }
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": names})


class _Held:
    """The parameters of one entry, on the host while its layers are written."""

    def __init__(self, use: Use, config: Any, given: dict[str, Any]):
        self.use, self.config, self.given = use, config, given
        self.arrays: list[np.ndarray] | None = None

    def array(self, layer: int) -> np.ndarray:
        if self.arrays is None:
            self.arrays = [np.asarray(self.given[path]) for path in self.use.entry.paths]
        stacked = self.use.layers is not None
        out = self.use.entry.layout.join(
            [a[layer] if stacked else a for a in self.arrays], self.config
        )
        if layer + 1 == (self.use.layers or 1):
            self.arrays = None
        return out


def write_json(path: Path, value: Any) -> None:
    """A JSON file that has its name once it is whole."""
    part = path.with_name(path.name + ".tmp")
    with open(part, "w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
