"""The options of a `config.json`: each is read, is known to change nothing, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from activjax.models.published._safetensors import WeightsError
from activjax.transforms._names import glob, nearest

_MISSING = object()

#: What does not change what a model computes when it is run: training, generation, book-keeping.
_WITHOUT_EFFECT = (
    "_*",
    "*dropout*",
    "*_pdrop",
    "*_token_id",
    "*_token_ids",
    "architectures",
    "auto_map",
    "cache_implementation",
    "classifier_*",
    "dtype",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "max_length",
    "model_type",
    "output_*",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "summary_*",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unsloth_*",
    "use_cache",
)
_EMPTY = (None, False, [], {}, "")
_MOST_LAYERS = 10_000


class Options:
    """The options of one model, of which a family reads what it knows.

    `number`, `flag` and the others return an option and mark it as read; `finish` refuses those
    that were not read, are set, and are not known to change nothing.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        label: str,
        ignore: Sequence[str] = (),
        keys: Collection[str] | None = None,
    ):
        self.given, self.label = dict(given), label
        self.ignore = tuple(ignore)
        self.keys = keys  # of the arrays, where there are any
        self.seen: set[str] = set()

    def get(self, name: str, default: Any = _MISSING) -> Any:
        """An option as it stands there.

        Raises:
          WeightsError: it is not there, and there is no default.
        """
        self.seen.add(name)
        if name in self.given:
            return self.given[name]
        if default is _MISSING:
            near = nearest(name, self.given)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise WeightsError(f"{self.label}: the option {name} is missing{hint}")
        return default

    def count(self, name: str, default: Any = _MISSING) -> Any:
        """A positive integer, or the default (also where null is given)."""
        return self._typed(name, default, "a positive integer", _is_count)

    def layers(self, name: str) -> int:
        """How many layers; a number that lists can be made of before any array is known."""
        what = f"a positive integer up to {_MOST_LAYERS}"
        return self._typed(name, _MISSING, what, lambda v: _is_count(v) and v <= _MOST_LAYERS)

    def number(self, name: str, default: Any = _MISSING) -> Any:
        """A number, or the default (also where null is given)."""
        return self._typed(name, default, "a number", _is_number)

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        """True or false."""
        return self._typed(name, default, "true or false", lambda v: isinstance(v, bool))

    def one_of(self, name: str, known: Mapping[str, Any], default: Any = _MISSING) -> Any:
        """What a word stands for.

        Raises:
          WeightsError: another word than those known.
        """
        value = self.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise WeightsError(
                f"{self.label}: {name} = {value!r} is not implemented; known: {', '.join(known)}"
            )
        return known[value]

    def only(self, name: str, *values: Any) -> None:
        """An option of which the decoder implements some values; the first is the default.

        Raises:
          WeightsError: another one.
        """
        value = self.get(name, values[0])
        if not any(type(value) is type(v) and value == v for v in values):
            shown = " or ".join(json.dumps(v) for v in values)
            raise WeightsError(
                f"{self.label}: {name} = {json.dumps(value)} is not implemented, only {shown}"
            )

    def unused(self, *names: str) -> None:
        """Options that change nothing in this family."""
        self.seen.update(names)

    def part(self, name: str, default: Any = _MISSING) -> Options | None:
        """A nested object as options of its own; None where it is null or absent."""
        value = self.get(name, default)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise WeightsError(f"{self.label}: {name}: expected an object, got {value!r}")
        return Options(value, f"{self.label}: {name}", self.ignore)

    def finish(self) -> None:
        """Refuse what is left.

        Raises:
          WeightsError: an option that was not read, is set, and may change the model.
        """
        if "is_causal" not in self.seen:  # false is not nothing: masks of their library obey it
            self.only("is_causal", True)
        for name, value in self.given.items():
            if name in self.seen or any(value is e or value == e for e in _EMPTY):
                continue
            if without_effect(name) or any(glob(p).fullmatch(name) for p in self.ignore):
                continue
            raise WeightsError(
                f"{self.label}: the option {name} = {json.dumps(value)[:80]} is not known, and "
                f"might change what the model computes; if it does not: ignore=[{name!r}]"
            )

    def _typed(self, name: str, default: Any, what: str, test: Callable[[Any], bool]) -> Any:
        value = self.get(name, default)
        if value is None and default is not _MISSING:
            return default
        if value is not default and not test(value):
            raise WeightsError(f"{self.label}: {name}: expected {what}, got {value!r}")
        return value


def without_effect(name: str) -> bool:
    """Whether an option is known not to change what a model computes."""
    return any(glob(pattern).fullmatch(name) for pattern in _WITHOUT_EFFECT)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # of integers, too: they have no end


def read_json(path: Path, limit: int = 10_000_000) -> dict[str, Any]:
    """A JSON object of a file of at most `limit` bytes.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: something else.
    """
    if path.stat().st_size > limit:
        raise WeightsError(f"{path}: {path.stat().st_size} bytes, expected at most {limit}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: expected a JSON object, got a {type(found).__name__}")
    return found
