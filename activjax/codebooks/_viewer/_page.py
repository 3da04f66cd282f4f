"""Writing the page: one HTML file with everything in it, small things first."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from activjax import _files
from activjax.codebooks._index import Code, Index, open_index
from activjax.codebooks._viewer import _blocks
from activjax.codebooks._viewer._details import Details
from activjax.codebooks._viewer._held import Held, held, shown
from activjax.codebooks._viewer._view import load_view

#: Of the page's JavaScript, in the order in which it is put together.
_SCRIPTS = (
    "data.js", "text.js", "state.js", "parts.js", "navigator.js", "code.js", "prompt.js",
    "search.js", "steering.js", "labels.js", "main.js",
)  # fmt: skip
_CODES = 20_000  # codes with details, of all codebooks together
_IDS = 4_000_000  # choices of the examples that the page holds


def write_page(
    index: str | Path | Index,
    file: str | Path,
    *,
    title: str = "codes",
    contexts: int | None = None,
    tokens: int | None = None,
) -> Path:
    """Write the page of an index: one file that opens offline, with nothing loaded from anywhere.

    Usage of all codes is in it. Contexts, top tokens, co-active codes and effects are there for the
    most used codes of each codebook, and for those that `save_view` labelled; the grid of choices
    and the search by expression work on whole examples from all over the index.

    Args:
      index: an index or its folder; what `save_view` kept there is shown, too.
      file: where to write; a file there is replaced.
      title: of the page.
      contexts: codes of each codebook that are shown in detail. None: 20,000 of all together.
      tokens: about how many tokens of examples the page holds. None: 4,000,000 choices of codes.

    Returns:
      The file.

    Raises:
      FileNotFoundError, ValueError: not a finished index, or an option out of range.
      OSError: the file cannot be written.
    """
    index = index if isinstance(index, Index) else open_index(index)
    for name, value in (("contexts", contexts), ("tokens", tokens)):
        if value is not None and value < (name == "tokens"):
            raise ValueError(f"write_page: {name} is {value}, expected more")
    file = Path(file)
    with _files.whole(file) as out:
        out.writelines(_parts(index, title, contexts, tokens))
    return file


def _parts(index: Index, title: str, contexts: int | None, tokens: int | None) -> Iterator[str]:
    books = list(index.codebooks())
    view = load_view(index.path)
    choices = sum(book.k for book in books)
    kept = held(index, tokens if tokens is not None else max(_IDS // choices, 1))
    many = contexts if contexts is not None else max(_CODES // len(books), 1)
    style, script = _asset("page.css"), "".join(map(_asset, _SCRIPTS))
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    before, after = _asset("page.html").split("<!-- data -->")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    for name, text in (("policy", policy), ("title", html.escape(title)), ("style", style)):
        before = before.replace(f"<!-- {name} -->", text)
    yield before
    yield _blocks.plain_json("head", _head(index, title, kept, many, view.steering, view.labels))
    yield f"<script>{script}</script>\n"
    yield from _data(index, books, kept, many, view)
    yield after


def _data(index: Index, books: list[Any], kept: Held, many: int, view: Any) -> Iterator[str]:
    for number, book in enumerate(books):
        yield _blocks.block(f"use-{number}", _blocks.planes(np.asarray(book.counts, np.uint32)))
    if index.vocabulary is not None:
        lengths = index.vocabulary.lengths.astype(np.uint32)
        yield _blocks.block("lengths", _blocks.planes(lengths))
        yield _blocks.block("pieces", index.vocabulary.data.tobytes())
    yield _blocks.block("tokens", _blocks.planes(index.tokens[kept.rows].astype(np.uint32)))
    if view.steering:
        yield _blocks.json_block("steering", view.steering)
    details = Details(index, books, view.effects)
    for number, book in enumerate(books):
        here = [c.code for c in view.labels if c[:3] == (book.site, book.loop, book.group)]
        codes = [details.of(book, code) for code in shown(book, many, here)]
        yield _blocks.json_block(f"codes-{number}", codes)
    for number, book in enumerate(books):
        ids = np.asarray(book.ids[kept.rows]).astype(np.uint32)
        yield _blocks.block(f"ids-{number}", _blocks.planes(ids))


def _head(
    index: Index, title: str, kept: Held, many: int, steering: list[Any], labels: dict[Code, str]
) -> dict[str, Any]:
    """What the page needs before it can show anything."""
    sites, used, most, first = [], [], [], 0
    for name, own in index.sites.items():
        sites.append(
            {"name": name, "loops": own.loops, "groups": own.groups, "codes": own.codes,
             "k": own.k, "first": first}
        )  # fmt: skip
        first += own.codebooks
    for book in index.codebooks():
        used.append(int((~book.dead).sum()))
        most.append(int(book.counts.max()))
    about = f"{title} {sites} {used} {most} {len(index.tokens)}"
    return {
        "title": title,
        "id": hashlib.sha256(about.encode()).hexdigest()[:16],
        "sites": sites,
        "used": used,
        "most": most,
        "tokens": len(index.tokens),
        "examples": index.examples,
        "held": {"examples": kept.examples.tolist(), "lengths": kept.lengths.tolist()},
        "details": many,
        "vocabulary": None if index.vocabulary is None else len(index.vocabulary),
        "steering": len(steering),
        "labels": [
            {**code._asdict(), "loop": list(code.loop), "label": text}
            for code, text in labels.items()
        ],
    }


def _asset(name: str) -> str:
    folder = importlib.resources.files("activjax.codebooks._viewer").joinpath("page")
    return folder.joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"
