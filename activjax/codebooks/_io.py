"""Codebooks as a folder: what they are, and their arrays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from activjax.codebooks._books import Specs, specs_of
from activjax.codebooks._index._folder import write_json
from activjax.codebooks._init import Codebooks
from activjax.codebooks._spec import Spec
from activjax.codebooks._strategy import Strategy
from activjax.training import checkpoint

_ABOUT = "codebooks.json"
_FORMAT = 1


def save(folder: str | Path, spec: Specs, codebooks: Codebooks) -> Path:
    """Write codebooks as a folder that `load` reads: `codebooks.json` (written last) and `codes/`.

    Args:
      folder: created if missing; codebooks in it are replaced.
      spec: as given to `init`.
      codebooks: as `init` returns them.

    Raises:
      TypeError, ValueError: codebooks that are not of the spec.
      CheckpointError: the folder cannot be written.
    """
    folder = Path(folder)
    own = specs_of(spec, codebooks)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _ABOUT).unlink(missing_ok=True)
    checkpoint.save_tree(folder / "codes", codebooks)
    shapes = jax.tree.map(lambda x: [str(x.dtype), *x.shape], dict(codebooks))
    about = {
        "format": _FORMAT,
        "spec": {site: dataclasses.asdict(one) for site, one in own.items()},
        "arrays": shapes,
    }
    write_json(folder / _ABOUT, about)
    return folder


def load(folder: str | Path) -> tuple[dict[str, Spec], Codebooks]:
    """The spec, by site, and the codebooks that `save` wrote, bit for bit.

    Raises:
      FileNotFoundError: no codebooks there, or unfinished ones.
      ValueError: of a format that this version does not know, or not as `save` writes it; of
        float64 where that is not enabled.
      CheckpointError: damaged arrays.
    """
    folder = Path(folder)
    try:
        text = (folder / _ABOUT).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as e:
        raise FileNotFoundError(f"no codebooks in {folder}: it has no {_ABOUT}") from e
    try:
        about = json.loads(text)
        known = about["format"]
        if known == _FORMAT:
            spec = {site: _spec(one) for site, one in about["spec"].items()}
            like = {
                site: {
                    name: jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
                    for name, (dtype, *shape) in book.items()
                }
                for site, book in about["arrays"].items()
            }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as e:
        raise ValueError(f"{folder / _ABOUT} is not as codebooks.save writes it: {e}") from e
    if known != _FORMAT:
        raise ValueError(f"{folder / _ABOUT} has format {known!r}, this version reads {_FORMAT}")
    for site, book in like.items():
        for name, leaf in book.items():
            if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
                raise ValueError(
                    f"{folder}: {name!r} of {site!r} is {leaf.dtype}, which would be rounded: set "
                    "jax_enable_x64, or save codebooks in float32"
                )
    codebooks, _ = checkpoint.load_tree(folder / "codes", like)
    specs_of(spec, codebooks)
    return spec, codebooks


def _spec(given: Mapping[str, Any]) -> Spec:
    return Spec(**{**given, "strategy": Strategy(**given["strategy"])})
