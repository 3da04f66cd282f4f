"""What a path of the page answers: JSON about runs, files of runs, the page's own files."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.runs.browse import _assets, _details, _live, _paths
from activjax.runs.browse._listing import Listing
from activjax.runs.browse._packed import dumps
from activjax.runs.browse._sweeps import RUNNING, UNFINISHED, sweep_data
from activjax.runs.browse._tail import Tail
from activjax.runs.errors import RunError, StorageError
from activjax.runs.sweep._index_file import Entry
from activjax.runs.sweep.folder import SweepFolder
from activjax.runs.sweep.index import DONE, FAILED, PRUNED, Line, counts, rows

_TAILS, _SWEEPS, _INDICES = 48, 4, 8  # kept in memory
_HTML, _JSON, _TEXT = "text/html", "application/json", "text/plain"
#: How files of a run are shown; all others are offered for download.
TYPES = {".png": "image/png", ".json": _JSON, ".txt": _TEXT, ".yaml": _TEXT, ".yml": _TEXT,
         ".py": _TEXT, ".html": _HTML}  # fmt: skip
_LARGEST = 256 * 2**20  # bytes of a file


@dataclasses.dataclass(frozen=True)
class Answer:
    """The body of an answer and its type; `file` is one of a run's own, which nobody trusts."""

    body: bytes
    type: str
    file: str | None = None


class Routes:
    """Answers for one root; may be asked by several threads.

    Args:
        root: the folder of all runs.
    """

    def __init__(self, root: Path):
        self.root = root.resolve()
        self._lock = threading.Lock()
        self._listing = Listing(self.root, self._count)
        self._known: OrderedDict[tuple[str, str], dict[str, Entry]] = OrderedDict()
        self._made: OrderedDict[Any, dict[str, Any]] = OrderedDict()
        self._tails: OrderedDict[Path, Tail] = OrderedDict()

    def answer(self, parts: Sequence[str], query: Mapping[str, str]) -> Answer | None:
        """The answer to a path; None where there is nothing.

        Args:
            parts: the names in the path, decoded; checked here.
            query: what stands after the question mark.
        """
        if list(parts) == [""]:
            return Answer(_assets.shell().encode(), _HTML)
        if list(parts) == ["app.js"]:
            return Answer(_assets.script().encode(), "text/javascript")
        if list(parts) == ["style.css"]:
            return Answer(_assets.served_style().encode(), "text/css")
        if not all(map(_paths.plain, parts)):
            return None
        kind, *rest = parts
        if kind == "file" and len(rest) > 2:
            return self._file(rest)
        if kind != "api" or not rest:
            return None
        makers = {"list": (0, 0), "sweep": (2, 2), "cell": (3, 3), "run": (2, 2),
                  "metrics": (2, 3), "live": (2, 2)}  # fmt: skip
        what, *place = rest
        least, most = makers.get(what, (1, 0))
        if not least <= len(place) <= most:
            return None
        try:
            data = getattr(self, f"_{what}")(place, query)
        except RunError as error:
            data = {"kind": "error", "error": str(error)}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # a damaged file of a run: said, and the page stays
            data = {"kind": "error", "error": f"cannot be read ({type(error).__name__}: {error})"}
        return None if data is None else Answer(dumps(data).encode("utf-8", "replace"), _JSON)

    def _list(self, _: Sequence[str], query: Mapping[str, str]) -> dict[str, Any]:
        with self._lock:
            return self._listing.answer(read="quick" not in query)

    def _sweep(self, place: Sequence[str], _: Mapping[str, str]) -> dict[str, Any] | None:
        folder = self._sweep_folder(place)
        if folder is None:
            return None
        names = ("sweep.json", "cells.jsonl", "cells", "result.json", "provenance.json")
        mark = (tuple(place), *(_paths.stamp(folder.path / name) for name in names))
        with self._lock:
            data = self._made.get(mark)
            if data is None:
                data = sweep_data(folder, self._lines(folder, place))
                self._made[mark] = data
                while len(self._made) > _SWEEPS:
                    self._made.popitem(last=False)
        items = _paths.read_json(self.root, [*place, "contents.json"])
        saved = _details.saved(items.get("items") if isinstance(items, dict) else None, "")
        saved["report"] = (folder.path / "report.html").is_file()
        running = data["state"] == UNFINISHED and _live.is_running(self.root, place)
        return {**data, **saved, "state": RUNNING if running else data["state"]}

    def _cell(self, place: Sequence[str], _: Mapping[str, str]) -> dict[str, Any] | None:
        found = _details.cell_details(self.root, place[:2], place[2])
        return None if found is None else found | {"place": list(place)}

    def _run(self, place: Sequence[str], _: Mapping[str, str]) -> dict[str, Any] | None:
        found = _details.run_details(self.root, place)
        return None if found is None else found | {"place": list(place)}

    def _live(self, place: Sequence[str], _: Mapping[str, str]) -> dict[str, Any] | None:
        if self._sweep_folder(place) is None:
            return None
        return {"kind": "live", "batches": _live.running_batches(self.root, place)}

    def _metrics(self, place: Sequence[str], query: Mapping[str, str]) -> dict[str, Any] | None:
        parts = [*place[:2], *(["batches", place[2]] if len(place) == 3 else []), "metrics.jsonl"]
        path = _paths.inside(self.root, parts)
        if path is None or not path.is_file():
            return None
        with self._lock:
            tail = self._tails.pop(path, None) or Tail(path)
            self._tails[path] = tail
            while len(self._tails) > _TAILS:
                self._tails.popitem(last=False)
        tail.advance()
        cell = query.get("cell", "")
        return tail.answer(query.get("since", ""), int(cell) if cell.isdecimal() else None)

    def _file(self, parts: Sequence[str]) -> Answer | None:
        path = _paths.inside(self.root, parts)
        if path is None or not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        data = _paths.read(self.root, parts)
        kind = TYPES.get(path.suffix.lower(), "application/octet-stream")
        return None if data is None else Answer(data, kind, path.name)

    def _sweep_folder(self, place: Sequence[str]) -> SweepFolder | None:
        path = _paths.inside(self.root, place)
        if path is None or not (path / "sweep.json").is_file():
            return None
        if _paths.leaks(self.root, path) or _paths.leaks(self.root, path / "cells"):
            raise StorageError("a link in this folder leads outside the root: it is not read")
        return SweepFolder(path)

    def _lines(self, folder: SweepFolder, place: Sequence[str]) -> list[Line]:
        key = (place[0], place[1])
        known = self._known.pop(key, None)
        self._known[key] = known = {} if known is None else known
        while len(self._known) > _INDICES:
            self._known.popitem(last=False)
        return rows(folder, known)

    def _count(self, name: str, id: str) -> tuple[int, int, int, int]:
        folder = self._sweep_folder([name, id])
        if folder is None:
            return 0, 0, 0, 0
        count = counts(self._lines(folder, [name, id]))
        return count[DONE], count[FAILED], count.get(PRUNED, 0), sum(count.values())
