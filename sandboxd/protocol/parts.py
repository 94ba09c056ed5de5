"""A message with much in it, as parts that need not be copied together.

An answer of 100 MiB that is encoded as one piece takes the event loop some 100 ms, for the copies
and for memory that has to be made. Here only what is small is encoded; each large value stays the
object it is, between its neighbours.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from sandboxd.protocol.sizes import output_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

# Copying less than the first costs less than to go through the message; less than the second, than
# to send it by itself.
LARGE_BYTES: Final = 512 * 1024
_ALONE_BYTES: Final = 16 * 1024
# No map but that of files has so many entries.
_MANY: Final = 64

_encode = msgspec.msgpack.Encoder().encode


def is_large(answer: object) -> bool:
    """Whether an answer, or the params of a notification, should be sent in parts."""
    return output_bytes(answer) > LARGE_BYTES


def encode(message: object) -> list[bytes]:
    """``message`` as MessagePack, in parts."""
    parts = _Parts()
    parts.add(message)
    return parts.end()


class _Parts:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._small = bytearray()

    def add(self, value: object) -> None:
        if isinstance(value, bytes) and len(value) > _ALONE_BYTES:
            self._add_alone(value)
        elif isinstance(value, Struct) and _largest(value) > _ALONE_BYTES:
            self._add_map(_fields(value))
        elif isinstance(value, dict):
            self._add_map(value)
        elif isinstance(value, list | tuple):
            self._small += _head(0x90, 0xDC, len(value))
            for each in value:
                self.add(each)
        else:
            self._small += _encode(value)

    def _add_alone(self, value: bytes) -> None:
        if len(value) < 1 << 16:
            self._small += struct.pack(">BH", 0xC5, len(value))
        else:
            self._small += struct.pack(">BI", 0xC6, len(value))
        self._parts += (bytes(self._small), value)
        self._small.clear()

    def _add_map(self, value: Mapping[Any, object]) -> None:
        self._small += _head(0x80, 0xDE, len(value))
        if len(value) > _MANY:
            value = self._add_small(value)
        for key, each in value.items():
            self._small += _encode(key)
            self.add(each)

    def _add_small(self, files: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Of many files the small ones, in one go: one by one they would take the loop long.
        Returns the others."""
        large = {name: data for name, data in files.items() if len(data) > _ALONE_BYTES}
        small = {name: data for name, data in files.items() if name not in large}
        self._small += _encode(small)[len(_head(0x80, 0xDE, len(small))) :]
        return large

    def end(self) -> list[bytes]:
        if self._small:
            self._parts.append(bytes(self._small))
        return self._parts


def _largest(value: object) -> int:
    """The longest of a model's values that are bytes."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Struct):
        return max(_largest(getattr(value, field)) for field in value.__struct_fields__)
    if isinstance(value, dict):  # Of files, or with a map of what was wrong.
        return max(map(len, value.values()), default=0)
    return max(map(_largest, value), default=0) if isinstance(value, list) else 0


def _fields(value: Struct) -> dict[str, object]:
    """Of the models in `sizes`; they have no other options (`msgspec.Struct`)."""
    found = msgspec.structs.asdict(value)
    return {key: each for key, each in found.items() if each is not msgspec.UNSET}


def _head(few: int, many: int, count: int) -> bytes:
    """Of an array or a map: the format's fixed form, that of 16 bits, and that of 32."""
    if count < 16:
        return bytes((few | count,))
    if count < 1 << 16:
        return struct.pack(">BH", many, count)
    return struct.pack(">BI", many + 1, count)
