"""How far rounding may have moved a bound.

Write `u` for the unit roundoff and `gamma(n) = n u / (1 - n u)`. A sum of n products in any order,
fused or not, is off by at most `gamma(n)` times the sum of their absolute values (Higham, Accuracy
and Stability of Numerical Algorithms, section 3.1).

A backward pass keeps `value(x) >= sum of A_w . w(x) + c - e` over the nodes w that are still open.
Its A are the numbers as computed, so errors are local to a step and do not compound. Objectives and
constants may themselves have been rounded to the precision of the box, once:

- through a linear node `v = L w + k` the new cotangent `L^T A_v` is off by at most
  `gamma(terms) |L|^T |A_v|`, its addition to another by u more, `A_v . k` by `gamma(size)`, all
  together at most `gamma(n) |A_v| . M_v` with `M_v >= |L| |w| + |k|` over the box;
- of the linear nodes between a rectifier's operand z and those below it, none can lose more than
  `|A_z| . M_z`, because `|A_v| M_v` of the part that comes from z is at most that. So one term for
  each rectifier, with the sum of their n, is enough;
- at a rectifier the lines are valid as computed (`_relax`); the products with their slopes lose
  2 u of `|A_z| . M_z`, the sum of their intercepts `gamma(size)` of itself, as no summand is above
  0; adding all these to c loses u of each for every addition (`Tape.additions`);
- at the input `A . mid - |A| . rad` loses `gamma(size + 4) |A| . max(|low|, |high|)`.

M itself is a sum of non-negative numbers, computed with a relative error that is below 1 % as long
as `gamma` of the terms is; the margin is enlarged by 2 % for that and for its own rounding.

Numbers below the smallest normal one, tiny, may be taken for 0, as XLA does on CPU. A product of A
that is flushed loses tiny times M of the node it belongs to: one such for every product of a row,
times the largest M of all nodes. A constant that is flushed loses tiny times the largest operand
times A: M has `tiny / eps` times that added, of which gamma takes more than tiny. Sides of the box
are moved outward by tiny; bounds hold with tiny to spare, as their users may flush them.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

#: The margin is enlarged by this for the rounding in computing it.
SLACK = 1.02


def gamma(terms: int, dtype: Any) -> float:
    """`n u / (1 - n u)`.

    Raises:
      ValueError: so many terms that the bound says nothing; use float64.
    """
    n = terms * float(jnp.finfo(dtype).eps) / 2
    if n > 0.005:
        raise ValueError(
            f"verify: sums of {terms} terms in {jnp.dtype(dtype).name} leave no certain digits; "
            "give the box in float64, under jax.enable_x64"
        )
    return n / (1 - n)
