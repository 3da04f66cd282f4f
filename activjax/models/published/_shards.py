"""The arrays of a folder: one file, or the shards that an index lists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from activjax import _files
from activjax.models.published._options import read_json
from activjax.models.published._safetensors import Stored, TensorFile, WeightsError, write
from activjax.transforms._names import nearest

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_LONGEST_INDEX = 100_000_000  # as long as headers may be
_OTHERS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5", "*.gguf")


class Checkpoint:
    """All arrays of a folder: one `model.safetensors`, or the shards that its index lists.

    Raises:
      FileNotFoundError: no such file, or a shard is missing.
      WeightsError: a file that is damaged, an index that is, or the same name in two shards.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: dict[str, TensorFile] = {}
        for file in map(TensorFile, _shards_of(folder)):
            for name in file.tensors:
                if name in self.files:
                    raise WeightsError(
                        f"{folder}: {name} is in {self.files[name].path.name} and in "
                        f"{file.path.name}"
                    )
                self.files[name] = file

    def rename(self, ends: Mapping[str, str]) -> None:
        """Know arrays by what the ends of their names are called now."""
        for name in list(self.files):
            for old, new in ends.items():
                if name.endswith(old):
                    file, now = self.files.pop(name), name.removesuffix(old) + new
                    if now in self.files:
                        raise WeightsError(f"{self.folder}: both {name} and {now} are there")
                    self.files[now] = file
                    file.tensors[now] = file.tensors.pop(name)

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def stored(self, name: str) -> Stored:
        """What is stored under a name."""
        return self.files[name].tensors[name]

    def array(self, name: str) -> np.ndarray:
        """A view of an array."""
        return self.files[name].array(name)

    def read(self, name: str) -> np.ndarray:
        """An array in memory."""
        return self.files[name].read(name)

    def read_into(self, name: str, out: np.ndarray) -> bool:
        """Read an array into another; False where it has another dtype."""
        return self.files[name].read_into(name, out)

    def forget(self, name: str) -> None:
        """Let the system drop its pages."""
        self.files[name].forget(name)


def _shards_of(folder: Path) -> list[Path]:
    if (folder / SINGLE).is_file():  # before an index, as its library has it
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        others = sorted(p.name for pattern in _OTHERS for p in folder.glob(pattern))
        named = sorted(p.name for p in folder.glob("*.safetensors"))
        if named:
            hint = f"; there is {', '.join(named[:4])}: rename it, or write an index"
        elif others:
            hint = (
                f"; {', '.join(others[:4])} cannot be loaded (pickle can run any code): convert it "
                "with the library that wrote it, save_pretrained(..., safe_serialization=True)"
            )
        else:
            hint = ""
        raise FileNotFoundError(f"{folder}: no {SINGLE} and no {INDEX} there{hint}")
    listed = read_json(index, _LONGEST_INDEX).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
        raise WeightsError(
            f"{index}: not an index of shards: expected a weight_map, from names of arrays to files"
        )
    names = sorted(set(listed.values()))
    out = []
    for name in names:
        if Path(name).name != name:
            raise WeightsError(f"{index}: {name!r} is not the name of a file in this folder")
        if not (folder / name).is_file():
            there = [p.name for p in folder.glob("*.safetensors")]
            near = nearest(name, there)
            raise FileNotFoundError(
                f"{folder}: the shard {name} is missing ({len(there)} of {len(names)} are there"
                + (f"; nearest: {', '.join(near)})" if near else ")")
            )
        out.append(folder / name)
    return out


#: A key, the shape and dtype of its array, and what makes it.
Item = tuple[str, Any, Callable[[], np.ndarray]]


def write_all(folder: Path, items: Iterable[Item], shard_bytes: int, finished: Path) -> None:
    """Write arrays as one file or several; what was there is replaced once all are written.

    The caller holds the folder (`alone`).

    Args:
      folder: where.
      items: the arrays, each made when its turn comes.
      shard_bytes: of a file, but for an array that is larger.
      finished: a file that says that the folder is whole: removed before anything is replaced.
    """
    shards: list[list[Item]] = [[]]
    filled = total = 0
    for item in items:
        size = item[1].size * item[1].dtype.itemsize
        if filled and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        filled, total = filled + size, total + size
        shards[-1].append(item)
    last = len(shards)
    names = [f"model-{n:05}-of-{last:05}.safetensors" for n in range(1, last + 1)]
    names = names if last > 1 else [SINGLE]
    for old in folder.glob("model*.safetensors.part"):  # of a writer that was killed
        old.unlink()
    parts = [folder / f"{name}.part" for name in names]
    for part, shard in zip(parts, shards):
        write(part, {key: leaf for key, leaf, _ in shard}, (make() for _, _, make in shard))
    finished.unlink(missing_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    for old in folder.glob("model*.safetensors"):
        old.unlink()
    for part, name in zip(parts, names):
        os.replace(part, folder / name)
    if last > 1:
        where = {key: name for name, shard in zip(names, shards) for key, _, _ in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def write_json(path: Path, value: Any) -> None:
    """A JSON file that has its name once it is whole."""
    with _files.whole(path) as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
