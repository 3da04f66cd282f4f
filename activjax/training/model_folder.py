"""A trained decoder as a folder: what it is, its parameters, its tokenizer.

model.json          the decoder's configuration, and which tokenizer
params/             a checkpoint of the parameters
tokenizer.json      and what lies beside it, where the tokenizer is not the one of bytes
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax

from activjax import data
from activjax.models import Decoder, DecoderConfig, Loaded, decoder
from activjax.training import checkpoint

#: Written last: a folder that has it is whole.
ABOUT = "model.json"
PARAMS = "params"
_FORMAT = 1
_BYTES = "bytes"
_FILE = "tokenizer.json"


def save_model(
    folder: str | Path, model: Decoder, params: Any, *, tokenizer: str | Path | None = None
) -> Path:
    """Write a decoder as a folder that `load_model` reads.

    `model.json` is written last: a folder without it is unfinished.

    Args:
      folder: created if missing; what was there of a model is replaced.
      model: the decoder.
      params: its parameters.
      tokenizer: a `tokenizer.json` or the folder of a published tokenizer, whose files are copied,
        chat templates included; None for bytes.

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
    check_vocabulary("save_model", found, model.config.vocab)
    (folder / ABOUT).unlink(missing_ok=True)
    checkpoint.save_tree(folder / PARAMS, params)
    if tokenizer is not None:
        _copy_tokenizer(Path(tokenizer).expanduser(), folder)
        if data.load_tokenizer(folder, end=found.end) != found:
            raise ValueError(
                f"save_model: the files of {tokenizer}, copied to {folder}, give another tokenizer"
            )
    about = {
        "format": _FORMAT,
        "kind": "decoder",
        "tokenizer": _BYTES if tokenizer is None else "files",
        "end": found.end,  # which may have come from a file that belongs to another model
        "config": dataclasses.asdict(model.config),
    }
    part = folder / (ABOUT + ".tmp")
    part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    os.replace(part, folder / ABOUT)
    return folder


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """The files of a tokenizer, in the place of those of another one."""
    data.copy_tokenizer(source if source.is_dir() else source.parent, folder)
    if source.is_file() and source.resolve() != (folder / _FILE).resolve():
        shutil.copyfile(source, folder / _FILE)


def load_model(folder: str | Path, *, abstract: bool = False) -> Loaded:
    """Read a folder that `save_model` wrote.

    Args:
      folder: the folder.
      abstract: `jax.ShapeDtypeStruct`s in the place of parameters, which are not read.

    Raises:
      FileNotFoundError: no such folder, or none with a finished model.
      ValueError: `model.json` says something else than a decoder, or of a newer format.
      CheckpointError: the parameters are damaged, or of another configuration.
    """
    folder = Path(folder).expanduser()
    path = folder / ABOUT
    if not path.is_file():
        inside = [p.parent.name for p in folder.glob(f"*/{ABOUT}")] if folder.is_dir() else []
        hint = f"; there is one in {folder / inside[0]}" if inside else ""
        raise FileNotFoundError(
            f"{folder}: no {ABOUT} there, so no model{hint}. training.save_model writes one"
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
    if about["tokenizer"] == _BYTES:
        tokenizer = data.byte_tokenizer()
    else:
        tokenizer = data.load_tokenizer(folder, end=about.get("end"))
    check_vocabulary(str(path), tokenizer, model.config.vocab)
    like = jax.eval_shape(model.init, jax.random.key(0))
    if abstract:
        return Loaded(model, like, tokenizer)
    params, _ = checkpoint.load_tree(folder / PARAMS, like)
    return Loaded(model, params, tokenizer)


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


def check_vocabulary(what: str, tokenizer: data.Tokenizer, vocab: int) -> None:
    """Refuse a tokenizer that can give a text ids which a model does not have.

    Special tokens beyond them are let pass (Gemma 3 has one, for images): no text becomes one.

    Raises:
      ValueError: begins with `what`.
    """
    beyond = tokenizer.byte_lengths[vocab:].any()
    if beyond or max(tokenizer.end, *tokenizer.begin, 0) >= vocab:
        raise ValueError(
            f"{what}: the tokenizer has {tokenizer.vocab} ids, the model {vocab}: it is another "
            "model's tokenizer"
        )
