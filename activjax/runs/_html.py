"""HTML that is escaped by construction: text becomes `Html` only through `esc` or `tag`."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import re
from typing import Any

_VOID = ("img", "meta", "br", "input")
# What no XML or HTML text may hold, colour codes of terminals among them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
# Belt and braces: even if text became markup, nothing could be run or loaded.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


class Html(str):
    """Markup that may stand in a page as it is."""


def esc(value: Any) -> Html:
    """Any value as text; `Html` is returned as it is, None becomes nothing, lists are joined."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html("")
    if isinstance(value, (list, tuple)):
        return Html("".join(map(esc, value)))
    text = str(value).replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    return Html(html.escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)))


def tag(_name: str, *children: Any, **attributes: Any) -> Html:
    """One element.

    Args:
        _name: of the element.
        *children: `Html`, or anything else as text; None is left out.
        **attributes: `class_` means class, `data_x` means data-x; None and False are left out.
    """
    words = [_name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{esc(value)}"')
    start = Html(f"<{' '.join(words)}>")
    return start if _name in _VOID else Html(f"{start}{esc(children)}</{_name}>")


def join(parts: Any, between: str = " ") -> Html:
    """The parts that are not empty, with text between them."""
    return Html(esc(between).join(esc(p) for p in parts if p not in (None, "")))


def code(text: Any, label: str) -> Html:
    """A block of code or output, scrolled inside its own box where it is too wide."""
    return tag("pre", tag("code", text), tabindex="0", role="region", aria_label=label)


def scroll(table: Html, label: str, caption: Any = None) -> Html:
    """A wide table that scrolls by itself, by keyboard too, and not with the page.

    Args:
        table: the table.
        label: what it is called, "Table 1".
        caption: stands above it and does not scroll.
    """
    box = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)
    if caption is None:
        return box
    return esc([tag("p", tag("b", f"{label}."), " ", caption, class_="caption"), box])


def page(title: str, body: Any, *, script: str = "", css: str = "") -> str:
    """A whole document: one file, nothing loaded from anywhere; no script but the one given.

    Args:
        title: of the document.
        body: what stands in it.
        script: JavaScript that runs after the body; no other can.
        css: style on top of that of all reports.
    """
    style = importlib.resources.files("activjax.runs").joinpath("report.css").read_text("utf-8")
    policy = _POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
        body = esc([body, Html("\n"), tag("script", Html(script))])
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html("\n" + style + css)),
    ]
    lines = Html("\n")
    document = tag("html", lines, tag("head", [[h, lines] for h in head]), lines,
                   tag("body", lines, body, lines), lines, lang="en")  # fmt: skip
    return f"<!DOCTYPE html>\n{document}\n"
