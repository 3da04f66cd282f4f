"""Libraries that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, extra: str, what: str) -> Any:
    """Import a library of an extra.

    Raises:
      ImportError: it is not installed; says which extra holds it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0].replace("_", "-")
        raise ImportError(
            f"{what} needs {library}, which cannot be imported: pip install 'activjax[{extra}]'"
        ) from error
