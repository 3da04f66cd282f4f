"""What the viewer shows beside the index: effects on the output, steered texts, labels."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from activjax.codebooks._index import Code, Index, open_index
from activjax.codebooks._index._folder import write_json

VIEW, _LABELS = "view", "activjax code labels"
_TEXTS = ("prompt", "setting")
_OUTPUTS = ("baseline", "steered", "random")
Effects = Mapping[
    str, tuple[Int[np.ndarray, "*loops groups codes m"], Float[np.ndarray, "*loops groups codes m"]]
]


@dataclass(frozen=True)
class View:
    """What `save_view` kept.

    Attributes:
      effects: by site `(ids, values)`, each `[codebooks, codes, m]`.
      steering: records as they were given.
      labels: text of each labelled code.
    """

    effects: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    steering: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[Code, str] = field(default_factory=dict)


def save_view(
    path: str | Path,
    *,
    effects: Effects | None = None,
    steering: Sequence[Mapping[str, Any]] | None = None,
    labels: Mapping[Code, str] | str | Path | None = None,
) -> None:
    """Keep beside an index what its page shows; what is not given stays as it was.

    Args:
      path: folder of the index. An index that is written again loses what was kept.
      effects: by site the output tokens that each code raises and lowers most, token ids and
        changes of their logits, `[*loops, groups, codes, m]`, the largest first.
      steering: one record for each steered prompt: `prompt` and `setting` are texts; `baseline`,
        `steered` and `random` (a random code in the steering code's place) are a text or a list of
        samples; `others`, if there, has more columns by name (activation addition); `metrics`, if
        there, has numbers by name, or for each column by name.
      labels: what codes stand for, or the file of labels that a page saved.

    Raises:
      FileNotFoundError, ValueError: not a finished index, or something that does not fit.
    """
    index = open_index(path)
    folder = Path(path) / VIEW
    folder.mkdir(exist_ok=True)
    if effects is not None:
        arrays: dict[str, np.ndarray] = {}
        for site, (ids, values) in effects.items():
            if site not in index.sites:
                raise ValueError(
                    f"save_view: no site {site!r}; there are: {', '.join(index.sites)}"
                )
            own, number = index.sites[site], list(index.sites).index(site)
            ids, values = np.asarray(ids), np.asarray(values, np.float32)
            lead = (*own.loops, own.groups, own.codes)
            if ids.shape != values.shape or ids.shape[:-1] != lead or ids.dtype.kind not in "iu":
                raise ValueError(
                    f"save_view: effects of {site} are {ids.dtype} {list(ids.shape)} and "
                    f"{list(values.shape)}, expected integers and numbers {[*lead, 'm']}"
                )
            _check_tokens(ids, index, site)
            flat = (own.codebooks, own.codes, ids.shape[-1])
            arrays[f"ids{number}.npy"] = ids.astype(np.int32).reshape(flat)
            arrays[f"values{number}.npy"] = values.reshape(flat)
        for name, array in arrays.items():
            temporary = folder / f".{os.getpid()}.{name}"
            np.save(temporary, array)
            temporary.replace(folder / name)
    if steering is not None:
        write_json(folder / "steering.json", [_record(i, one) for i, one in enumerate(steering)])
    if labels is not None:
        given = _read_labels(Path(labels)) if isinstance(labels, (str, Path)) else labels
        entries = []
        for code, text in given.items():
            index.codebook(code.site, code.loop, code.group).code(code.code)
            entries.append({**code._asdict(), "loop": list(code.loop), "label": str(text)})
        write_json(folder / "labels.json", {"format": _LABELS, "labels": entries})


def load_view(path: str | Path) -> View:
    """What `save_view` kept; empty where nothing was.

    Raises:
      ValueError: a file that is damaged.
    """
    folder = Path(path) / VIEW
    index = open_index(path)
    view = View()
    try:
        for number, (site, own) in enumerate(index.sites.items()):
            if (folder / f"ids{number}.npy").is_file():
                names = (f"{kind}{number}.npy" for kind in ("ids", "values"))
                ids, values = (np.load(folder / name, mmap_mode="r") for name in names)
                if ids.shape != values.shape or ids.shape[:2] != (own.codebooks, own.codes):
                    raise ValueError(f"effects of {site} are {ids.shape} and {values.shape}")
                view.effects[site] = ids, values
        if (folder / "steering.json").is_file():
            records = json.loads((folder / "steering.json").read_text("utf-8"))
            view.steering.extend(_record(i, one) for i, one in enumerate(records))
        if (folder / "labels.json").is_file():
            view.labels.update(_read_labels(folder / "labels.json"))
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{folder}: damaged: {error}; save the view again") from error
    return view


def _read_labels(path: Path) -> dict[Code, str]:
    try:
        given = json.loads(path.read_text("utf-8"))
        if given["format"] != _LABELS:
            raise ValueError(f"its format is {given['format']!r}")
        return {
            Code(one["site"], tuple(one["loop"]), one["group"], one["code"]): str(one["label"])
            for one in given["labels"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a file of labels: {error}") from error


def _check_tokens(ids: np.ndarray, index: Index, site: str) -> None:
    limit = 1 << 31 if index.vocabulary is None else len(index.vocabulary)
    if ids.size and (ids.min() < 0 or ids.max() >= limit):
        raise ValueError(
            f"save_view: effects of {site} have token ids from {ids.min()} to {ids.max()}, "
            f"expected 0 to {limit - 1}"
        )


def _record(number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """A steering record whose parts are what they should be."""
    what = f"steering record {number}"
    known = {*_TEXTS, *_OUTPUTS, "others", "metrics"}
    if set(given) - known or not set(_TEXTS) | set(_OUTPUTS) <= set(given):
        raise ValueError(
            f"{what}: has {sorted(given)}, expected {', '.join((*_TEXTS, *_OUTPUTS))}, and if "
            "wanted others, metrics"
        )
    outputs = {**{name: given[name] for name in _OUTPUTS}, **given.get("others", {})}
    texts: dict[str, list[str]] = {}
    for name, text in outputs.items():
        samples = [text] if isinstance(text, str) else list(text)
        if not all(isinstance(sample, str) for sample in samples):
            raise ValueError(f"{what}: {name} must be a text or a list of texts")
        texts[str(name)] = samples
    return {
        **{name: str(given[name]) for name in _TEXTS},
        **{name: texts.pop(name) for name in _OUTPUTS},
        "others": texts,
        "metrics": {
            str(name): {str(c): _number(v, what) for c, v in value.items()}
            if isinstance(value, Mapping)
            else _number(value, what)
            for name, value in given.get("metrics", {}).items()
        },
    }


def _number(value: Any, what: str) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except (TypeError, ValueError):
        raise ValueError(f"{what}: a metric is {value!r}, expected a number") from None
    return number if math.isfinite(number) else None  # strict JSON has no other
