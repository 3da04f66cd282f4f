"""AdamW with a warm-up and a cosine, and an optimiser of its own for every part of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from activjax.models import Model
from activjax.training import _paths
from activjax.training._dtypes import wide
from activjax.transforms._names import glob

Number = float | Float[Array, ""]

#: What weight decay pulls to zero: weights of products, and what LoRA adds to them.
DECAYED = ("**/kernel", "**/kernel/*")


def warmup_cosine(
    peak: Number, *, steps: int, warmup: Number | None = None, final: Number = 0.1
) -> optax.Schedule:
    """A learning rate that rises linearly to `peak`, then falls along half a cosine.

    Update n of 1..steps has `peak * n / warmup` up to n = warmup; the last one, unless it is of the
    warm-up, has exactly `final * peak` (Loshchilov and Hutter 2017, eq. 5, without restarts), and
    later ones stay there.

    Args:
      peak: the highest rate.
      steps: number of updates.
      warmup: updates until `peak`; None for 2 % of `steps`.
      final: the last rate, as a share of `peak`.

    Returns:
      A schedule as optax takes it: `schedule(count)`, `count` the updates made before.

    Raises:
      ValueError: a known number out of range (all but `steps` may be traced).
    """
    _check("peak", peak, lambda x: x >= 0, "of at least 0")
    _check("steps", steps, lambda x: x >= 1, "of at least 1")
    warmup = steps // 50 if warmup is None else warmup
    _check("warmup", warmup, lambda x: 0 <= x <= steps, f"from 0 to {steps}")
    _check("final", final, lambda x: x >= 0, "of at least 0")

    def schedule(count: Any) -> Float[Array, ""]:
        top, rise, last = map(_float, (peak, warmup, final))
        n = jnp.asarray(count).astype(jnp.float32) + 1
        done = jnp.clip((n - rise) / jnp.maximum(steps - rise, 1), 0, 1)
        fall = last + (1 - last) * (1 + jnp.cos(jnp.pi * done)) / 2
        return top * jnp.where(n <= rise, n / jnp.maximum(rise, 1), fall)

    return schedule


def adamw(
    peak: Number,
    *,
    steps: int,
    warmup: Number | None = None,
    final: Number = 0.1,
    decay: Number = 0.1,
    betas: tuple[Number, Number] = (0.9, 0.95),
    eps: Number = 1e-8,
    clip: Number | None = 1.0,
    decayed: str | Sequence[str] = DECAYED,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019) with warm-up, cosine and clipping, as language models use.

    The gradient is clipped, Adam's update made of it, `decay` times the parameter added, and the
    sum multiplied by the rate. All numbers but `steps` may be traced: a sweep of them is one
    program. Moments and arithmetic are float32 at least, whatever the parameters' dtype. Note that
    an update smaller than 1/512 of a bfloat16 parameter is lost when it is rounded back: train
    float32 parameters (a decoder computes in bfloat16 by `dtype=`), and keep `param_dtype=
    "bfloat16"` for parameters that stay as they are, under float32 adapters (`lora`).

    Args:
      peak, steps, warmup, final: the learning rate, see `warmup_cosine`.
      decay: weight decay; the share of a parameter that one update removes is `rate * decay`.
      betas: of Adam's two moving averages.
      eps: added to the root of the second moment.
      clip: the largest norm of the gradient, over all parameters that this optimiser has (Pascanu
        et al. 2013); None for no clipping. In a `partition`, each part is clipped by itself.
      decayed: globs over parameter paths: what weight decay applies to. By default what is named
        `kernel`: not norms, biases and embeddings (rows of rare tokens would fade). Shapes cannot
        tell: a bias of stacked layers is a matrix, too.

    Raises:
      ValueError: a known number out of range; from `init`, globs given in `decayed` that match no
        parameter.
    """
    schedule = warmup_cosine(peak, steps=steps, warmup=warmup, final=final)
    _check("decay", decay, lambda x: x >= 0, "of at least 0")
    _check("eps", eps, lambda x: x >= 0, "of at least 0")
    for beta in betas:
        _check("betas", beta, lambda x: 0 <= x < 1, "in [0, 1)")
    globs = (decayed,) if isinstance(decayed, str) else tuple(decayed)

    def check(params: Any) -> None:
        if globs != DECAYED:
            names = _paths.leaves(params)
            for pattern in globs:
                _paths.matching(pattern, names, "adamw decayed")

    def chosen(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: any(glob(g).fullmatch(_paths.name(path)) for g in globs), params
        )

    chain = []
    if clip is not None:
        if isinstance(clip, (int, float)) and not clip > 0:
            raise ValueError(f"adamw clip: expected a positive number, got {clip}")
        chain.append(optax.clip_by_global_norm(_float(clip)))
    b1, b2 = map(_float, betas)
    chain.append(optax.scale_by_adam(b1, b2, _float(eps)))
    chain.append(optax.add_decayed_weights(_float(decay), mask=chosen))
    chain.append(optax.scale_by_learning_rate(schedule))
    return _in_float32(optax.chain(*chain), check)


