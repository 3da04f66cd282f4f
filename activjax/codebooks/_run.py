"""`run`: a function with bottlenecks at some of its activations; `inputs`: what they would see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from activjax import transforms
from activjax.codebooks._books import Specs, check_specs, expand, specs_of
from activjax.codebooks._bottleneck import bottleneck
from activjax.codebooks._overrides import Override, Overrides
from activjax.codebooks._rows import Inputs, form
from activjax.codebooks._spec import Spec
from activjax.codebooks._trace import Trace
from activjax.transforms import Site, SiteError, edits

_NAME = "codes"  # tags of a bottleneck are site/codes/...


def run(f: Callable[..., Any], spec: Specs) -> Callable[..., Any]:
    """A function with codebook bottlenecks in the place of some activations.

    Args:
      f: any function `f(params, *inputs, **options)` with named activations: a model's `apply`, a
        loss, `partial(models.generate, model, ...)`.
      spec: `{site or glob: Spec}`.

    Returns:
      `g(params, codebooks, *inputs, override=None, mask=None, **options) -> (out, traces)`, pure:
      `out` is what `f(params, *inputs, **options)` returns with each activation that has a codebook
      replaced (`bottleneck`), `traces` a `Trace` by site. A codebook "blocks/mlp/out" is also that
      of "decode/blocks/mlp/out", so that one serves a prompt and every decoding step.

      `override` is an `Overrides`, or `{site: Override}`, by codebook. `mask` is True for tokens
      and False for padding, in the shape of the axes of tokens of the activations (batch, seq): a
      padded token passes as it is and is in no trace. A function of a site's name and shape may
      stand for it: `mask(site, shape)`.

    Raises:
      SiteError: from `g`: a codebook for no site, or a site in fewer loops than its codes.
      TypeError, ValueError: something is not of the form above.
    """
    check_specs(spec)

    def with_codes(
        params: Any,
        codebooks: Mapping[str, Any],
        *inputs: Any,
        override: Overrides | Mapping[str, Override] | None = None,
        mask: Any = None,
        **options: Any,
    ) -> tuple[Any, dict[str, Trace]]:
        call = partial(f, **options)
        own = specs_of(spec, codebooks)
        over = _by_site(override, codebooks)
        places = _places(call, own, codebooks, params, inputs)
        made = [
            (
                site.name,
                _edit(own[key], codebooks[key], over.get(key), _mask_of(mask, site), site),
            )
            for key, site in places
        ]
        read = [f"{_prefix(site)}/**" for _, site in places]
        changed = transforms.intervene(call, made)
        out, found = transforms.capture(changed, read)(params, *inputs)
        return out, {site.name: _trace(site, codebooks[key], found) for key, site in places}

    return with_codes


def inputs(f: Callable[..., Any], spec: Specs) -> Callable[..., dict[str, Inputs]]:
    """The activations that bottlenecks would see, for `init`.

    Args:
      f, spec: as `run`.

    Returns:
      `h(params, *inputs, mask=None, **options) -> {site: Inputs}`; globs are resolved.

    Raises:
      SiteError: from `h`: a glob matches no site, or two match one.
      ValueError: an activation that the spec cannot divide.
    """
    check_specs(spec)

    def read(params: Any, *args: Any, mask: Any = None, **options: Any) -> dict[str, Inputs]:
        call = partial(f, **options)
        table = transforms.sites(call)(params, *args)
        own = expand(spec, table.names)
        sites = {site.name: site for site in table}
        acts = transforms.capture(call, list(own), out=False)(params, *args)
        return {
            name: _inputs(sites[name], acts[name], own[name], _mask_of(mask, sites[name]))
            for name in own
        }

    return read


def _inputs(site: Site, x: Array, spec: Spec, mask: Any) -> Inputs:
    loops = x.shape[: len(site.captured_shape) - len(site.shape) - len(site.mapped)]
    of = form(site.shape, spec, what=f"site {site.name!r}")
    rows = x.reshape(*loops, -1, of.groups, of.features)
    on = jnp.full(rows.shape[:-2], True)
    if mask is not None:
        if mask.dtype != bool or mask.shape != of.lead:
            raise ValueError(
                f"mask: site {site.name!r} has tokens {list(of.lead)}, got {mask.dtype}"
                f"{list(mask.shape)}; expected truth values, one for each token"
            )
        on = on & jnp.broadcast_to(mask.reshape(-1), (*site.mapped, of.tokens)).reshape(-1)
    return Inputs(rows, on)


def _by_site(override: Any, codebooks: Mapping[str, Any]) -> Mapping[str, Override]:
    if override is None:
        return {}
    given = override.sites if isinstance(override, Overrides) else override
    if not isinstance(given, Mapping) or not all(isinstance(o, Override) for o in given.values()):
        raise TypeError(
            f"override: expected Overrides or {{site: Override}}, got {type(override).__name__}"
        )
    for site in given:
        if site not in codebooks:
            raise ValueError(
                f"override: no codebook at {site!r}; there are: {', '.join(codebooks)}"
            )
    return given


def _places(
    call: Callable[..., Any],
    own: Mapping[str, Spec],
    codebooks: Mapping[str, Any],
    params: Any,
    args: tuple[Any, ...],
) -> list[tuple[str, Site]]:
    """Every codebook with every site that it serves."""
    table = transforms.sites(call)(params, *args)
    found: list[tuple[str, Site]] = []
    taken: dict[str, str] = {}
    for key in own:
        for site in table.match(f"**/{key}"):
            if site.name in taken:
                raise SiteError(
                    f"codebooks {taken[site.name]!r} and {key!r} are both for site {site.name!r}"
                )
            taken[site.name] = key
            loops = codebooks[key]["codes"].ndim - 3
            lengths = [n for _, n in site.loops][len(site.loops) - loops :]
            if loops > len(site.loops) or list(codebooks[key]["codes"].shape[:loops]) != lengths:
                raise SiteError(
                    f"codebook {key!r} has loops {list(codebooks[key]['codes'].shape[:loops])}, "
                    f"site {site.name!r} is in {list(site.loops) or 'no loop'}: make codebooks of "
                    "codebooks.inputs(f, spec)(params, ...), which knows loops"
                )
            if not loops and site.loops and key in (site.base, site.name):
                raise SiteError(
                    f"site {site.name!r} is in the loops {list(site.loops)}, its codebook is one "
                    "for all of them: make codebooks of codebooks.inputs(f, spec)(params, ...), "
                    "which knows loops; to share one, repeat it along a leading axis"
                )
            found.append((key, site))
    return found


def _mask_of(mask: Any, site: Site) -> Bool[Array, "*tokens"] | None:
    if callable(mask):
        mask = mask(site.name, site.shape)
    return None if mask is None else jnp.asarray(mask)


def _edit(spec: Spec, book: Any, override: Override | None, mask: Any, site: Site) -> Any:
    loops = book["codes"].ndim - 3
    if loops == len(site.loops) and loops:
        held = jax.tree.map(edits.Each, (book, override))
        return jax.tree_util.Partial(_at_site, spec, _Loops(0), *held, mask)
    return jax.tree_util.Partial(_at_site, spec, _Loops(loops), book, override, mask)


@jax.tree_util.register_static
class _Loops(int):
    """How many leading axes an edit slices itself."""


def _at_site(
    spec: Spec, loops: int, book: Any, override: Override | None, mask: Any, x: Array, ctx: Any
) -> Array:
    """The edit: a bottleneck whose trace is tagged inside."""
    if loops:  # loops around the codebook's own, such as decoding steps: no axis of theirs
        at = tuple(ctx.loops.values())[-loops:]
        book, override = jax.tree.map(lambda leaf: leaf[at], (book, override))
    y, trace = bottleneck(book, x, spec, mask=mask, override=override, positions=_positions(ctx, x))
    transforms.tag(trace, _NAME)
    return y


def _positions(ctx: Any, x: Array) -> Array | None:
    """Where the tokens stand, as the function around the site says: its nearest `positions`."""
    scopes = ctx.site.split("/")[:-1]
    for n in range(len(scopes), -1, -1):
        name = "/".join([*scopes[:n], "positions"])
        if name in ctx.seen:
            return ctx.seen[name]
    return None


def _prefix(site: Site) -> str:
    return f"{site.base}/{_NAME}"


def _trace(site: Site, book: Any, found: Mapping[str, Array]) -> Trace:
    number = site.name[len(site.base) :]  # "#1" of a name that is used twice

    def get(name: str) -> Array:
        return found[f"{_prefix(site)}/{name}{number}"]

    return Trace(
        **{name: get(name) for name in ("ids", "similarities", "mse", "counts", "tokens")},
        inputs=Inputs(get("inputs/rows"), get("inputs/on")),
        valid=found.get(f"{_prefix(site)}/ids{number}#valid"),
        loops=sum(n is not None for _, n in site.loops),
    )
