"""activjax: read, edit, enumerate and train through the activations of any JAX function."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activjax.stats import harvest as harvest
    from activjax.transforms import (
        Selector as Selector,
        Site as Site,
        SiteError as SiteError,
        SiteTable as SiteTable,
        act_grads as act_grads,
        act_jvp as act_jvp,
        act_vjp as act_vjp,
        capture as capture,
        edits as edits,
        intervene as intervene,
        parse_edit as parse_edit,
        parse_edits as parse_edits,
        parse_selector as parse_selector,
        per_example as per_example,
        scan as scan,
        scope as scope,
        select as select,
        sites as sites,
        tag as tag,
        tag_modules as tag_modules,
        tag_primitives as tag_primitives,
    )

__version__ = "0.1.0"

# On first use: `activjax ls` need not wait for jax. Subpackages come the same way: `aj.models`.
_HOMES = dict.fromkeys(
    [
        "Selector",
        "Site",
        "SiteError",
        "SiteTable",
        "act_grads",
        "act_jvp",
        "act_vjp",
        "capture",
        "edits",
        "intervene",
        "parse_edit",
        "parse_edits",
        "parse_selector",
        "per_example",
        "scan",
        "scope",
        "select",
        "sites",
        "tag",
        "tag_modules",
        "tag_primitives",
    ],
    "transforms",
) | {"harvest": "stats"}
_PACKAGES = [
    "codebooks",
    "data",
    "fit",
    "hosts",
    "introspection",
    "membership",
    "models",
    "patterns",
    "program",
    "regions",
    "runs",
    "stats",
    "training",
    "transforms",
    "verify",
    "zonotope",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"activjax.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"activjax.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_PACKAGES})
