"""What a layer lets tokens see: their places, the keys they attend to, how heads rotate.

Layers of two kinds (with a window and without) run in one loop: what each kind sees is made once
outside of it, and a layer takes its own by a flag.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from activjax.models.decoder._rotary import Rotary, Table, rotate
from activjax.models.decoder._tokens import Tokens
from activjax.models.decoder.config import DecoderConfig


@dataclass(frozen=True)
class View:
    """What one layer sees.

    Attributes:
      at: position of each token.
      allowed: which keys a token attends to, those in the cache first.
      rotary: how heads rotate; None where they do not.
      table: its angles at these positions; None to compute them where they are used.
    """

    at: Int[Array, "#batch seq"]
    allowed: Bool[Array, "#batch 1 seq key"]
    rotary: Rotary | None
    table: Table | None = None

    def rotated(self, x: Float[Array, "batch seq head d"]) -> Float[Array, "batch seq head d"]:
        """Queries or keys as the scores use them."""
        if self.rotary is None:
            return x
        return rotate(x, self.rotary.table(self.at) if self.table is None else self.table)


@dataclass(frozen=True)
class Views:
    """What every layer of a decoder sees.

    Attributes:
      whole, windowed: without a window and with it; the same where all layers are alike.
      flags: for each layer whether it has the window; None where all are alike.
    """

    whole: View
    windowed: View
    flags: tuple[bool, ...] | None

    def of(self, flag: bool | Bool[Array, ""] | None) -> View:
        """The view of a layer with this flag (traced: of the same program), None without flags."""
        if flag is None or isinstance(flag, bool):
            return self.windowed if flag else self.whole
        a, b = self.windowed, self.whole
        allowed = jnp.where(flag, a.allowed, b.allowed)
        table = jax.tree.map(lambda a, b: jnp.where(flag, a, b), a.table, b.table)
        return View(b.at, allowed, b.rotary, table)

    def at_layer(self, layer: Int[Array, ""]) -> View:
        """The view of a layer by its number, which may be traced."""
        if self.flags is None:
            return self.whole
        flags = jnp.asarray(self.flags)
        return self.of(jax.lax.dynamic_index_in_dim(flags, layer, keepdims=False))


def views(tokens: Tokens, config: DecoderConfig) -> Views:
    """What the layers see of tokens."""
    c = config
    rotary = local = None
    if c.positions == "rotary":
        rotary = local = Rotary(c.rotated, c.rotary_base, c.rotary_scaling)
        if c.window_rotary_base is not None:
            local = Rotary(c.rotated, c.window_rotary_base)
    whole = View(tokens.at, tokens.allowed, rotary)
    has = c.has_window
    if c.window is None or not any(has):
        return Views(whole, whole, None)
    windowed = View(tokens.at, tokens.within(c.window), local)
    if all(has):
        return Views(windowed, windowed, None)
    if rotary is not None and local is not None and rotary != local:
        whole, windowed = (
            dataclasses.replace(v, table=r.table(tokens.at))
            for v, r in ((whole, rotary), (windowed, local))
        )
    return Views(whole, windowed, has)
