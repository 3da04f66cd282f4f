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
      stand for it: `mask(site, shape)`. `f` is not given it: bind its own with a `lambda`.

      Of a site in a `while` the trace is that of the last iteration, as with `capture`; one in a
      branch that did not run has ids -1 and counts nothing.

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
        read = list(dict.fromkeys(f"{_prefix(site)}/**" for _, site in places))
        changed = transforms.intervene(call, made)
        out, found = transforms.capture(changed, read)(params, *inputs)
        numbers = _numbers([site for _, site in places])
        return out, {site.name: _trace(site, numbers[site.name], found) for _, site in places}

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
        found = {}
        for name in own:
            one = _inputs(sites[name], acts[name], own[name], _mask_of(mask, sites[name]))
            valid = acts.get(f"{name}#valid")  # of a branch that may not have run
            on = one.on if valid is None else one.on & valid[..., None]
            found[name] = Inputs(one.rows, on)
        return found

    return read


def _inputs(site: Site, x: Array, spec: Spec, mask: Any) -> Inputs:
    loops = x.shape[: len(site.captured_shape) - len(site.shape) - len(site.mapped)]
    of = form(site.shape, spec, what=f"site {site.name!r}")
    rows = x.reshape(*loops, -1, of.groups, of.features)
    on = jnp.full(rows.shape[:-2], True)
    if mask is not None:
        on = on & jnp.broadcast_to(of.mask(mask), (*site.mapped, of.tokens)).reshape(-1)
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
    for key in sorted(own, key=lambda key: -len(key)):  # the longest name says most
        for site in _served(key, table):
            if site.name in taken:
                if len(taken[site.name]) > len(key):
                    continue
                raise SiteError(
                    f"codebooks {taken[site.name]!r} and {key!r} are both for site {site.name!r}"
                )
            taken[site.name] = key
            loops = codebooks[key]["codes"].ndim - 3
            counted = [n for _, n in site.loops if n is not None]
            lengths = counted[len(counted) - loops :]
            if loops > len(counted) or list(codebooks[key]["codes"].shape[:loops]) != lengths:
                raise SiteError(
                    f"codebook {key!r} has loops {list(codebooks[key]['codes'].shape[:loops])}, "
                    f"site {site.name!r} is in {list(site.loops) or 'no loop'}: make codebooks of "
                    "codebooks.inputs(f, spec)(params, ...), which knows loops"
                )
            if not loops and counted and key in (site.base, site.name):
                raise SiteError(
                    f"site {site.name!r} is in the loops {list(site.loops)}, its codebook is one "
                    "for all of them: make codebooks of codebooks.inputs(f, spec)(params, ...), "
                    "which knows loops; to share one, repeat it along a leading axis"
                )
            found.append((key, site))
    order = {site.name: i for i, site in enumerate(table)}
    return sorted(found, key=lambda one: order[one[1].name])


def _served(key: str, table: transforms.SiteTable) -> list[Site]:
    """The sites of a codebook's name: the function's own, and those of the same under a scope.

    "out" is also "decode/out", but not "blocks/out" beside an "out": what stands under a scope is
    the same function again only if all of its sites are there without the scope, too.
    """
    bases = {site.base for site in table}
    tails = {}
    for site in table.match(f"**/{key}"):
        ends = [name for name in (site.name, site.base) if name.endswith(key)]
        tails[site] = ends[0][: len(ends[0]) - len(key)] if ends else ""
    heads = set(tails.values())

    def again(head: str) -> bool:
        under = [base[len(head) :] for base in bases if base.startswith(head)]
        around = [other for other in heads if other != head and head.startswith(other)]
        return all(other + rest in bases for other in around for rest in under)

    return [site for site, head in tails.items() if again(head)]


def _mask_of(mask: Any, site: Site) -> Bool[Array, "*tokens"] | None:
    if callable(mask):
        mask = mask(site.name, site.shape)
    return None if mask is None else jnp.asarray(mask)


def _edit(spec: Spec, book: Any, override: Override | None, mask: Any, site: Site) -> Any:
    lengths = book["codes"].shape[:-3]
    loops = len(lengths)
    for name, array in vars(override).items() if override is not None else ():
        if array is not None and array.shape[:loops] != lengths:
            raise ValueError(
                f"override: {name} at {site.name!r} has shape {list(array.shape)}, expected the "
                f"loops {list(lengths)} first"
            )
    if loops == len(site.loops) and loops:
        held = jax.tree.map(edits.Each, (book, override))
        return jax.tree_util.Partial(_at_site, spec, _Loops(), *held, mask)
    own = [name for name, length in site.loops if length is not None]
    own = _Loops(own[len(own) - loops :])
    return jax.tree_util.Partial(_at_site, spec, own, book, override, mask)


@jax.tree_util.register_static
class _Loops(tuple):
    """The loops by whose indices an edit slices its leading axes itself."""


def _at_site(
    spec: Spec, loops: _Loops, book: Any, override: Any, mask: Any, x: Array, ctx: Any
) -> Array:
    """The edit: a bottleneck whose trace is tagged inside."""
    if loops:  # loops around the codebook's own, such as decoding steps: no axis of theirs
        at = tuple(ctx.loops[name] for name in loops)
        book, override = jax.tree.map(lambda leaf: leaf[at], (book, override))
    y, trace = bottleneck(book, x, spec, mask=mask, override=override, positions=_positions(ctx))
    transforms.tag(trace, _NAME)
    return y


def _positions(ctx: Any) -> Array | None:
    """Where the tokens stand, as the function around the site says: its nearest `positions`."""
    scopes = ctx.site.split("/")[:-1]
    for n in range(len(scopes), -1, -1):
        name = "/".join([*scopes[:n], "positions"])
        if name in ctx.seen:
            return ctx.seen[name]
    return None


def _prefix(site: Site) -> str:
    return f"{site.base}/{_NAME}"


def _numbers(sites: list[Site]) -> dict[str, str]:
    """What tags of the edits at sites end in: "#1" for the second of two edited of one name."""
    bases = [site.base for site in sites]
    return {
        site.name: f"#{bases[:i].count(site.base)}" if bases.count(site.base) > 1 else ""
        for i, site in enumerate(sites)
    }


def _trace(site: Site, number: str, found: Mapping[str, Array]) -> Trace:
    def get(name: str) -> Array:
        return found[f"{_prefix(site)}/{name}{number}"]

    loops = sum(n is not None for _, n in site.loops)
    ids, rows, on = get("ids"), get("inputs/rows"), get("inputs/on")
    valid = found.get(f"{_prefix(site)}/ids{number}#valid")
    if valid is not None:  # of a branch that did not run there are zeros
        ids = jnp.where(valid.reshape(*valid.shape, *[1] * (ids.ndim - valid.ndim)), ids, -1)
    return Trace(
        ids=ids,
        **{name: get(name) for name in ("similarities", "mse", "counts", "tokens")},
        inputs=Inputs(
            rows.reshape(*rows.shape[:loops], -1, *rows.shape[-2:]),
            on.reshape(*on.shape[:loops], -1),
        ),
        valid=valid,
        loops=loops,
    )
