"""What the functions of this folder ask of the codes they are given."""

from __future__ import annotations

from activjax.patterns._codes import Codes


def require_codes(codes: object, what: str) -> None:
    """Raises TypeError unless `codes` is a `Codes`, ValueError unless it has an example axis."""
    if not isinstance(codes, Codes):
        raise TypeError(
            f"{what}: expected Codes, got {type(codes).__name__}; "
            "pack pre-activations with patterns.codes(acts)"
        )
    if codes.words.ndim < 2:
        raise ValueError(
            f"{what}: words have shape {codes.words.shape}, expected [*batch, n, words]; "
            "keep the example axis, also for a single example"
        )


def require_examples(codes: Codes, what: str) -> None:
    """Raises ValueError where there are no examples."""
    if codes.n == 0:
        raise ValueError(f"{what}: there are no examples, so the ratio 0/0 is undefined")


def require_same_units(a: Codes, b: Codes, what: str) -> None:
    """Raises ValueError unless two codes are codes of the same units."""
    if a.units != b.units:
        raise ValueError(
            f"{what}: the codes are of different units, {a.units} and {b.units}; "
            "compare codes of the same sites"
        )
