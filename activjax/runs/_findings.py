"""What an experiment saved, as parts of its report: figures, tables, curves, a list of arrays."""

from __future__ import annotations

import base64
import re
import struct
from pathlib import Path
from typing import Any

from activjax.runs import _numbers
from activjax.runs._html import Html, scroll, tag
from activjax.runs.store import RunFolder

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGE = 544  # pixels on the page; wider plots scroll on a phone
_SCALE = 1.5  # figures are saved with 150 dots an inch and shown with 100


class Counter:
    """Numbers figures and tables, each from 1."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, kind: str) -> str:
        """`"Figure 1"`, then `"Figure 2"`."""
        self._last[kind] = self._last.get(kind, 0) + 1
        return f"{kind} {self._last[kind]}"


def contents(run: RunFolder) -> list[dict[str, Any]]:
    """The items of `contents.json` in order; none before the run is done."""
    data = run.read_json("contents.json")
    items = data.get("items") if isinstance(data, dict) else None
    return [item for item in items or () if isinstance(item, dict)]


def figure(folder: Path, item: dict[str, Any], number: Counter) -> Html:
    """A saved figure with its number and caption, or a note that its file is not there."""
    label, name = number.next("Figure"), item.get("name", "")
    case = f", {item['case']}" if item.get("case") else ""
    data, problem = _png(folder, item.get("file"))
    caption = tag("figcaption", tag("b", f"{label}{case}."), " ", item.get("caption") or None)
    if data is None:
        note = tag("p", f"{label} ({name}) cannot be shown: {problem}.", class_="note")
        return tag("figure", note, caption)
    return _shown(data, f"Plot: {_readable(name)}{case}", caption)


def text_block(item: dict[str, Any], number: Counter) -> Html:
    """A text that the experiment kept with `out.text`, as it is."""
    label, case = number.next("Text"), f", {item['case']}" if item.get("case") else ""
    caption = item.get("caption") or _readable(item.get("name", ""))
    shown = "".join(map(_visible, str(item.get("text", ""))))
    block = tag("pre", shown, tabindex="0", role="region", aria_label=f"{label}{case}")
    return tag("figure", block, tag("figcaption", tag("b", f"{label}{case}."), " ", caption))


def _visible(character: str) -> str:
    """Control characters by their code; a page cannot hold them."""
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


def curves(folder: Path, number: Counter) -> Html | None:
    """The training curves, if there was a training."""
    path = folder / "metrics.jsonl"
    if not path.is_file() or not path.stat().st_size:
        return None
    from activjax.runs import _curves  # matplotlib comes with it

    drawn = _curves.draw(path)
    if drawn is None:
        return None
    caption = tag("figcaption", tag("b", f"{number.next('Figure')}."), " ", drawn.caption)
    return _shown(drawn.png, "Plot: the recorded metrics against the training step", caption)


def table(item: dict[str, Any], number: Counter) -> Html:
    """A table that the experiment kept with `out.table`."""
    columns, rows = item.get("columns") or [], item.get("rows") or []
    numeric, texts = [], []
    for j in range(len(columns)):
        values = [row[j] if j < len(row) else None for row in rows]
        numeric.append(_numbers.is_numeric(values))
        texts.append(_numbers.column(values))
    names = ["num" if n else None for n in numeric]
    heads = [tag("th", c, scope="col", class_=n) for c, n in zip(columns, names)]
    lines = [
        tag("tr", [tag("td", texts[j][i], class_=n) for j, n in enumerate(names)])
        for i in range(len(rows))
    ]
    case = f", {item['case']}" if item.get("case") else ""
    text = item.get("caption") or _readable(item.get("name", ""))
    whole = tag("table", tag("thead", tag("tr", heads)), tag("tbody", lines, class_="lines"))
    return scroll(whole, f"{number.next('Table')}{case}", text)


def arrays_table(items: list[dict[str, Any]], number: Counter) -> Html | None:
    """The arrays in the folder, equal ones of several cases in one line."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for item in items:
        if item.get("kind") == "array":
            shape = f" {_numbers.TIMES} ".join(map(str, item.get("shape") or ())) or "scalar"
            key = (str(item.get("name")), shape, str(item.get("dtype")))
            found.setdefault(key, []).append(str(item.get("case") or _numbers.MISSING))
    if not found:
        return None
    heads = [tag("th", text, scope="col") for text in ("name", "shape", "type", "cases")]
    lines = [
        tag("tr", tag("td", tag("code", name)), tag("td", shape), tag("td", dtype),
            tag("td", ", ".join(cases)))
        for (name, shape, dtype), cases in found.items()
    ]  # fmt: skip
    whole = tag("table", tag("thead", tag("tr", heads)), tag("tbody", lines))
    where = "Files of numpy: arrays/<name>.npy"
    if any(cases != [_numbers.MISSING] for cases in found.values()):
        where += ", those of a case arrays/<case>/<name>.npy"
    return scroll(whole, number.next("Table"), f"{where}.")


def _shown(data: bytes, alt: str, caption: Html) -> Html:
    wide, high = (max(1, round(pixels / _SCALE)) for pixels in struct.unpack(">II", data[16:24]))
    source = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    image = tag(
        "img", src=source, alt=alt, width=wide, height=high,
        class_="large" if wide > _LARGE else None,
    )  # fmt: skip
    plot = tag("div", image, class_="plot", tabindex="0", role="region", aria_label=alt)
    return tag("figure", plot, caption)


def _png(folder: Path, file: Any) -> tuple[bytes | None, str]:
    """The bytes of a figure of this folder, or None and what is wrong with it."""
    path = folder / str(file)
    if not path.resolve().is_relative_to(folder.resolve()):
        return None, f"{file} lies outside the run's folder"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, f"the file {file} is missing"
    except OSError as error:
        return None, f"the file {file} cannot be read ({error.strerror})"
    if not (data.startswith(_PNG) and data.endswith(b"IEND\xaeB`\x82") and len(data) > 45):
        return None, f"the file {file} is not a whole PNG image"
    return data, ""


def _readable(name: Any) -> str:
    return re.sub(r"[_.]+", " ", str(name)).strip()
