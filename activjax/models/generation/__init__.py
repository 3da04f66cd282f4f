"""Generating text with a decoder, and cheap sweeps of edits at the last prompt position."""

from activjax.models.generation._generate import (
    Generated as Generated,
    generate as generate,
    prefill as prefill,
)
from activjax.models.generation._last_token import (
    last_token as last_token,
    sweep_last_token as sweep_last_token,
)
from activjax.models.generation._sampling import sample as sample
