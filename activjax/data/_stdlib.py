"""The Python standard library's own source: 11 MB of real code, nothing to download."""

from __future__ import annotations

import fnmatch
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from activjax.data._corpus import Corpus

_TESTS = {"test", "tests", "idle_test"}


def stdlib(*, leave_out: str | Sequence[str] = ("pydoc_data/*",)) -> Corpus:
    """The source of the running Python's standard library, a document a file.

    The rule: every `.py` file of the modules that `sys.stdlib_module_names` lists (so nothing
    installed later, and nothing that the build generated for one machine), less what lies in a
    folder `test`, `tests` or `idle_test`, less `leave_out`. Names are relative, such as
    `asyncio/base_events.py`, and sorted. Python 3.11.7: 725 files, 11.3 MB. Of these 1.4 MB are
    the tables of `encodings`, many nearly alike, so that a split has some on both sides: held-out
    text then takes a 5-gram model 1 to 10 % fewer bits. `leave_out=("pydoc_data/*",
    "encodings/*")` has none of that (603 files, 9.9 MB).

    Args:
      leave_out: a glob over names, or several; `*` also matches `/`. `pydoc_data` is one file of
        the manual's text, as large as 7 % of all code.

    Raises:
      ValueError: a glob that matches nothing, or a Python that comes without its source files.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = {}
    for module in sys.stdlib_module_names:  # a walk over all of `root` would see what is installed
        for path in (root / f"{module}.py", *(root / module).rglob("*.py")):
            relative = path.relative_to(root)
            if path.is_file() and not _TESTS.intersection(relative.parts):
                files[relative.as_posix()] = path
    if not files:
        raise ValueError(f"stdlib: this Python has no source files in {root}; use another corpus")
    for pattern in [leave_out] if isinstance(leave_out, str) else leave_out:
        matched = fnmatch.filter(files, pattern)
        if not matched:
            raise ValueError(f"stdlib: leave_out: no file matches {pattern!r}")
        for name in matched:
            del files[name]
    names = sorted(files)
    documents = ((name, files[name].read_bytes()) for name in names)
    return Corpus.of(documents, label="stdlib", files=[files[name] for name in names])
