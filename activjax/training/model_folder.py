"""A trained decoder as a folder: what it is, its parameters, its tokenizer.

model.json          the decoder's configuration, and which tokenizer
params/             a checkpoint of the parameters
tokenizer.json      where the tokenizer is not the one of bytes
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax

from activjax import data
from activjax.models import Decoder, DecoderConfig, decoder
from activjax.training import checkpoint

_ABOUT = "model.json"
_FORMAT = 1


class Trained(NamedTuple):
    """A decoder with its parameters and its tokenizer."""

    model: Decoder
    params: Any
    tokenizer: data.Tokenizer


def save_model(
    folder: str | Path, model: Decoder, params: Any, *, tokenizer: str | Path | None = None
) -> Path:
    """Write a decoder as a folder that `load_model` reads.

    `model.json` is written last: a folder without it is unfinished.

    Args:
      folder: created if missing; what was there of a model is replaced.
      model: the decoder.
      params: its parameters.
      tokenizer: a `tokenizer.json`, or the folder that holds one; None for bytes.

    Returns:
      The folder.

    Raises:
      FileNotFoundError: no such tokenizer file.
      ValueError: parameters of another model, or a tokenizer with more ids than the model.
      CheckpointError: the folder cannot be written.
    """
    folder = Path(folder)
    like = jax.eval_shape(model.init, jax.random.key(0))
    if problem := _differs(like, params):
        raise ValueError(f"save_model: the parameters are not this model's: {problem}")
    found = data.byte_tokenizer() if tokenizer is None else data.load_tokenizer(tokenizer)
    _check_vocabulary("save_model", found, model.config)
    (folder / _ABOUT).unlink(missing_ok=True)
    checkpoint.save_tree(folder / "params", params)
    if tokenizer is not None:
        source = Path(tokenizer).expanduser()
        source = source / "tokenizer.json" if source.is_dir() else source
        for path in (source, source.with_name("tokenizer_config.json")):
            if path.is_file() and path.parent.resolve() != folder.resolve():
                name = "tokenizer.json" if path == source else path.name
                shutil.copyfile(path, folder / name)
    about = {
        "format": _FORMAT,
        "kind": "decoder",
        "tokenizer": "bytes" if tokenizer is None else "tokenizer.json",
        "config": dataclasses.asdict(model.config),
    }
    part = folder / (_ABOUT + ".tmp")
    part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    os.replace(part, folder / _ABOUT)
    return folder


def load_model(folder: str | Path) -> Trained:
    """Read a folder that `save_model` wrote.

    Raises:
      FileNotFoundError: no such folder, or none with a finished model.
      ValueError: `model.json` says something else than a decoder, or of a newer format.
      CheckpointError: the parameters are damaged, or of another configuration.
    """
    folder = Path(folder).expanduser()
    path = folder / _ABOUT
    if not path.is_file():
        inside = [p.parent.name for p in folder.glob(f"*/{_ABOUT}")] if folder.is_dir() else []
        hint = f"; there is one in {folder / inside[0]}" if inside else ""
        raise FileNotFoundError(
            f"{folder}: no {_ABOUT} there, so no model{hint}. training.save_model writes one"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        version, kind = about["format"], about["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the description of a model: {error!r}") from None
    if version != _FORMAT or kind != "decoder":
        raise ValueError(
            f"{path}: a {kind!r} in format {version!r}, expected a 'decoder' in format {_FORMAT}"
        )
    try:
        model = decoder(DecoderConfig(**about["config"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    own = about["tokenizer"]
    tokenizer = data.byte_tokenizer() if own == "bytes" else data.load_tokenizer(folder / own)
    _check_vocabulary(str(path), tokenizer, model.config)
    like = jax.eval_shape(model.init, jax.random.key(0))
    params, _ = checkpoint.load_tree(folder / "params", like)
    return Trained(model, params, tokenizer)


def _differs(like: Any, params: Any) -> str:
    """How a tree of arrays differs in its names, shapes or dtypes; nothing if it does not."""

    def listed(tree: Any) -> dict[str, tuple[Any, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(k): (tuple(v.shape), str(v.dtype)) for k, v in leaves}

    wanted, given = listed(like), listed(params)
    for name in [*wanted, *given]:
        if wanted.get(name) != given.get(name):
            shown = ["nothing" if x is None else x for x in (wanted.get(name), given.get(name))]
            return f"{name} should be {shown[0]}, it is {shown[1]}"
    return ""


def _check_vocabulary(what: str, tokenizer: data.Tokenizer, config: DecoderConfig) -> None:
    if tokenizer.vocab > config.vocab:
        raise ValueError(
            f"{what}: the tokenizer has {tokenizer.vocab} ids, the model {config.vocab}: it is "
            "another model's tokenizer"
        )
