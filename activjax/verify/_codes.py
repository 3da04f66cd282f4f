"""`codes`: sign codes of the operands of a network's rectifiers, in the order of proofs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from activjax import patterns
from activjax.verify._problem import Single
from activjax.verify.bounds._record import record
from activjax.verify.search._settled import settled
from activjax.verify.search._visit import evaluate


def codes(
    apply: Callable[[Any, Any], Any], params: Any, inputs: Float[Array, "n ..."]
) -> patterns.Codes:
    """Which rectifiers are active on which examples.

    Bit i is unit i of `prove`'s patterns and of proofs: the operands of all rectifiers in the order
    of the program, flattened, whether tagged or not.

    Args:
      apply: `apply(params, inputs)`, as for `Problem.from_model`.
      params: its parameters.
      inputs: examples.

    Returns:
      Codes whose sites are `relu/0`, `relu/1`, ...

    Raises:
      ValueError: there are no rectifiers.
    """
    inputs = jnp.asarray(inputs, jnp.float32)
    if inputs.ndim < 1 or not len(inputs):
        raise ValueError(f"verify.codes: inputs have shape {inputs.shape}; expected [n, ...]")
    shape = inputs.shape[1:]
    one, params = settled(Single(apply), params, shape, inputs.dtype)
    operands = _operands(one, shape, params, inputs)
    if not operands:
        raise ValueError("verify.codes: the function has no rectifier")
    return patterns.codes({f"relu/{i}": z for i, z in enumerate(operands)})


@partial(jax.jit, static_argnums=(0, 1))
def _operands(one: Any, shape: tuple[int, ...], params: Any, inputs: Any) -> list[Any]:
    like = jax.ShapeDtypeStruct(shape, inputs.dtype)
    tape, _ = record(lambda x: one(params, x), like, inputs.dtype)
    _, z = evaluate(tape, inputs.reshape(len(inputs), -1))
    return [z[:, where] for where in tape.slices.values()]
