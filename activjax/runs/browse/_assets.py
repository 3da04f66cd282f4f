"""The page's own files. Its script is written as modules, which stand here in order as one."""

from __future__ import annotations

import functools
import importlib.resources
import re

from activjax.runs._html import tag

#: Each needs only those before it.
MODULES = (
    "dom", "numbers", "table", "filter", "grid", "scale", "chart", "source", "axis_plot",
    "parallel", "curves", "details", "compare", "explore", "live", "list", "main",
)  # fmt: skip
# `import {...} from "./x.js";`
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:const|let|function|async function|class) (\w+))", re.MULTILINE)


def source(name: str) -> str:
    """One of the page's files."""
    return (
        importlib.resources.files("activjax.runs.browse").joinpath("page", name).read_text("utf-8")
    )


@functools.cache
def script() -> str:
    """All modules as one script, which the served page loads and a static one holds."""
    parts = []
    for name in MODULES:
        text = source(f"{name}.js")
        for needed in _IMPORT.findall(text):
            if needed not in MODULES[: MODULES.index(name)]:
                raise ValueError(f"{name}.js needs {needed}.js, which comes after it")
        exported = ", ".join(found[1] for found in _EXPORT.findall(text))
        inner = _EXPORT.sub(r"\1", _IMPORT.sub("", text)).strip()
        # what a module does not export stays its own
        parts.append(
            f"const {{ {exported} }} = (() => {{\n{inner}\nreturn {{ {exported} }};\n}})();"
        )
    return '"use strict";\n(() => {\n' + "\n\n".join(parts) + "\n})();\n"


def style() -> str:
    """The page's own style, which comes after that of all reports."""
    return source("browse.css")


@functools.cache
def served_style() -> str:
    """The whole style of the served page."""
    report = importlib.resources.files("activjax.runs").joinpath("report.css").read_text("utf-8")
    return report + style()


@functools.cache
def shell() -> str:
    """The served page before its script has run."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "activjax"),
    ]
    loads = (
        '<link rel="icon" href="data:,">\n<link rel="stylesheet" href="/style.css">\n'
        '<script src="/app.js" defer></script>'
    )
    body = tag("div", tag("noscript", tag("p", "This page needs its script.")), id="browse")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{"".join(head)}\n{loads}\n</head>\n'
        f'<body class="app">\n{body}\n</body>\n</html>\n'
    )
