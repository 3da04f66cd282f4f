"""Whether the file system of a folder carries locks from one machine to another."""

from __future__ import annotations

from pathlib import Path

_ALONE = {"nfs": ("nolock", "local_lock=all", "local_lock=flock"), "lustre": ("localflock",)}


def warning(folder: Path, mounts: str | None = None) -> str | None:
    """One line if two machines could hold the same lock there, else None.

    Args:
        folder: of a sweep.
        mounts: as in `/proc/self/mounts`; None reads it (where there is none, nothing is known).
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    here = folder.resolve().as_posix()
    found = ("", "", "")
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) >= 4:
            point = parts[1].replace("\\040", " ")
            below = here == point or here.startswith(point.rstrip("/") + "/")
            if below and len(point) >= len(found[0]):
                found = (point, parts[2], parts[3])
    point, kind, options = found
    given = options.split(",")
    family = next((name for name in _ALONE if kind.startswith(name)), None)
    if family is None:
        return None
    bad = next((word for word in _ALONE[family] if word in given), None)
    if bad is None and family == "lustre" and "flock" not in given:
        bad = "no flock"
    if bad is None:
        return None
    return (
        f"{point} ({kind}, {bad}) does not carry locks between machines: never start a second "
        "driver for this sweep while one runs, or mount it with locks (lustre: flock; nfs: lock)"
    )
