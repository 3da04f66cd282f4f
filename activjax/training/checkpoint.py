"""Checkpoints: a pytree of arrays in, the same bits out, whatever was killed in between.

Orbax stores the arrays; here are the things it leaves open: every dtype and typed random keys
round-trip bit for bit, a digest over every file finds damage before Orbax meets it, and the newest
checkpoint that is whole is the one restored. A checkpoint `folder/<step>` is an Orbax folder of
numpy arrays plus `manifest.json`, written last: without it the checkpoint does not exist. Then it
takes its name; where its writer was killed just before, it is read from where it was written. One
process writes; where one program runs on many hosts all of them call the same functions, each
writes and reads the parts it has, and process 0 does the rest.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from activjax import hosts
from activjax._files import whole
from activjax.training import _orbax, _whole

T = TypeVar("T")
DISK_FULL = ("No space left on device", "File too large", "Disk quota exceeded")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; says which folder and what to do.

    Attributes:
        reason: what went wrong and, of many processes, where; "" where the message says all.
    """

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Restored:
    """What `restore` found: the step it was saved at, the state, and the `meta` saved with it."""

    step: int
    state: Any
    meta: dict[str, Any]


def save(
    folder: str | Path, step: int, state: Any, *, meta: dict[str, Any] | None = None, keep: int = 2
) -> Path:
    """Save `state` as `folder/<step>`, atomically, then drop all but the last `keep`.

    Args:
        folder: holds the checkpoints of one run; created if missing.
        step: names the checkpoint; an existing one of the same step is replaced.
        state: pytree of arrays, typed random keys and Python numbers.
        meta: JSON values kept beside it.
        keep: how many of the newest to keep, at least 1.

    Raises:
        CheckpointError: it could not be written (full disk, no permission); older ones are intact.
    """
    folder = Path(folder)
    path = folder / f"{step:010d}"
    _write(path.absolute(), state, {**(meta or {}), "step": step}, "*")
    hosts.first(
        lambda: [_whole.remove(folder / f"{old:010d}") for old in steps(folder)[:-keep]] and None
    )
    return path


def restore(
    folder: str | Path, like: Any, *, warn: Callable[[str], object] = warnings.warn
) -> Restored | None:
    """The newest whole checkpoint, or None where there is none at all.

    Args:
        folder: as given to `save`.
        like: pytree of the same structure; arrays or `jax.ShapeDtypeStruct`s. Leaves that are
            numpy arrays or Python numbers come back as such, all others as JAX arrays.
        warn: called with one sentence for every damaged checkpoint that is passed over.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    folder = Path(folder)
    reasons = []
    for step in reversed(hosts.first(lambda: steps(folder))):
        path = folder / f"{step:010d}"
        try:
            state, meta = load_tree(path, like)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if reasons:
            warn(f"{'; '.join(reasons)}; continuing from the one before, step {step}")
        return Restored(step, state, meta)
    if reasons:
        raise CheckpointError(
            f"{'; '.join(reasons)}; no older one is left: delete {folder} to start again"
        )
    return None


def steps(folder: str | Path) -> list[int]:
    """The steps that have a complete checkpoint, in increasing order."""
    return sorted(int(name) for name in names(folder) if name.isdigit())


def names(folder: str | Path) -> list[str]:
    """The names of the whole checkpoints in a folder, sorted."""
    return _whole.names(Path(folder))


def save_tree(path: str | Path, tree: Any, *, meta: dict[str, Any] | None = None) -> None:
    """Save one pytree at `path`, atomically, replacing what is there. Raises as `save`."""
    path = Path(path).absolute()
    _write(path, tree, meta or {}, glob.escape(path.name))


def _write(path: Path, tree: Any, meta: dict[str, Any], pattern: str) -> None:
    """`save_tree`, after what killed saves of names like `pattern` have left is removed."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    arrays, entries = {}, []
    for i, (where, leaf) in enumerate(leaves):
        stored, entry = _encode(leaf)
        entries.append({"path": jax.tree_util.keystr(where), **entry})
        if stored.size:  # Orbax refuses empty arrays; shape and dtype say all there is
            arrays[f"{i:05d}"] = stored
    arrays = arrays or {"none": np.zeros(1, np.uint8)}

    part = path.with_name(path.name + _whole.PART)

    def make_room() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ends = (_whole.PART, _whole.OLD)
        _whole.settle_all([old for end in ends for old in path.parent.glob(pattern + end)])
        part.mkdir()

    def commit(files: dict[str, list[Any]]) -> None:
        manifest = {"leaves": entries, "files": files, "meta": meta}
        with whole(part / _whole.MANIFEST) as file:
            json.dump(manifest, file)
        _whole.take_name(path)

    try:
        _first(make_room)
        hosts.every(lambda: _orbax.write(part, arrays), _reason)
        _first(lambda: _orbax.merge(part))
        files = _digests(part)
        _first(lambda: commit(files))
    except hosts.Elsewhere:  # not this checkpoint's: the other process says what
        raise
    except Exception as error:
        # all have ended: nobody writes there; with a manifest it may be the only whole one
        if hosts.index() == 0 and not (part / _whole.MANIFEST).exists():
            shutil.rmtree(part, ignore_errors=True)
        reason = _reason(error)
        raise CheckpointError(f"cannot write {path}: {reason}", reason) from error


