"""The `activjax` command: a thin layer over `activjax.runs` and the commands of single methods."""

from activjax.cli._main import main, parser

__all__ = ["main", "parser"]
