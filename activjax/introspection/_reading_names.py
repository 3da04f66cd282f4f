"""Which concept a text names first."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

from activjax.introspection._reading_phrases import REJECTION

# Characters of scripts without spaces, where a name is found inside longer words too.
_DENSE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_QUOTES = {"\u2018": "'", "\u2019": "'", "\u02bc": "'", "_": " "}
_PLAIN = str.maketrans({**_QUOTES, **dict.fromkeys('*`"\u201c\u201d')})


def plain(text: str) -> str:
    """A text without what looks different and means the same: quotes, emphasis, composition."""
    return unicodedata.normalize("NFC", text).translate(_PLAIN)


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """The concepts' names.

    Raises:
      ValueError: none; one that is empty or no text; two that differ in case only.
    """
    if isinstance(names, (str, bytes)):
        raise ValueError(f"names: expected several, got one, {names!r}; put it into a list")
    names = tuple(names)
    if not names:
        raise ValueError("names: expected at least one concept, got none")
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not any(c.isalnum() for c in name) or name != name.strip():
            raise ValueError(f"names: expected words without spaces around them, got {name!r}")
        key = " ".join(plain(name).casefold().split())
        if key in seen:
            raise ValueError(
                f"names: {name!r} and {seen[key]!r} are the same in a text; leave out one"
            )
        seen[key] = name
    return names


class Names:
    """Finds names in plain texts, as whole words or their plural."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [plain(name) for name in names]
        self._hints = [name.split()[0].casefold() for name in self._names]

    def first(self, text: str) -> tuple[int, int]:
        """Which name stands first and is not rejected, and where; -1, -1 for none.

        Of names that begin at one place the longest, and a name before another's plural.
        """
        done = 0  # what stands inside a rejected name is rejected with it
        for start, end, i in self._found(text):
            if start < done:
                continue
            done = end
            if not REJECTION.search(text[max(0, start - 40) : start]):
                return i, start
        return -1, -1

    def anywhere(self, text: str) -> int:
        """A name that stands in the text, rejected or not; -1 for none."""
        return next((i for *_, i in self._found(text)), -1)

    def _found(self, text: str) -> list[tuple[int, int, int]]:
        folded, found = text.casefold(), []
        for i, hint in enumerate(self._hints):
            if hint in folded:
                places = self._places(i, text)
                found += [(start, -end, plural, i) for start, end, plural in places]
        return [(start, -minus_end, i) for start, minus_end, _, i in sorted(found)]

    def _places(self, i: int, text: str) -> list[tuple[int, int, bool]]:
        out = []
        for found in _pattern(self._names[i]).finditer(text):
            start, end = found.span("name")
            if start and not _parts(text[start - 1], text[start]):
                continue
            for ending in ("", "s", "es"):  # the longest that ends a word
                stop = end + len(ending)
                fits = text[end:stop].lower() == ending
                if fits and _parts(text[stop - 1], text[stop : stop + 1]):
                    out.append((start, stop, bool(ending)))
        return out


def _parts(left: str, right: str) -> bool:
    """Whether a word may end between two characters, or before the end of the text."""
    if right and unicodedata.category(right).startswith("M"):
        return False
    return not (left.isalnum() and right.isalnum()) or any(map(_DENSE.match, (left, right)))


@functools.lru_cache(4096)
def _pattern(name: str) -> re.Pattern[str]:
    words = r"[\s-]+".join(map(re.escape, name.split()))
    # looking ahead, so that a place inside a name is tried too
    return re.compile(f"(?=(?P<name>{words}))", re.IGNORECASE)