def _in_float32(
    inner: optax.GradientTransformation, check: Callable[[Any], None]
) -> optax.GradientTransformation:
    def widened(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(wide(x.dtype)), tree)

    def init(params: Any) -> Any:
        check(params)
        return inner.init(widened(params))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return inner.update(widened(updates), state, widened(params))

    return optax.GradientTransformation(init, update)


def partition(
    params: Any,
    rules: Mapping[str, Any] | Sequence[tuple[str, Any]],
    *,
    default: Any = ...,
) -> optax.GradientTransformation:
    """An optimiser for each part of the parameters, chosen by globs over their paths.

    For example `partition(model, {"blocks/**": adamw(...), "embed/**": optax.sgd(...)},
    default=None)`. Each optimiser sees its own part only: clipping by a global norm is by the norm
    of that part.

    Args:
      params: the parameters, or their shapes; or the model.
      rules: `{glob: optimiser}`; or pairs `(glob, optimiser)` in order, of which the first that
        matches a parameter has it. None for an optimiser freezes: these parameters stay the same
        to the bit, no optimiser state is kept for them, and their gradients, unused, are not
        computed where the compiler can tell.
      default: for parameters that no glob matches; without it there must be none.

    Raises:
      TypeError: something that is no optimiser.
      ValueError: a glob that matches nothing (with the nearest paths), or nothing that earlier
        ones leave; two globs of a mapping for one parameter; a parameter without an optimiser.
    """
    if isinstance(params, Model):
        params = jax.eval_shape(params.init, jax.random.key(0))
    names = list(_paths.leaves(params))
    ordered = not isinstance(rules, Mapping)
    pairs = list(rules) if ordered else list(rules.items())
    owner: dict[str, str] = {}
    parts: dict[Any, optax.GradientTransformation] = {}
    for pattern, optimiser in pairs:
        found = _paths.matching(pattern, names, "partition")
        taken = [n for n in found if n in owner]
        if taken and not ordered:
            raise ValueError(
                f"partition: {taken[0]!r} is matched by {owner[taken[0]]!r} and {pattern!r}: pass "
                "a list of pairs, the first that matches has it"
            )
        if len(taken) == len(found):
            raise ValueError(
                f"partition: all that {pattern!r} matches, such as {taken[0]!r}, is taken by "
                f"earlier globs ({owner[taken[0]]!r}): put it before them"
            )
        owner.update({n: pattern for n in found if n not in owner})
        parts[pattern] = _optimiser(optimiser, pattern)
    rest = [n for n in names if n not in owner]
    if rest and default is ...:
        raise ValueError(
            f"partition: no optimiser for {', '.join(rest[:5])}"
            f"{f' and {len(rest) - 5} more' if len(rest) > 5 else ''}: give default= (None freezes)"
        )
    if rest:
        owner.update(dict.fromkeys(rest, _DEFAULT))
        parts[_DEFAULT] = _optimiser(default, _DEFAULT)
    labels = jax.tree_util.tree_map_with_path(lambda path, _: owner[_paths.name(path)], params)
    return optax.partition(parts, labels)


_DEFAULT = "default="  # no path has this name


def _optimiser(given: Any, pattern: str) -> optax.GradientTransformation:
    if given is None:
        return optax.GradientTransformation(lambda params: optax.EmptyState(), _nothing)
    if not isinstance(given, optax.GradientTransformation):
        raise TypeError(
            f"partition: expected an optax optimiser or None (freeze) for {pattern!r}, got "
            f"{type(given).__name__}"
        )
    return given


def _nothing(updates: Any, state: Any, params: Any = None) -> Any:
    """Updates of -0: added to any number, -0 included, they leave its bits."""
    return jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates), state


def _float(x: Any) -> Any:
    """Known numbers as they are; arrays as float32, so that no state changes its dtype."""
    return x if isinstance(x, (int, float)) else jnp.asarray(x).astype(jnp.float32)


def _check(name: str, x: Any, fits: Callable[[float], bool], what: str) -> None:
    if isinstance(x, (int, float)) and not fits(x):
        raise ValueError(f"adamw {name}: expected a number {what}, got {x}")
