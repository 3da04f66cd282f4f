"""Which trackers are wanted, and whether they can be had: asked before any work is done."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from activjax.runs._words import did_you_mean
from activjax.runs.errors import ConfigError
from activjax.runs.trackers.protocol import Tracker

ENVIRONMENT = "ACTIVJAX_TRACK"

#: Tracker -> the packages that it needs; each has an adapter `_<name>.py` here.
NAMES = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
}


def chosen(given: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """The trackers that are wanted.

    Args:
        given: names, or text with commas between them; None means the variable ACTIVJAX_TRACK.

    Raises:
        ConfigError: there is no such tracker, or its package is not installed.
    """
    where = "track"
    if given is None:
        given, where = os.environ.get(ENVIRONMENT, ""), ENVIRONMENT
    words = given.split(",") if isinstance(given, str) else given
    names = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    for name in names:
        if name not in NAMES:
            known = ", ".join(NAMES)
            raise ConfigError(f"{where}: no tracker '{name}'{did_you_mean(name, NAMES)} ({known})")
        for package in NAMES[name]:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"{where}: the package {package} is not installed; "
                    '`pip install "activjax[track]"` brings it, or leave the tracker out'
                )
    return names


def make(name: str, place: Path) -> Tracker:
    """An adapter.

    Args:
        name: of `NAMES`.
        place: a folder for its files.
    """
    return importlib.import_module(f"activjax.runs.trackers._{name}").make(place)
