"""Pieces of data inside a page: deflate in base64, decoded only when the page needs them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np


def block(name: str, data: bytes) -> str:
    """A data block: an element that no browser runs or shows."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = base64.b64encode(packer.compress(data) + packer.flush()).decode("ascii")
    return f'<script type="text/plain" id="{name}">{packed}</script>\n'


def json_block(name: str, data: Any) -> str:
    """A data block of JSON."""
    return block(name, json.dumps(data, separators=(",", ":")).encode())


def planes(array: np.ndarray) -> bytes:
    """The numbers' lowest bytes, then their next, and so on: small numbers deflate to little."""
    flat = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return flat.reshape(-1, 1).view(np.uint8).T.tobytes()


def plain_json(name: str, data: Any) -> str:
    """JSON that is small and needed at once; no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{name}">{safe}</script>\n'
