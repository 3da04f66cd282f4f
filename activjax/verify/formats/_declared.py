"""The variables that a file declares."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from activjax.transforms._names import nearest
from activjax.verify.formats._sexpr import Group, Source, Word

_SCALAR = re.compile(r"([XYN])_(0|[1-9]\d{0,8})")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_INDEXED = re.compile(r"([^\[]+)\[([^\]]*)\]")
_TYPES = ("real", "float16", "float32", "float64", "bfloat16")
_WHAT = {"X": "inputs", "Y": "outputs", "N": "rectifiers"}


@dataclass
class Variables:
    """Names and what they stand for.

    Attributes:
      scalars: version 1.0, `X_3`: kind and index.
      tensors: version 2.0: kind and shape.
      places: where each was declared.
      types: of the elements, of tensors.
    """

    scalars: dict[str, tuple[str, int]] = field(default_factory=dict)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def add_scalar(self, source: Source, word: Word, kinds: str) -> None:
        """Declares `X_3`.

        Raises:
          FormatError: another name, or one that was declared before.
        """
        found = _SCALAR.fullmatch(word.text)
        if found is None or found[1] not in kinds:
            names = " or ".join(f"{kind}_0" for kind in kinds)
            raise source.fail(word, f"{word.text!r} cannot be declared here; expected names "
                              f"such as {names}")  # fmt: skip
        self._once(source, word)
        self.scalars[word.text] = found[1], int(found[2])

    def add_tensor(self, source: Source, node: Group, kind: str) -> None:
        """Declares `(declare-input X float32 [1, 5] "name")`.

        Raises:
          FormatError: another form, type or shape, or a name that was declared before.
        """
        words = [item for item in node.items if isinstance(item, Word)]
        if len(words) != len(node.items) or len(words) not in (4, 5):
            raise source.fail(node, f"expected ({node.head} NAME TYPE [SHAPE])")
        _, name, kind_of, shape = words[:4]
        if _NAME.fullmatch(name.text) is None:
            raise source.fail(name, f"{name.text!r} is not a name: letters, digits and _")
        if kind_of.text.lower() not in _TYPES:
            raise source.fail(kind_of, f"{kind_of.text!r} is not supported; expected one of "
                              f"{', '.join(_TYPES)}")  # fmt: skip
        sizes = re.split(r"[\s,]+", shape.text[1:-1].strip()) if shape.text[0] == "[" else ["?"]
        sizes = [] if sizes == [""] else sizes
        if not all(size.isascii() and size.isdigit() and 0 < len(size) < 10 for size in sizes):
            raise source.fail(shape, f"{shape.text!r} is not a shape; expected such as [1, 5]")
        self._once(source, name)
        self.tensors[name.text] = kind, tuple(map(int, sizes))
        self.types[name.text] = kind_of.text.lower()

    def find(self, source: Source, word: Word) -> tuple[str, int]:
        """Kind and index of a variable.

        Raises:
          FormatError: not declared, or indices that do not fit the shape.
        """
        found = self.scalars.get(word.text)
        if found is not None:
            return found
        split = _INDEXED.fullmatch(word.text)
        name = split[1] if split else word.text
        if name not in self.tensors:
            near = nearest(word.text, [*self.scalars, *self.tensors])
            hint = f"; nearest: {', '.join(near)}" if near else ""
            kinds = {"X": 0, "Y": 0, "N": 0}
            for kind, _ in self.scalars.values():
                kinds[kind] += 1
            known = ", ".join(f"{n} {_WHAT[k]}" for k, n in kinds.items() if n)
            known = known or ", ".join(self.tensors) or "nothing"
            raise source.fail(word, f"{word.text!r} is neither a number nor declared{hint} "
                              f"(declared: {known})")  # fmt: skip
        kind, shape = self.tensors[name]
        texts = re.split(r"[\s,]+", split[2].strip()) if split else []
        texts = [] if texts == [""] else texts
        if len(texts) != len(shape) or not all(t.isascii() and t.isdigit() for t in texts):
            raise source.fail(word, f"{word.text!r}: expected {len(shape)} indices from 0, "
                              f"{name} has shape {list(shape)}")  # fmt: skip
        index = 0
        for text, size in zip(texts, shape, strict=True):
            if len(text) > 9 or int(text) >= size:
                raise source.fail(word, f"{word.text!r} is out of range: {name} has shape "
                                  f"{list(shape)}, indices begin at 0")  # fmt: skip
            index = index * size + int(text)
        return kind, index

    def count(self, source: Source, kind: str, first: int = 0) -> int:
        """How many variables of a kind there are.

        Raises:
          FormatError: an index is left out.
        """
        shapes = [shape for k, shape in self.tensors.values() if k == kind]
        if shapes:
            return math.prod(shapes[0])
        indices = sorted(index for k, index in self.scalars.values() if k == kind)
        for expected, index in enumerate(indices, first):
            if index != expected:
                raise source.fail(self.places[f"{kind}_{index}"], f"{kind}_{index} is declared "
                                  f"but {kind}_{expected} is not; expected {kind}_{first} to "
                                  f"{kind}_{indices[-1]}")  # fmt: skip
        return len(indices)

    def _once(self, source: Source, word: Word) -> None:
        if word.text in self.places:
            raise source.fail(word, f"{word.text!r} is declared twice; remove one")
        self.places[word.text] = word.at