def load_tree(path: str | Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """Load what `save_tree` wrote.

    Args:
        path: the folder.
        like: as in `restore`.

    Returns:
        The tree and its `meta`.

    Raises:
        CheckpointError: missing, damaged, or of other leaves, shapes or dtypes than `like`.
    """
    named = path = Path(path).absolute()
    try:
        path = named.with_name(_first(lambda: _whole.place(named).name))
        manifest = _first(lambda: json.loads((path / _whole.MANIFEST).read_text()))
        _check_files(path, manifest)
    except hosts.Elsewhere:
        raise
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({_reason(error)})") from error
    wanted, treedef = jax.tree_util.tree_flatten_with_path(like)
    entries = manifest["leaves"]
    names = [jax.tree_util.keystr(where) for where, _ in wanted]
    if names != [entry["path"] for entry in entries]:
        odd = set(names).symmetric_difference(entry["path"] for entry in entries)
        raise CheckpointError(
            f"checkpoint {path} holds another state: {', '.join(sorted(odd)[:3]) or 'other order'}"
        )
    for (_, leaf), entry in zip(wanted, entries):
        shape, dtype = _aval(leaf)
        if list(shape) != entry["shape"] or dtype != entry["dtype"]:
            raise CheckpointError(
                f"checkpoint {path} holds another state: {entry['path']} is "
                f"{entry['dtype']}{entry['shape']}, expected {dtype}{list(shape)}"
            )
    arrays = _load(path, [leaf for _, leaf in wanted], entries)
    leaves = [
        _decode(arrays.get(f"{i:05d}"), entry, leaf)
        for i, ((_, leaf), entry) in enumerate(zip(wanted, entries))
    ]
    return jax.tree_util.tree_unflatten(treedef, leaves), manifest["meta"]


def _check_files(path: Path, manifest: dict[str, Any]) -> None:
    """Raises `ValueError` where a file is not as it was written."""
    if "files" not in manifest:  # written before every file had a digest of its own
        if hosts.first(lambda: _whole.digest(path)) != manifest["digest"]:
            raise ValueError("its files have changed since it was written")
        return
    found, wanted = _digests(path), manifest["files"]
    if found != wanted:
        odd = next(n for n in sorted({*found, *wanted}) if found.get(n) != wanted.get(n))
        raise ValueError(f"its files have changed since it was written: {odd}")


def _load(path: Path, like: list[Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The stored arrays: whole as numpy, or this process's parts of what lies on many hosts."""
    found = {}

    def read() -> None:
        stored = {  # always said: what other devices have saved has their shardings
            f"{i:05d}": _stored_like(leaf, entry)
            for i, (leaf, entry) in enumerate(zip(like, entries))
            if 0 not in entry["shape"]
        }
        if stored:
            found.update(_orbax.read(path, stored))

    try:
        hosts.every(read, _reason)
    except hosts.Elsewhere:
        raise
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({_reason(error)})") from error
    return found


def _stored_like(leaf: Any, entry: dict[str, Any]) -> Any:
    """What a leaf is stored as, where it is to be loaded."""
    shape, dtype = tuple(entry["shape"]), entry["stored"]
    if dtype == "bytes":
        size = int(np.prod(shape)) * jax.numpy.dtype(entry["dtype"]).itemsize
        return np.zeros(size, np.uint8)
    if "impl" in entry:
        impl = entry["impl"]
        data = jax.eval_shape(
            lambda: jax.random.key_data(jax.random.key(0, impl=impl))  # its words
        )
        shape = (*shape, *data.shape)
    if hosts.spread(leaf):
        return jax.ShapeDtypeStruct(shape, jax.numpy.dtype(dtype), sharding=leaf.sharding)
    return np.zeros(shape, jax.numpy.dtype(dtype))


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)


def _aval(leaf: Any) -> tuple[tuple[int, ...], str]:
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return tuple(leaf.shape), str(leaf.dtype)


def _encode(leaf: Any) -> tuple[Any, dict[str, Any]]:
    shape, dtype = _aval(leaf)
    entry = {"shape": list(shape), "dtype": dtype}
    there = hosts.spread(leaf)  # stays where it is: each process saves what it has
    if _is_key(leaf):
        entry["impl"] = str(jax.random.key_impl(leaf))
        data = jax.random.key_data(leaf)
        data = data if there else np.asarray(data)
        return data, {**entry, "stored": str(data.dtype)}
    if there:
        if leaf.dtype.kind not in "biufc" and dtype != "bfloat16":
            raise CheckpointError(
                f"{dtype} cannot be saved from many hosts; keep the state in bfloat16 or wider"
            )
        return leaf, {**entry, "stored": dtype}
    data = np.ascontiguousarray(np.asarray(leaf)).reshape(shape)
    # what numpy itself knows, and bfloat16, is stored as it is; the rest (float8, int4) as bytes
    native = data.dtype.kind in "biufc" or dtype == "bfloat16"
    if not native:
        data = data.ravel().view(np.uint8)
    return data, {**entry, "stored": dtype if native else "bytes"}


def _decode(data: Any, entry: dict[str, Any], like: Any) -> Any:
    if hosts.spread(data):  # of many hosts: it is where it should be
        return data if "impl" not in entry else _keys(data, entry)
    if "impl" in entry:
        if data is None:  # no keys at all
            return jax.random.split(jax.random.key(0, impl=entry["impl"]), entry["shape"])
        return _placed(_keys(jax.numpy.asarray(data), entry), like)
    dtype = jax.numpy.dtype(entry["dtype"])
    raw = np.zeros(0, dtype) if data is None else data
    raw = raw.view(dtype) if entry["stored"] == "bytes" else raw
    data = raw.reshape(entry["shape"])
    if isinstance(like, (bool, int, float, complex)) and not isinstance(like, np.generic):
        return type(like)(data.item())
    if isinstance(like, np.generic):
        return data[()]
    if isinstance(like, np.ndarray):
        return data
    return _placed(data, like)


def _keys(data: Any, entry: dict[str, Any]) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=entry["impl"])


def _placed(data: Any, like: Any) -> jax.Array:
    """An array where `like` lies."""
    sharding = getattr(like, "sharding", None)
    if sharding is not None and getattr(like, "committed", True):
        return hosts.place(data, sharding)
    return jax.numpy.asarray(data)


def _digests(path: Path) -> dict[str, list[Any]]:
    """Name -> size and hash of every file; of many processes each reads its share."""
    names = _first(lambda: [p.relative_to(path).as_posix() for p in _whole.files(path)])

    def share() -> dict[str, list[Any]]:
        index, count = hosts.part()
        mine = {}
        for name in names[index::count]:
            with open(path / name, "rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
                mine[name] = [file.tell(), digest.hexdigest()]
        return mine

    return {name: entry for of_one in hosts.every(share, _reason) for name, entry in of_one.items()}


def _first(f: Callable[[], T]) -> T:
    """`hosts.first`, with errors that say on which process they were."""

    def told() -> T:
        try:
            return f()
        except Exception as error:
            if not hosts.here():
                raise
            raise hosts.Failed(f"{hosts.here()}: {_reason(error)}") from error

    return hosts.first(told)


def _reason(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, hosts.Failed):
        return text
    for known in DISK_FULL:
        if known in text:  # tensorstore wraps it in a page of C++ detail
            return known
    return (text.splitlines() or [type(error).__name__])[0][:200]
