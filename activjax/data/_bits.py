"""Bits a byte: the one unit in which models of any tokenizer, and compressors, compare."""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int, Real

from activjax.data._tokenizer import Tokenizer, utf8

#: One text, or several (a corpus) that stand for their concatenation.
Texts: TypeAlias = str | bytes | Iterable[str | bytes]


def joined(texts: Texts) -> bytes:
    """The UTF-8 of a text, or of several one after the other."""
    if isinstance(texts, bytes):
        return texts
    if isinstance(texts, str):
        return utf8(texts)
    return b"".join(utf8(text) if isinstance(text, str) else text for text in texts)


def bits_per_byte(
    nats: Float[np.ndarray, "*shape"],
    tokens: Int[np.ndarray, "*shape"],
    tokenizer: Tokenizer,
    weights: Real[np.ndarray, "*shape"] | None = None,
) -> float:
    """What a model spends on a byte of text, in bits.

    What it spends on special ids counts, though they stand for no bytes: a document's end is
    something to predict. Sums are in float64.

    Args:
      nats: the negative natural log-probability of each target token.
      tokens: these tokens' ids.
      tokenizer: whose ids they are.
      weights: of the tokens, such as `segments > 0`; None counts all.

    Raises:
      ValueError: shapes that differ, or tokens that stand for no bytes at all.
    """
    nats, tokens = np.asarray(nats, np.float64), np.asarray(tokens)
    weights = np.ones(tokens.shape) if weights is None else np.asarray(weights, np.float64)
    if not nats.shape == tokens.shape == weights.shape:
        shapes = f"{nats.shape}, {tokens.shape} and {weights.shape}"
        raise ValueError(f"bits_per_byte: expected one shape, got {shapes}")
    total = float((tokenizer.byte_lengths[tokens] * weights).sum())
    if total <= 0:
        raise ValueError("bits_per_byte: the tokens that count stand for no bytes")
    # A masked position may be NaN or infinite.
    return float(nats[weights != 0] @ weights[weights != 0]) / math.log(2) / total


def xz_bits_per_byte(held: Texts) -> float:
    """Bits a byte that `xz -9` needs, headers included: a baseline that has seen no other text.

    Args:
      held: the text, or the texts, which are concatenated and compressed as one file.

    Raises:
      ValueError: no bytes.
    """
    raw = joined(held)
    if not raw:
        raise ValueError("held: there are no bytes to compress")
    packed = lzma.compress(raw, lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=9)
    return 8 * len(packed) / len(raw)
