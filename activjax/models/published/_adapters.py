"""LoRA adapters in the files of the PEFT library, both ways."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from activjax.models._model import Model, Params
from activjax.models._nnx import nested
from activjax.models.published._alone import alone
from activjax.models.published._family import Family
from activjax.models.published._layout import BESIDE, BY_HEAD
from activjax.models.published._options import Options, read_json
from activjax.models.published._plan import Use
from activjax.models.published._safetensors import TensorFile, WeightsError, write
from activjax.models.published._save import family_of, shapes_of
from activjax.models.published._shards import write_json
from activjax.models.sharding._axes import leaves
from activjax.transforms._names import nearest

_CONFIG = "adapter_config.json"
_FILE = "adapter_model.safetensors"
_TOP = "base_model.model."
_KERNEL = "/kernel"
#: Patterns of modules that take no time to match, whatever they say.
_PLAIN = re.compile(r"\^?(\w|\\?\.)+\$?")


#: `a` of a module, and `b` of each of its parts.
Factors = tuple[np.ndarray, list[np.ndarray]]


def save_adapters(
    folder: str | Path,
    model: Model,
    adapters: Params,
    *,
    alpha: float,
    base: str | None = None,
    family: str | Family | None = None,
) -> Path:
    """Write LoRA adapters as a folder that `load_adapters` and the PEFT library read.

    Where a family keeps several of our kernels in one array (queries, keys and values of GPT-2 and
    GPT-NeoX), their adapters become one whose rank is the sum of theirs; it adds the same.

    Args:
      folder: created if missing.
      model: the model that they belong to.
      adapters: of `training.lora.init`.
      alpha: what they are attached with.
      base: the name or folder of the base model, for those who load them.
      family: as in `save`.

    Returns:
      The folder.

    Raises:
      WeightsError: adapters of something that is no kernel of this model, or of another shape; a
        config that no family can express; another process is writing there.
    """
    config: Any = getattr(model, "config", None)
    shapes = shapes_of(model)
    chosen, options, plan = family_of(config, shapes, family)
    head = _head(chosen, options)
    given = _by_kernel(adapters, shapes)
    arrays: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    for use in plan:
        if not any(path in given for path in use.entry.paths):
            continue
        module = _module(use.entry.key)
        for layer, key in enumerate(use.keys):
            stacked = use.layers is not None
            a, b = _fused(use, config, given, layer if stacked else None)
            # a network without a head has no name of its own
            key = key if head else key.removeprefix(chosen.prefix)
            name = _TOP + key.removesuffix(".weight")
            arrays[f"{name}.lora_A.weight"] = np.ascontiguousarray(a.T)
            arrays[f"{name}.lora_B.weight"] = np.ascontiguousarray(b.T)
            ranks[module] = a.shape[1]
    parts = {_module(use.entry.key): use for use in plan}
    # the scale of a sum of adapters is that of each: alpha grows with the rank
    alphas = {m: alpha * r / _own_rank(parts[m], given) for m, r in ranks.items()}
    first = next(iter(ranks))
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if "CausalLM" in chosen.architectures[0] else None,
        "base_model_name_or_path": base,
        "r": ranks[first],
        "lora_alpha": alphas[first],
        "rank_pattern": {m: r for m, r in ranks.items() if r != ranks[first]},
        "alpha_pattern": {m: a for m, a in alphas.items() if a != alphas[first]},
        "target_modules": sorted(ranks),
        "fan_in_fan_out": any(parts[module].entry.layout is BESIDE for module in ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    folder = Path(folder).expanduser()
    with alone(folder):
        part = folder / f"{_FILE}.part"
        write(part, arrays, arrays.values())
        (folder / _CONFIG).unlink(missing_ok=True)
        os.replace(part, folder / _FILE)
        write_json(folder / _CONFIG, about)
    return folder


def load_adapters(
    folder: str | Path, model: Model, *, family: str | Family | None = None
) -> tuple[dict[str, Any], float]:
    """Read LoRA adapters that the PEFT library or `save_adapters` wrote.

    Args:
      folder: with `adapter_config.json` and `adapter_model.safetensors`.
      model: the model that they are for.
      family: as in `save`.

    Returns:
      The adapters and their alpha: `training.lora.attach(params, adapters, alpha=alpha)`. Scales
      that differ between kernels are multiplied into `b`.

    Raises:
      FileNotFoundError: no such folder or files.
      WeightsError: another kind of adapter, an unknown option, adapters of something that the
        model does not have or in some layers only, a damaged file.
    """
    folder = Path(folder).expanduser()
    for name in (_CONFIG, _FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no {name} there, so no adapters of PEFT")
    options = Options(read_json(folder / _CONFIG), str(folder / _CONFIG))
    scales = _Scales(options)
    file = TensorFile(folder / _FILE)
    config: Any = getattr(model, "config", None)
    chosen, _, plan = family_of(config, shapes_of(model), family)
    bare = not any(name.startswith(_TOP + chosen.prefix) for name in file.tensors)
    out: dict[tuple[str, ...], Any] = {}
    used: set[str] = set()
    for use in plan:
        keys = [key.removeprefix(chosen.prefix) if bare else key for key in use.keys]
        names = [_TOP + key.removesuffix(".weight") for key in keys]
        there = [n for n in names if f"{n}.lora_A.weight" in file.tensors]
        if not there:
            continue
        if len(there) < len(names):
            raise WeightsError(
                f"{folder}: adapters of {len(there)} of {len(names)} layers ({there[0]}, ...): "
                "expected all of them"
            )
        used.update(f"{n}.lora_{x}.weight" for n in names for x in "AB")
        factors = _one_rank([_factors(file, name, use, config) for name in names], names, scales)
        for part, path in enumerate(use.entry.paths):
            a = np.stack([f[0] for f in factors])
            b = np.stack([f[1][part] for f in factors])
            stacked = use.layers is not None
            pair = {"a": a, "b": b} if stacked else {"a": a[0], "b": b[0]}
            out[tuple(path.split("/"))] = jax.tree.map(jax.device_put, pair)
    if left := [name for name in file.tensors if name not in used]:
        near = nearest(left[0], used)
        hint = f"; nearest that is used: {near[0]}" if near else ""
        raise WeightsError(f"{folder}: {left[0]} belongs to no kernel of a {chosen.name}{hint}")
    if not out:
        raise WeightsError(f"{folder}: no adapters in {_FILE}")
    return nested(out), scales.alpha


class _Scales:
    """What the options say of scales; other kinds of adapters are refused."""

    def __init__(self, options: Options):
        options.only("peft_type", "LORA")
        options.only("bias", "none")
        for name in ("use_dora", "use_qalora", "lora_bias", "use_bdlora"):
            options.only(name, False, None)
        # the others, such as "pissa", take something off the base model before they add to it
        options.only("init_lora_weights", True, False, None, "gaussian", "orthogonal", "eva")
        options.unused(
            "base_model_name_or_path", "auto_mapping", "inference_mode", "megatron_core",
            "peft_version", "revision", "task_type", "qalora_group_size", "target_modules",
            "fan_in_fan_out", "exclude_modules", "layers_pattern", "layers_to_transform",
            "ensure_weight_tying",
        )  # fmt: skip
        self.alpha = float(options.number("lora_alpha"))
        self.root = options.flag("use_rslora", False)
        options.unused("r", "rank_pattern")
        found = options.part("alpha_pattern", None)
        self.own = {} if found is None else {name: found.number(name) for name in found.given}
        options.finish()
        if not self.alpha:
            raise WeightsError(f"{options.label}: lora_alpha = 0: these adapters add nothing")
        for name in self.own:
            if not _PLAIN.fullmatch(name):
                raise WeightsError(
                    f"{options.label}: alpha_pattern: {name!r}: of patterns only names of modules "
                    "are implemented: write one for each"
                )

    def of(self, module: str, rank: int) -> float:
        """The scale of a module, by its whole name: the first pattern that its end matches."""
        own = (a for k, a in self.own.items() if re.match(rf"(.*\.)?({k})$", module))
        return next(own, self.alpha) / (rank**0.5 if self.root else rank)


def _head(family: Family, options: Mapping[str, Any]) -> bool:
    """Whether the class that the model is saved as has a head."""
    word = options.get("architectures", family.architectures)[0]
    return word.endswith("HeadModel") or not word.endswith("Model")


def _module(key: str) -> str:
    """The name of a module without its layer: what PEFT's options speak of."""
    return key.removesuffix(".weight").rpartition("{}.")[2]


