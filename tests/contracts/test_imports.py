"""The direction of imports, and that `import activjax` stays light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import activjax

ROOT = Path(activjax.__file__).parent

#: Each layer may import itself and those above it; methods never one another.
LAYERS = [
    "_files", "hosts", "program", "transforms", "data", "models", "stats", "fit", "patterns",
    "training",
]  # fmt: skip
METHODS = ["regions", "zonotope", "membership", "codebooks", "introspection", "verify"]
TOP = ["runs", "cli"]


def allowed(layer):
    if layer in LAYERS:
        return set(LAYERS[: LAYERS.index(layer) + 1])
    if layer in METHODS:
        return {*LAYERS, layer}
    if layer == "runs":
        # The runner trains; `sites` lists what an experiment names. Methods are the experiments'.
        return {*LAYERS, "runs"}
    return {*LAYERS, *METHODS, *TOP}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_imports_go_one_way(name):
    layer = name.split("/")[0].removesuffix(".py")
    if name == "__init__.py":
        return
    known = {*LAYERS, *METHODS, *TOP}
    assert layer in known, f"{layer} is in no layer: enter it in test_imports.py and the design"
    for target in imports(ROOT / name):
        assert not target.startswith("jax._src"), f"{name} imports {target}"
        parts = target.split(".")
        if parts[0] == "activjax" and len(parts) > 1 and parts[1] in known:
            assert parts[1] in allowed(layer), f"{name} imports {target}"


def test_experiments_use_the_public_api_only():
    for path in (ROOT.parent / "experiments").glob("*.py"):
        for target in imports(path):
            private = [p for p in target.split(".") if p.startswith("_") and not p.startswith("__")]
            assert not private, (path, target)


def test_import_is_light():
    code = "import sys, activjax; print(*sys.modules)"
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    modules = set(out.stdout.split())
    heavy = {"matplotlib", "pydantic", "orbax", "sklearn", "scipy.stats", "pandas", "torch"}
    assert not heavy & modules


def test_no_file_tries_to_be_everything():
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in FILES}
    assert {n: k for n, k in lengths.items() if k > 500} == {}
