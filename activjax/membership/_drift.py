"""`drift`: how far one step up an example's own loss moves the network; and its features.

After "G-Drift MIA: Membership Inference via Gradient-Induced Feature Drift" (arXiv 2604.00419),
of which only the abstract was at hand: definitions are ours (`docs/design/0009-membership.md`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax.membership._ascent import Ascent, Climber, climbed, described
from activjax.membership._examples import Examples
from activjax.membership._loss import Loss, cross_entropy
from activjax.membership._measures import OutDrift, SiteDrift, out_drift, site_drift
from activjax.membership._spec import DriftSpec, Sites
from activjax.transforms._names import missing


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Drift:
    """The drift of `n` examples.

    Attributes:
      sites: by site, in execution order of `names`.
      out: of the output; None where that is not one floating-point array.
      loss: before the step; a baseline, and no feature.
      loss_drift: how much the step raised it.
      grad_norm: the norm of the gradient of what moves; a baseline, and no feature. None if it was
        not asked for.
      step: what the gradient was multiplied by.
      names: the sites.
    """

    sites: dict[str, SiteDrift]
    out: OutDrift | None
    loss: Float[Array, " n"]
    loss_drift: Float[Array, " n"]
    grad_norm: Float[Array, " n"] | None
    step: Float[Array, " n"]
    names: tuple[str, ...] = field(metadata={"static": True})


class Features(NamedTuple):
    """Columns with their names.

    Attributes:
      values: `[n, d]`.
      names: such as "blocks/resid_post[3] norm_mean".
    """

    values: Float[Array, "n d"]
    names: tuple[str, ...]


def drift(
    apply: Callable[..., Any],
    params: Any,
    x: Any,
    y: Any,
    spec: DriftSpec | None = None,
    *,
    loss: Loss = cross_entropy,
    mask: Any = None,
    chunk: int | None = None,
) -> Drift:
    """How far one step up each example's own loss moves activations and logits.

    Args:
      apply: `apply(params, inputs)` of a batch; examples must not mix, as in batch statistics.
      params: the parameters; they do not change.
      x: inputs `[n, ...]`, or a pytree of them.
      y: what the loss compares with, `[n, ...]`.
      spec: the step and what is measured; by default `DriftSpec()`.
      loss: `loss(out, y, mask)` of one example, without a batch axis: a number.
      mask: `[n, ...]`, given to the loss; positions that it leaves out are not measured. It belongs
        to the first axes of a site, after loops and batch, that have its shape.
      chunk: examples at a time; None for as many as fit into about half a gigabyte.

    Returns:
      Drift. Magnitudes are as they are: scaling is the classifier's (`fit_attack`).

    Raises:
      ValueError: as `ascend`, or directions of another size than the site's vectors.
      SiteError: directions for a site that is not measured.
    """
    examples = Examples.of(x, y, mask)
    spec = DriftSpec() if spec is None else spec
    return climbed(apply, params, examples, spec, loss, chunk, _measured)


def _measured(climber: Climber, found: Ascent, example: Examples) -> Drift:
    directions = _directions(climber, climber.spec.directions)
    (out, acts), (out_after, acts_after) = found.before, found.after

    def of(name: str, loops: int) -> SiteDrift:
        u = directions.get(name)
        return site_drift(acts[name], acts_after[name], loops, example.mask, u)

    sites = {name: of(name, len(site.loops)) for name, site in climber.sites.items()}
    out_moved = out_drift(out, out_after, example.y, example.mask)
    moved = sites, out_moved, found.loss_after - found.loss
    # One value, compiled twice, may differ from itself in the last digit.
    sites, out_moved, risen = jax.tree.map(lambda a: jnp.where(found.still, 0, a), moved)
    names = tuple(climber.sites)
    return Drift(sites, out_moved, found.loss, risen, found.grad_norm, found.step, names)


def _directions(climber: Climber, given: Mapping[str, Any] | None) -> Mapping[str, Array]:
    given = given or {}
    for name, u in given.items():
        if name not in climber.sites:
            raise missing(name, climber.sites)
        width = climber.sites[name].shape[-1]
        if jnp.ndim(u) != 2 or jnp.shape(u)[1] != width:
            raise ValueError(
                f"drift: directions of {name!r} have shape {list(jnp.shape(u))}, expected [k, "
                f"{width}], rows of the size of its vectors"
            )
    return {name: jnp.asarray(u) for name, u in given.items()}


def random_directions(
    key: Array,
    apply: Callable[..., Any],
    params: Any,
    x: Any,
    *,
    sites: Sites | None = None,
    k: int = 8,
) -> dict[str, Float[Array, "k d"]]:
    """Unit vectors, uniform on the sphere, for every site that `drift` would compare.

    Args:
      key: random key.
      apply, params, x: as for `drift`; nothing is computed.
      sites: as in `DriftSpec`.
      k: how many a site.
    """
    found = described(apply, sites, params, x)
    out = {}
    for i, (name, site) in enumerate(found.items()):
        u = jax.random.normal(jax.random.fold_in(key, i), (k, site.shape[-1]))
        out[name] = u / jnp.linalg.norm(u, axis=1, keepdims=True)
    return out


def features(drift: Drift) -> Features:
    """Named columns in a fixed order: sites, loops within them, then the output and the loss.

    Baselines (the loss before, the gradient's norm) are no features.

    Args:
      drift: of `n` examples.
    """
    columns: dict[str, Array] = {}
    for name in drift.names:
        columns |= _columns(name, drift.sites[name])
    if drift.out is not None:
        columns |= _columns("out", drift.out)
    columns["loss drift"] = drift.loss_drift
    return Features(jnp.stack(list(columns.values()), axis=1), tuple(columns))


def _columns(name: str, measured: SiteDrift | OutDrift) -> dict[str, Array]:
    """Every measure of every loop entry as a column; a layer stays together."""
    values = {f.name: getattr(measured, f.name) for f in fields(measured)}
    values = {k: v for k, v in values.items() if v is not None}
    loops = next(iter(values.values())).shape[1:]
    out = {}
    for at in itertools.product(*map(range, loops)):
        where = name + "".join(f"[{i}]" for i in at)
        for measure, value in values.items():
            part = value[(slice(None), *at)]
            if part.ndim == 1:
                out[f"{where} {measure}"] = part
            else:
                out |= {f"{where} {measure} {k}": part[:, k] for k in range(part.shape[1])}
    return out