def _by_kernel(adapters: Params, shapes: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for (*above, name), leaf in leaves(adapters):
        path = "/".join(above)
        if path not in shapes or not path.endswith(_KERNEL) or name not in ("a", "b"):
            near = nearest(path, [p for p in shapes if p.endswith(_KERNEL)])
            raise WeightsError(
                f"adapters: the model has no kernel {path!r}; nearest: {', '.join(near)}"
            )
        found.setdefault(path, {})[name] = np.asarray(leaf)
    if not found:
        raise WeightsError("adapters: there are none")
    for path, pair in found.items():
        *stack, d_in, d_out = shapes[path]
        rank = pair["a"].shape[-1] if "a" in pair else 0
        wanted = {"a": (*stack, d_in, rank), "b": (*stack, rank, d_out)}
        if {k: v.shape for k, v in pair.items()} != wanted:
            raise WeightsError(
                f"adapters: {path}: shapes { ({k: v.shape for k, v in pair.items()}) }, expected "
                f"{wanted}"
            )
    return found


def _own_rank(use: Use, given: Mapping[str, Any]) -> int:
    """The rank that our alpha is divided by; one for all parts of an entry."""
    ranks = {given[path]["a"].shape[-1] for path in use.entry.paths if path in given}
    if len(ranks) > 1:
        raise WeightsError(
            f"adapters: {', '.join(use.entry.paths)} are one array in this family, and have ranks "
            f"{sorted(ranks)}: give them one rank"
        )
    return ranks.pop()


def _fused(
    use: Use, config: Any, given: Mapping[str, Any], layer: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The factors of an entry: those of its parts side by side."""
    _own_rank(use, given)
    cut = (lambda x: x) if layer is None else (lambda x: x[layer])
    there = [path for path in use.entry.paths if path in given]
    a = np.concatenate([cut(given[path]["a"]) for path in there], axis=-1)
    rows, row = [], 0
    for path, shape in zip(use.entry.paths, use.shapes, strict=True):
        own = np.zeros((a.shape[1], shape[-1]), a.dtype)
        if path in given:
            b = cut(given[path]["b"])
            own[row : row + len(b)] = b
            row += len(b)
        rows.append(own)
    if len(rows) == 1:
        return a, rows[0]
    joined = use.entry.layout.join(rows, config)
    return a, joined if use.entry.layout is BESIDE else joined.T


def _one_rank(factors: Sequence[Factors], names: Sequence[str], scales: _Scales) -> list[Factors]:
    """The factors of all layers with one rank, zeros added, and one scale, which is in `b`."""
    rank = max(a.shape[1] for a, _ in factors)
    out = []
    for name, (a, parts) in zip(names, factors):
        own = a.shape[1]
        scale = scales.of(name.removeprefix(_TOP), own) / (scales.alpha / rank)
        wide = np.pad(a, [(0, 0), (0, rank - own)])
        tall = [np.pad(b, [(0, rank - own), (0, 0)]) for b in parts]
        # not in bfloat16, which would round the scale
        scaled = [(b.astype(np.float32) * np.float32(scale)).astype(b.dtype) for b in tall]
        out.append((wide, scaled))
    return out


def _factors(file: TensorFile, name: str, use: Use, config: Any) -> Factors:
    """`a` `[d_in, rank]` of a module, and `b` `[rank, d_out]` of each of its parts."""
    if f"{name}.lora_B.weight" not in file.tensors:
        raise WeightsError(f"{file.path}: {name}.lora_B.weight is missing beside its lora_A")
    a, b = (np.array(file.array(f"{name}.lora_{x}.weight")) for x in "AB")
    if kinds := {a.dtype.name, b.dtype.name} - {"float32", "bfloat16", "float16"}:
        raise WeightsError(
            f"{file.path}: {name} has dtype {min(kinds)}, expected float32, bfloat16 or float16"
        )
    d_in, d_out = use.shapes[0][0], sum(shape[-1] for shape in use.shapes)
    if a.ndim != 2 or a.shape[1] != d_in or b.shape != (d_out, a.shape[0]):
        raise WeightsError(
            f"{file.path}: {name}: lora_A {list(a.shape)} and lora_B {list(b.shape)}, expected "
            f"[rank, {d_in}] and [{d_out}, rank]"
        )
    if len(use.shapes) == 1:
        return a.T, [b.T]
    rank = [(a.shape[0], shape[-1]) for shape in use.shapes]
    of_rows = use.entry.layout is BY_HEAD
    return a.T, list(use.entry.layout.split(b if of_rows else b.T, rank, config))
