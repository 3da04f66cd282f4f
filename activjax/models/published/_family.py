"""A family of published models: how its options and its arrays are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from activjax.models.published._layout import Entry
from activjax.models.published._options import Options


@dataclass(frozen=True)
class Family:
    """What is to be known of a family, in one table.

    Attributes:
      name: `model_type` in its `config.json`.
      architectures: those that are loaded, such as "LlamaForCausalLM"; the first is the one that is
        written, where `write` says no other.
      build: makes the model of a config: `models.decoder` or `models.encoder`.
      read: the config, from the options; whatever it does not read is refused.
      write: the options of a config, its inverse. May raise `CannotExpress`.
      entries: every array that a model of the family may have. Entries of parameters that the
        model does not have are left out.
      prefix: of the arrays of the network without its head; files of that alone lack it.
      leftovers: globs of arrays in old files that hold no parameter, such as causal masks.
      twins: key -> the key that it is a copy of, where a file has both, such as a tied head.
      renamed: ends of keys in old files -> what they are called now.
    """

    name: str
    architectures: tuple[str, ...]
    build: Callable[[Any], Any]
    read: Callable[[Options], Any]
    write: Callable[[Any], Mapping[str, Any]]
    entries: Sequence[Entry]
    prefix: str
    leftovers: tuple[str, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


class CannotExpress(ValueError):
    """A config that a family has no options for."""
