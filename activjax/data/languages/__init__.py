"""Synthetic languages, reproducible to the byte, with their ground truth.

A text of a language is a function of (language, seed, number of the text) alone: the same bytes on
every platform and with every version of NumPy and JAX (see `_random.py`). Wherever a position says
something about the next token (masks, distributions, sources), position t is about token t + 1, as
logits are.
"""

from activjax.data.languages._concept_world import ConceptSplit as ConceptSplit
from activjax.data.languages._concepts import (
    Concepts as Concepts,
    Documents as Documents,
    Prompts as Prompts,
    concepts as concepts,
)
from activjax.data.languages._fsm import FiniteState as FiniteState, finite_state as finite_state
from activjax.data.languages._induction import (
    Induction as Induction,
    Repeated as Repeated,
    induction as induction,
    repeated as repeated,
)
from activjax.data.languages._modular import Modular as Modular, modular as modular
