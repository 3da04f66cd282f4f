"""Where a run keeps its index."""

from __future__ import annotations

from pathlib import Path

CODES = "codes"


def run_index(run: str | Path, case: str | None = None) -> Path:
    """The folder of a run's index: `codes` in the run's folder, or `codes/<case>`.

    An experiment writes it there: `IndexWriter(out.folder / "codes", ..., overwrite=True)`, for a
    run that was stopped after its index was finished writes it again.

    Args:
      run: the run's folder.
      case: which one, where there are several.

    Raises:
      ValueError: the run has no index, several, or none of this case.
    """
    folder = Path(run) / CODES
    if not folder.is_dir():
        raise ValueError(
            f"{run}: this run has no folder '{CODES}': its experiment wrote no index of codes"
        )
    own = sorted(p for p in folder.iterdir() if p.is_dir() and _written(p))
    if case is None:
        if len(own) == 1 and not _written(folder):
            return own[0]
        if own and not _written(folder):
            names = ", ".join(p.name for p in own)
            raise ValueError(f"{folder}: has the codes of cases {names}; name one: --case")
        return folder
    if (folder / case) not in own:
        names = ", ".join(p.name for p in own) or "none"
        raise ValueError(f"{folder}: has no codes of a case '{case}' (there: {names})")
    return folder / case


def _written(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("meta.json", "unfinished"))
