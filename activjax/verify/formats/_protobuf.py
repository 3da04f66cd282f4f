"""Messages in protocol buffers' wire format, enough of it for ONNX.

Source: protobuf.dev, "Encoding": a message is a row of fields, each a varint (number and wire type)
and its payload.
"""

from __future__ import annotations

import struct
from typing import Any

from activjax.verify.formats._sexpr import FormatError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_TYPES = {_VARINT: "an integer", _EIGHT: "8 bytes", _BYTES: "bytes", _FOUR: "4 bytes"}


class Message:
    """The fields of one message.

    Attributes:
      what: for errors: file and kind of message.
    """

    def __init__(self, data: memoryview, what: str) -> None:
        self.what = what
        self._fields: dict[int, list[tuple[int, Any]]] = {}
        at = 0
        while at < len(data):
            key, at = self._varint(data, at)
            number, wire = key >> 3, key & 7
            if wire not in _TYPES or not number:
                raise FormatError(f"{what}: byte {at}: no field begins with {key:#x}; is the file "
                                  "damaged, or no ONNX?")  # fmt: skip
            if wire == _VARINT:
                value, at = self._varint(data, at)
            else:
                size = {_EIGHT: 8, _FOUR: 4}.get(wire)
                if size is None:
                    size, at = self._varint(data, at)
                if size > len(data) - at:
                    raise FormatError(f"{what}: field {number} has {size} bytes, {len(data) - at} "
                                      "are left; is the file cut off?")  # fmt: skip
                value, at = data[at : at + size], at + size
            self._fields.setdefault(number, []).append((wire, value))

    def messages(self, number: int, what: str) -> list[Message]:
        """Messages inside."""
        return [Message(value, f"{self.what}, {what}") for value in self._all(number, _BYTES)]

    def message(self, number: int, what: str) -> Message:
        """The last of them; an empty one where there is none."""
        found = self.messages(number, what)
        return found[-1] if found else Message(memoryview(b""), f"{self.what}, {what}")

    def texts(self, number: int) -> list[str]:
        """Texts."""
        try:
            return [bytes(value).decode("utf-8") for value in self._all(number, _BYTES)]
        except UnicodeDecodeError:
            raise FormatError(f"{self.what}: field {number} is not text in UTF-8") from None

    def text(self, number: int) -> str:
        """The last of them; empty where there is none."""
        return ["", *self.texts(number)][-1]

    def data(self, number: int) -> bytes | None:
        """Bytes."""
        found = self._all(number, _BYTES)
        return bytes(found[-1]) if found else None

    def integers(self, number: int) -> list[int]:
        """Signed integers, packed or not."""
        out = []
        for wire, value in self._fields.get(number, []):
            if wire == _VARINT:
                out.append(value)
                continue
            at, packed = 0, self._expect(number, wire, value, _BYTES)
            while at < len(packed):
                item, at = self._varint(packed, at)
                out.append(item)
        return [value - (1 << 64) if value >> 63 else value for value in out]

    def integer(self, number: int, default: int = 0) -> int:
        """The last of them."""
        return [default, *self.integers(number)][-1]

    def floats(self, number: int, *, double: bool = False) -> list[float]:
        """Numbers of 4 or 8 bytes, packed or not."""
        single, size, letter = (_EIGHT, 8, "d") if double else (_FOUR, 4, "f")
        out: list[float] = []
        for wire, value in self._fields.get(number, []):
            if wire != single:
                self._expect(number, wire, value, _BYTES)
            if len(value) % size:
                raise FormatError(f"{self.what}: field {number} has {len(value)} bytes, expected "
                                  f"numbers of {size}")  # fmt: skip
            out += struct.unpack(f"<{len(value) // size}{letter}", value)
        return out

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def _all(self, number: int, wire: int) -> list[memoryview]:
        return [
            self._expect(number, found, value, wire)
            for found, value in self._fields.get(number, [])
        ]

    def _expect(self, number: int, found: int, value: Any, wire: int) -> Any:
        if found != wire:
            raise FormatError(f"{self.what}: field {number} holds {_TYPES[found]}, expected "
                              f"{_TYPES[wire]}; is the file damaged, or no ONNX?")  # fmt: skip
        return value

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        value = shift = 0
        while at < len(data) and shift < 70:
            byte = data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value & ((1 << 64) - 1), at
        raise FormatError(
            f"{self.what}: an integer ends nowhere at byte {at}; is the file cut off?"
        )
