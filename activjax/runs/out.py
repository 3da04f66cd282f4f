"""`out`: what an experiment's `finish`, `combine` or `main` saves its findings with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activjax.runs.result import _plain
from activjax.runs.store import storing

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*$")


def check_name(name: Any, what: str) -> str:
    """Return a name that can be a file name. Raises `ValueError`."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(f"{what} names a file: letters, digits and _ . + = -, got {name!r}")
    return name


@dataclasses.dataclass
class Out:
    """Where an experiment puts figures, arrays and tables, and finds what was recorded.

    Attributes:
        folder: the run's folder.
        config: the case's config, every field with its value.
        seeds: `[cells]`, the seed of every cell.
        case: the case's name, or None.
        history: metric -> `[cells, steps, ...]`, every step of the training; for `finish` only.
        measured: step -> what `measure` returned, numpy arrays with a leading cell axis.
        contents: what has been saved, in order, as it is listed in `contents.json`.
    """

    folder: Path
    config: Any
    seeds: np.ndarray
    case: str | None = None
    history: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    measured: dict[int, Any] = dataclasses.field(default_factory=dict)
    contents: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    say: Callable[[str], object] = print
    writes: bool = True  # False on all but one of the processes that run the same `main`

    def figure(self, name: str, fig: Any, *, caption: str = "") -> None:
        """Save a matplotlib figure as `figures/<name>.png` and close it."""
        import matplotlib.pyplot as plt

        path = self._path("figures", name, ".png")
        if self.writes:
            with storing(path):
                # without the version of matplotlib, equal figures are equal files
                fig.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})
        plt.close(fig)
        self._list("figure", name, path, caption=str(caption))

    def array(self, name: str, array: Any) -> None:
        """Save one array as `arrays/<name>.npy`; bfloat16 and float8 widen to float32, exactly."""
        import jax

        from activjax import hosts

        if jax.numpy.issubdtype(getattr(array, "dtype", np.float32), jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        value = hosts.fetch(array)
        if value.dtype.kind == "V":  # numpy's format has no name for them
            floating = jax.numpy.issubdtype(value.dtype, np.floating)
            value = value.astype(np.float32 if floating else np.int32)
        path = self._path("arrays", name, ".npy")
        if self.writes:
            with storing(path):
                np.save(path, value, allow_pickle=False)
        self._list("array", name, path, shape=list(value.shape), dtype=str(value.dtype))

    def arrays(self, tree: Any = None, **named: Any) -> None:
        """Save every array of a pytree (names joined by `.`) and every keyword argument."""
        import jax

        for path, leaf in jax.tree_util.tree_leaves_with_path({**(tree or {}), **named}):
            self.array(jax.tree_util.keystr(path, simple=True, separator="."), leaf)

    def load(self, name: str, case: str | None = None) -> np.ndarray:
        """An array saved before, by this case or (in `combine`) by the case named.

        Raises:
            FileNotFoundError: there is none; lists those there are.
        """
        folder = self.folder / "arrays" / (case or self.case or "")
        path = folder / f"{name}.npy"
        if not path.is_file():
            names = ", ".join(sorted(p.stem for p in folder.glob("*.npy"))) or "none"
            raise FileNotFoundError(f"no array '{name}' saved in {folder} (there: {names})")
        return np.load(path, allow_pickle=False)

    def kept(
        self, name: str, settings: Mapping[str, Any], like: Any, make: Callable[[], Any]
    ) -> Any:
        """What `make()` returns, a pytree of arrays, made once for all runs of equal settings.

        For what costs much and is shared, such as a pre-trained network: it lies in `.kept` in the
        folder of all runs, so that a run that was killed, or one that changes something else, does
        not pay for it again.

        Args:
            name: says what it is.
            settings: everything that `make` depends on, as JSON values. Changed sources of activjax
                or of the experiment count as another setting.
            like: the tree that `make` returns, or its abstract shapes.
            make: a function written in the experiment.
        """
        from activjax.runs.kept import kept

        return kept(self.folder.parent.parent, check_name(name, "kept"), settings, like, make)

    def table(
        self,
        name: str,
        rows: Sequence[Sequence[Any] | Mapping[str, Any]],
        columns: Sequence[str],
        caption: str = "",
    ) -> None:
        """Keep a table for the report: text, numbers, booleans or None, one value per column.

        Raises:
            ValueError: a row that does not fit the columns.
        """
        plain = []
        for i, row in enumerate(rows):
            values = [row[c] for c in columns] if isinstance(row, Mapping) else list(row)
            if len(values) != len(columns):
                raise ValueError(
                    f"table {name}: row {i} has {len(values)} values for {len(columns)} columns"
                )
            plain.append([_cell(v, f"table {name}, row {i}") for v in values])
        check_name(name, "table")
        self.contents.append(
            {"kind": "table", "name": name, "case": self.case, "caption": str(caption),
             "columns": [str(c) for c in columns], "rows": plain}
        )  # fmt: skip

    def text(self, name: str, text: str, *, caption: str = "") -> None:
        """Keep a text for the report, shown as it is: samples, prompts, logs."""
        check_name(name, "text")
        self.contents.append(
            {"kind": "text", "name": name, "case": self.case, "caption": str(caption),
             "text": str(text)}
        )  # fmt: skip

    def log(self, text: str) -> None:
        """Show a line to whoever watches the run; it is not kept."""
        self.say(str(text))

    def _path(self, kind: str, name: str, suffix: str) -> Path:
        check_name(name, kind.removesuffix("s"))
        folder = self.folder / kind / (self.case or "")
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}{suffix}"

    def _list(self, kind: str, name: str, path: Path, **more: Any) -> None:
        file = path.relative_to(self.folder).as_posix()
        entry = {"kind": kind, "name": name, "case": self.case, "file": file, **more}
        self.contents = [c for c in self.contents if c.get("file") != file] + [entry]


def _cell(value: Any, where: str) -> Any:
    if value is None:
        return None
    number = value.item() if getattr(value, "size", 2) == 1 and hasattr(value, "item") else value
    if isinstance(number, float) and number - number != 0:  # NaN or infinite: strict JSON has none
        return str(number)
    return _plain(number, where)
