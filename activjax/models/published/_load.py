"""`load`: a published model as a `Model`, its parameters and its tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, SingleDeviceSharding

from activjax.models._model import Model
from activjax.models.published._family import Family
from activjax.models.published._options import Options, read_json
from activjax.models.published._plan import check, is_leftover, uses
from activjax.models.published._read import parameters
from activjax.models.published._safetensors import WeightsError
from activjax.models.published._shards import Checkpoint
from activjax.models.published._tokenizer import tokenizer_of
from activjax.models.published._where import folder_of
from activjax.models.published.families import FAMILIES
from activjax.models.sharding import sharding
from activjax.models.sharding._axes import leaves
from activjax.transforms._names import nearest

CONFIG = "config.json"
#: Fields that are not the checkpoint's but the user's.
RUNTIME = ("dtype", "param_dtype", "scan", "remat", "precision", "dropout")


class Loaded(NamedTuple):
    """A model with its parameters and its tokenizer.

    Attributes:
      model: a `Decoder` or an `Encoder`.
      params: its parameters.
      tokenizer: a `data.Tokenizer`; None where the folder has none.
    """

    model: Any
    params: Any
    tokenizer: Any


def load(
    name: str | Path,
    *,
    mesh: Mesh | None = None,
    rules: Any = "tensor",
    param_dtype: str | None = None,
    abstract: bool = False,
    revision: str | None = None,
    family: Family | None = None,
    tokenizer: bool = True,
    ignore: Sequence[str] = (),
    **fields: Any,
) -> Loaded:
    """Load a published model: a folder of the `transformers` library, or a name of the hub.

        model, params, tokenizer = models.load("checkpoints/llama")
        logits = jax.jit(model.apply)(params, tokenizer.encode("Once upon a time")[None])

    Families: GPT-2, GPT-NeoX (Pythia), Llama, Mistral, Qwen2, Qwen3, Gemma 2, the text part of
    Gemma 3, BERT (MiniLM). The model is an ordinary `decoder` (or `encoder`) with the same sites
    whatever the family: what works on one's own network works on it. Only safetensors are read,
    never pickle. Everything is checked before an array is made. Then each array is read straight
    to its devices, in the dtype of the file: the peak is the model and its largest parameter.

    Args:
      name: the folder, which needs no extra; or a name of the hub, with the extra `hub`.
      mesh: from `models.mesh`: parameters are split over it, each device reads its share.
      rules: how they are split, as `models.sharding` takes it.
      param_dtype: "float32", "bfloat16" or "float16"; None for that of the file (its widest), of
        abstract ones for what `config.json` says.
      abstract: make `jax.ShapeDtypeStruct`s (with shardings, if there is a mesh) in the place of
        arrays. Needs `config.json` alone.
      revision: branch, tag or commit, for a name of the hub.
      family: one of your own (docs/guide/published.md); None for that of `model_type`.
      tokenizer: False to leave it aside, say where it is in a format that is not read.
      ignore: options of `config.json` that change nothing, although they are not known here.
      **fields: of the config, such as `dtype="float32"` (of activations; else that of the
        parameters, float32 for float16), `remat=True`, `scan=False`, `dropout=0.1`,
        `precision="default"`. Dropout of the file is left aside.

    Returns:
      `model, params, tokenizer`. On a mesh, `model` is the one that is pinned to it.

    Raises:
      FileNotFoundError: no such folder, or no `config.json` or weights in it.
      ImportError: a name of the hub without the extra `hub`; a tokenizer, used without `text`.
      RuntimeError: the hub cannot be reached.
      WeightsError: an unknown architecture or option, a missing or an unused key, a wrong shape, a
        damaged file, a quantised model. Nothing was allocated.
      TypeError: an unknown field.
    """
    folder = folder_of(name, revision)
    if param_dtype is not None and param_dtype not in _FLOATS.values():
        raise ValueError(
            f"param_dtype: expected one of {', '.join(_FLOATS.values())}, got {param_dtype!r}"
        )
    options = _options(folder, ignore)
    family = family or _family(options)
    checkpoint = None if abstract else Checkpoint(folder)
    if checkpoint is not None:
        checkpoint.rename(family.renamed)
        options.keys = checkpoint.files.keys()
    config = _config(family, options)
    if abstract and param_dtype is None:
        said = options.get("dtype", options.get("torch_dtype", None))
        param_dtype = said if said in _FLOATS.values() else None
    built = _Built(family, config, checkpoint, param_dtype, fields)
    read = tokenizer_of(folder) if tokenizer else None
    return Loaded(*built.placed(mesh, rules, checkpoint), read)


def _config(family: Family, options: Options) -> Any:
    try:
        config = family.read(options)
    except WeightsError:
        raise
    except ValueError as error:  # what the decoder makes of the sizes
        raise WeightsError(f"{options.label}: {error}") from None
    options.finish()
    return config


def _options(folder: Path, ignore: Sequence[str]) -> Options:
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG} there, so no published model")
    given = read_json(path)
    options = Options(given, str(path), ignore)
    if given.get("quantization_config"):
        raise WeightsError(f"{path}: quantised weights are not implemented (quantization_config)")
    return options


def _family(options: Options) -> Family:
    path, names = options.label, {family.name: family for family in FAMILIES}
    known = {word: family for family in FAMILIES for word in family.architectures}
    kind, words = options.get("model_type", None), options.get("architectures", None) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise WeightsError(f"{path}: architectures: expected a list of names, got {words!r}")
    asked = words[0] if words else kind
    family = names.get(kind) if isinstance(kind, str) else None
    if family is None and kind is None and words:
        family = known.get(words[0])
    if family is None or (words and words[0] not in family.architectures):
        have = family.architectures if family else [*known, *names]
        near = nearest(str(asked), have) or list(have if family else names)
        raise WeightsError(
            f"{path}: {asked!r} (model_type {kind!r}) is not implemented; nearest: "
            f"{', '.join(near)}. docs/guide/published.md says how to add a family"
        )
    return family


class _Built:
    """A model with what is known of its parameters before any is read."""

    def __init__(
        self,
        family: Family,
        config: Any,
        checkpoint: Checkpoint | None,
        param_dtype: str | None,
        fields: Mapping[str, Any],
    ):
        allowed = [f for f in RUNTIME if hasattr(config, f) and f != "param_dtype"]
        if unknown := [name for name in fields if name not in allowed]:
            raise TypeError(
                f"load: {unknown[0]!r} is the checkpoint's, or unknown; fields: "
                f"{', '.join(allowed)}"
            )
        if checkpoint is not None and config.layers > len(checkpoint.files):
            raise WeightsError(
                f"{checkpoint.folder}: config.json says {config.layers} layers, and the files hold "
                f"{len(checkpoint.files)} arrays"
            )
        held = "float32" if checkpoint is None else _widest(checkpoint, family)
        param_dtype = param_dtype or held
        compute = "float32" if param_dtype == "float16" else param_dtype
        fields = {"dtype": compute, **fields, "param_dtype": param_dtype}
        self.config = dataclasses.replace(config, **fields)
        self.model = family.build(self.config)
        self.tree = jax.eval_shape(self.model.init, jax.random.key(0))
        self.shapes = {"/".join(path): leaf for path, leaf in leaves(self.tree)}
        prefix = checkpoint is None or any(key.startswith(family.prefix) for key in checkpoint)
        shapes = {path: leaf.shape for path, leaf in self.shapes.items()}
        self.plan = uses(family, config, shapes, prefix)
        if checkpoint is not None:
            check(checkpoint, family, config, self.plan, prefix)

    def placed(
        self, mesh: Mesh | None, rules: Any, checkpoint: Checkpoint | None
    ) -> tuple[Model, Any]:
        """The model and its parameters, where they belong."""
        model, tree = self.model, self.tree
        if mesh is not None:
            place = sharding(model, mesh, rules=rules)
            model = place.model
            if checkpoint is None:
                return model, place.put(tree)
            where = {"/".join(path): leaf for path, leaf in leaves(place.params)}
        elif checkpoint is None:
            return model, tree
        else:
            device = jnp.zeros(0).device  # as jax.default_device says
            where = dict.fromkeys(self.shapes, SingleDeviceSharding(device))
        return model, parameters(checkpoint, self.plan, self.config, self.shapes, where)


_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _widest(checkpoint: Checkpoint, family: Family) -> str:
    """The dtype that holds every array of the file, buffers aside."""
    found: dict[str, str] = {}
    for key in checkpoint:
        if not is_leftover(key, family):
            found.setdefault(checkpoint.stored(key).dtype, key)
    for dtype, key in found.items():
        if dtype not in _FLOATS:
            raise WeightsError(
                f"{checkpoint.folder}: {key} has dtype {dtype}, expected one of "
                f"{', '.join(_FLOATS)}: quantised or double weights are not implemented"
            )
    return _FLOATS[next(iter(found))] if len(found) == 1 else "float32"
