"""`save`: a model in the files of the `transformers` library."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from activjax import data
from activjax.models._low_rank import LowRank
from activjax.models._model import Model, Params
from activjax.models.published._alone import alone
from activjax.models.published._family import CannotExpress, Family
from activjax.models.published._load import CONFIG, RUNTIME
from activjax.models.published._options import Options, read_json, without_effect
from activjax.models.published._plan import Use, uses
from activjax.models.published._safetensors import WeightsError
from activjax.models.published._shards import Item, write_all, write_json
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
        another model, or with adapters; a file that cannot be written; another process is
        writing there.
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
        "dtype": widest(given.values()).name,
        **options,
    }
    folder = Path(folder).expanduser()
    with alone(folder):
        write_all(folder, _arrays(plan, config, given), shard_bytes, finished=folder / CONFIG)
        if source is not None:
            data.copy_tokenizer(source, folder)
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
        except AttributeError:
            reasons.append(f"{family.name}: another kind of model")
            continue
        except (CannotExpress, ValueError) as error:
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


def _arrays(plan: Sequence[Use], config: Any, given: dict[str, Any]) -> Iterator[Item]:
    """Every array of the file, to be made when it is written."""
    for use in plan:
        held = _Held(use, config, given)
        shape = use.entry.layout.shape(use.shapes, config)
        leaf = jax.ShapeDtypeStruct(shape, held.dtype)
        for layer, key in enumerate(use.keys):
            yield key, leaf, functools.partial(held.array, layer)


class _Held:
    """The parameters of one entry, on the host while its layers are written."""

    def __init__(self, use: Use, config: Any, given: dict[str, Any]):
        self.use, self.config, self.given = use, config, given
        self.dtype = widest(given[path] for path in use.entry.paths)
        self.arrays: list[np.ndarray] | None = None

    def array(self, layer: int) -> np.ndarray:
        if self.arrays is None:
            self.arrays = [np.asarray(self.given[path]) for path in self.use.entry.paths]
        stacked = self.use.layers is not None
        parts = [(a[layer] if stacked else a).astype(self.dtype) for a in self.arrays]
        out = self.use.entry.layout.join(parts, self.config)
        if layer + 1 == (self.use.layers or 1):
            self.arrays = None
        return out


def widest(leaves: Iterable[Any]) -> np.dtype:
    """The dtype of the widest array.

    Raises:
      WeightsError: one that is not float32, bfloat16 or float16.
    """
    found = sorted({np.dtype(leaf.dtype) for leaf in leaves}, key=lambda d: d.itemsize)
    for dtype in found:
        if dtype.name not in ("float32", "bfloat16", "float16"):
            raise WeightsError(f"save: parameters of dtype {dtype}: cast them to float32")
    if [d.itemsize for d in found] == [2, 2]:  # neither holds the other
        return np.dtype(np.float32)
    return found[-1]
