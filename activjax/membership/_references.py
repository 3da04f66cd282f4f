"""Attacks that compare a target model with shadow models whose training sets are known.

On the host, in float64. Arrays have models first, `shadow [m, n]` and `inside [m, n]` (which
shadow model trained on which example), and every score is higher for members.

`inside` is used to average only. In the design of `half_splits` an example is in exactly half of
all models, target included, so counting the others would tell where the target's own training set
was: a score that does so measures the design.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

from activjax.membership._reference_inputs import checked, counts, finite, refuse

FEW = 64  # models, below which Carlini et al. (2022) estimate one variance for all examples
_ROUNDING = 1e-5  # what a log-probability in float32 may be above 0

Target = Float[np.ndarray, " n"]
Shadow = Float[np.ndarray, "m n"]
Inside = Bool[np.ndarray, "m n"]
Scores = Float64[np.ndarray, " n"]


def lira(
    target: Target,
    shadow: Shadow,
    inside: Inside,
    *,
    variance: Literal["auto", "per_example", "global"] = "auto",
    offline: bool = False,
) -> Scores:
    """LiRA: the likelihood ratio of two normal distributions, IN and OUT, of each example.

    Carlini et al., "Membership inference attacks from first principles" (2022), algorithm 1.
    With means `m_in`, `m_out` of the statistic over models that trained on the example
    and those that did not, and deviations `s_in`, `s_out`:

    - online: `log N(target; m_in, s_in) - log N(target; m_out, s_out)`;
    - offline: `log Phi((target - m_out) / s_out)`, the logarithm of the paper's one-sided
      `1 - Pr[Z > target]`; the same order, and told apart where that is 1 to the last bit.

    A variance is the sum of squares about the mean by the count less one; "global" pools the
    squares of all examples about their own means, by the sum of those counts. (The paper's code
    has medians for means and, for "global", the spread of all values about a single mean, with how
    examples differ in it.)

    Args:
      target: `[n]`, log-odds of the label under the target model (`confidence`): nearly normal.
      shadow: `[m, n]`, the same under the shadow models.
      inside: `[m, n]` booleans.
      variance: one for each example, or one for all; "auto" is "global" below 64 models, as in
        the paper.
      offline: use OUT models only.

    Returns:
      `[n]` scores, higher is member.

    Raises:
      ValueError: wrong shapes, NaN or infinite values, an example without an OUT (online: or IN)
        model, or with too few or equal ones for its variance.
    """
    x, values, inside = checked(target, shadow, inside, "lira: target", "lira: shadow")
    finite(x, "lira: target")
    finite(values, "lira: shadow")
    if variance not in ("auto", "per_example", "global"):
        raise ValueError(
            f"lira: variance is {variance!r}, expected 'auto', 'per_example' or 'global'"
        )
    pooled = variance == "global" or (variance == "auto" and len(values) < FEW)
    m_out, s_out = _normal(values, ~inside, pooled, "OUT")
    out = (x - m_out) / s_out
    if offline:
        from scipy.special import log_ndtr

        return log_ndtr(out)
    m_in, s_in = _normal(values, inside, pooled, "IN")
    return (out**2 - ((x - m_in) / s_in) ** 2) / 2 + np.log(s_out / s_in)


def rmia(
    target_log_p: Target,
    shadow_log_p: Shadow,
    inside: Inside,
    population_target: Float[np.ndarray, " p"],
    population_shadow: Float[np.ndarray, "m p"],
    population_inside: Bool[np.ndarray, "m p"] | None = None,
    *,
    gamma: float = 2.0,
    a: float = 0.3,
    offline: bool = True,
) -> Scores:
    """RMIA: the share of a population that the example beats, by a likelihood ratio.

    Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks" (2024). With
    `r(x) = p(x | target) / p(x)`, the score is the share of population points z with
    `r(x) / r(z) >= gamma`. For x and z alike, with `p_in` and `p_out` the means of probabilities
    over models that trained on it and that did not:

    - offline: `p = ((1 + a) p_out + (1 - a)) / 2`, the paper's guess `p_in = a p_out + 1 - a`;
    - online: `p = (p_in + p_out) / 2`; `p_out` for a z that is in no shadow model.

    The share is discrete: there are at most `p + 1` scores, with ties, and examples above or below
    the whole population are not told apart. For all x it is one and the same increasing step
    function of `r(x)`, so `gamma` only says where the steps are. Where the target is sure of nearly
    everything no ratio is twice another and most steps are lost: `gamma = 1`, which the authors'
    code has, then tells more apart (40 digit classifiers with clean labels: area 0.61, not 0.54).

    Args:
      target_log_p: `[n]`, log-probabilities of the label under the target model. For text take
        the mean over tokens: a total is so low that `1 - a` drowns `p_out`.
      shadow_log_p: `[m, n]`, the same under the shadow models.
      inside: `[m, n]` booleans.
      population_target: `[p]`, of points that the target did not train on.
      population_shadow: `[m, p]`.
      population_inside: `[m, p]`; in no shadow model if left out.
      gamma: at least 1; the paper has 2.
      a: in [0, 1]; the paper tunes it on shadow models; unused online.
      offline: use OUT models only.

    Returns:
      `[n]` scores in 0 .. 1, higher is member.

    Raises:
      ValueError: wrong shapes, no population, a NaN, a log-probability above 0, an example without
        an OUT (online: or IN) model, a ratio 0 / 0, `gamma` or `a` out of range.
    """
    if not gamma >= 1:
        raise ValueError(f"rmia: gamma is {gamma}, expected a number of at least 1")
    if not 0 <= a <= 1:
        raise ValueError(f"rmia: a is {a}, expected a number in [0, 1]")
    names = ("rmia: target_log_p", "rmia: shadow_log_p")
    x, shadow, inside = checked(target_log_p, shadow_log_p, inside, *names)
    if np.size(population_target) == 0:
        raise ValueError("rmia: no population: give points that the target did not train on")
    if population_inside is None:
        population_inside = np.zeros(np.shape(population_shadow), bool)
    names = ("rmia: population_target", "rmia: population_shadow")
    z, z_shadow, z_inside = checked(
        population_target, population_shadow, population_inside, *names, models=len(shadow)
    )
    for values, name in (
        (x, "target_log_p"),
        (shadow, "shadow_log_p"),
        (z, "population_target"),
        (z_shadow, "population_shadow"),
    ):
        refuse(values > _ROUNDING, values, f"rmia: {name}", "; log-probabilities are at most 0")
    ratio = _log_ratio(x, shadow, inside, a, offline, "example")
    others = np.sort(_log_ratio(z, z_shadow, z_inside, a, offline, "population point"))
    beaten = np.searchsorted(others, ratio - math.log(gamma), side="right")
    return beaten / len(others)


def mean_out(target_loss: Target, shadow_loss: Shadow, inside: Inside) -> Scores:
    """Difficulty calibration: the mean loss of OUT models less the target's loss.

    Watson et al., "On the importance of difficulty calibration in membership inference attacks"
    (2022), with the loss as the score.

    Args:
      target_loss: `[n]`, nats.
      shadow_loss: `[m, n]`.
      inside: `[m, n]` booleans.

    Returns:
      `[n]` scores, higher is member.

    Raises:
      ValueError: wrong shapes, NaN or infinite values, an example without an OUT model.
    """
    names = ("mean_out: target_loss", "mean_out: shadow_loss")
    x, values, inside = checked(target_loss, shadow_loss, inside, *names)
    finite(x, names[0])
    finite(values, names[1])
    count = counts(~inside, "OUT", "example")
    return np.where(inside, 0.0, values).sum(0) / count - x


def _normal(
    values: np.ndarray, chosen: np.ndarray, pooled: bool, side: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each example over the chosen models."""
    count = counts(chosen, side, "example")
    mean = np.where(chosen, values, 0.0).sum(0) / count
    low, high = np.where(chosen, values, np.inf).min(0), np.where(chosen, values, -np.inf).max(0)
    flat = np.flatnonzero(low == high)
    squares = np.where(chosen, values - mean, 0.0) ** 2
    if pooled:
        if not (count > 1).any():
            raise ValueError(f"lira: every example has one {side} model: no variance to estimate")
        if len(flat) == len(mean):
            raise ValueError(f"lira: the {side} values of every example are equal: no variance")
        return mean, np.full(len(mean), math.sqrt(squares.sum() / (count - 1).sum()))
    few = np.flatnonzero(count < 2)
    if len(few):
        raise ValueError(
            f"lira: example {few[0]} has 1 {side} model, a variance of its own needs 2: use "
            "variance='global' or more models"
        )
    if len(flat):
        raise ValueError(
            f"lira: example {flat[0]} has equal values in all its {side} models: use "
            "variance='global'"
        )
    return mean, np.sqrt(squares.sum(0) / (count - 1))


def _log_ratio(
    x: np.ndarray, shadow: np.ndarray, inside: np.ndarray, a: float, offline: bool, what: str
) -> np.ndarray:
    """`log p(x | target) - log p(x)`."""
    log_p = _log_mean(shadow, ~inside, counts(~inside, "OUT", what))
    with np.errstate(divide="ignore", invalid="ignore"):
        if offline:
            log_p = np.logaddexp(np.log((1 + a) / 2) + log_p, np.log((1 - a) / 2))
        else:
            in_ = inside
            if what != "example":  # a point that no model trained on: p_out stands for p_in
                in_ = inside | ~inside.any(0)
            both = _log_mean(shadow, in_, counts(in_, "IN", what))
            log_p = np.logaddexp(log_p, both) - math.log(2)
        ratio = x - log_p
    bad = np.flatnonzero(np.isnan(ratio))
    if len(bad):
        raise ValueError(f"rmia: {what} {bad[0]} has probability 0 in all models: no ratio")
    return ratio


def _log_mean(log_p: np.ndarray, chosen: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The logarithm of mean probabilities over the chosen models."""
    kept = np.where(chosen, log_p, -np.inf)
    top = kept.max(0)
    shift = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.exp(kept - shift).sum(0) / count)
