"""MessagePack in a hundred lines that import nothing.

For a command that sends five messages, importing the msgpack package (with datetime, collections
and a library of 1.6 MB) takes half as long as starting the interpreter. Whoever sends thousands
uses msgpack, as the client library does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class _NotYet(Exception):
    """The value does not end within what has come."""


def pack(value: Any) -> bytes:
    """`value` as MessagePack. Raises TypeError, OverflowError for what it cannot say."""
    out: list[bytes] = []
    _pack(value, out)
    return b"".join(out)


def _pack(value: Any, out: list[bytes]) -> None:
    if value is None or value is True or value is False:
        out.append({None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value])
    elif isinstance(value, int):
        out.append(_pack_int(value))
    elif isinstance(value, str):
        data = value.encode()
        out += (_head(len(data), 0xA0, 31, b"\xd9\xda\xdb"), data)
    elif isinstance(value, bytes):
        out += (_head(len(value), 0, -1, b"\xc4\xc5\xc6"), value)
    elif isinstance(value, list | tuple):
        out.append(_head(len(value), 0x90, 15, b"\xdc\xdc\xdd"))
        for item in value:
            _pack(item, out)
    elif isinstance(value, dict):
        out.append(_head(len(value), 0x80, 15, b"\xde\xde\xdf"))
        for key, item in value.items():
            _pack(key, out)
            _pack(item, out)
    else:
        raise TypeError(f"cannot send a {type(value).__name__}")


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return (value & 0xFF).to_bytes(1, "big")
    if value >= 0:
        return b"\xcf" + value.to_bytes(8, "big")
    return b"\xd3" + value.to_bytes(8, "big", signed=True)


def _head(length: int, fix: int, fix_max: int, heads: bytes) -> bytes:
    """The first bytes of a value: `heads` are those with 8, 16 and 32 bits of length. Arrays and
    maps have none with 8, and name that with 16 twice."""
    if length <= fix_max:
        return bytes([fix | length])
    if length < 0x100 and heads[0] != heads[1]:
        return bytes([heads[0], length])
    if length < 0x10000:
        return heads[1:2] + length.to_bytes(2, "big")
    return heads[2:3] + length.to_bytes(4, "big")


class Unpacker:
    """Finds values in bytes that come in any pieces: `feed`, then iterate."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self._data += data

    def __iter__(self) -> Iterator[Any]:
        data, at = self._data, 0
        try:
            while at < len(data):
                value, at = _unpack(data, at)
                self._data = data[at:]
                yield value
        except _NotYet:
            return


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise _NotYet
    return data[at : at + size], at + size


def _number(data: bytes, at: int, size: int, *, signed: bool = False) -> tuple[int, int]:
    taken, at = _take(data, at, size)
    return int.from_bytes(taken, "big", signed=signed), at


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    """(the value at `at`, where the next begins). Raises _NotYet, ValueError."""
    head, at = _number(data, at, 1)
    if head < 0x80:
        return head, at
    if head >= 0xE0:
        return head - 0x100, at
    if head < 0x90:
        return _map(data, at, head & 15)
    if head < 0xA0:
        return _array(data, at, head & 15)
    if head < 0xC0:
        return _text(data, at, head & 31)
    match head:
        case 0xC0 | 0xC2 | 0xC3:
            return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
        case 0xC4 | 0xC5 | 0xC6:
            length, at = _number(data, at, 1 << (head - 0xC4))
            return _take(data, at, length)
        case 0xCA | 0xCB:
            return _float(data, at, 4 << (head - 0xCA))
        case 0xCC | 0xCD | 0xCE | 0xCF:
            return _number(data, at, 1 << (head - 0xCC))
        case 0xD0 | 0xD1 | 0xD2 | 0xD3:
            return _number(data, at, 1 << (head - 0xD0), signed=True)
        case 0xD9 | 0xDA | 0xDB:
            length, at = _number(data, at, 1 << (head - 0xD9))
            return _text(data, at, length)
        case 0xDC | 0xDD:
            length, at = _number(data, at, 2 << (head - 0xDC))
            return _array(data, at, length)
        case 0xDE | 0xDF:
            length, at = _number(data, at, 2 << (head - 0xDE))
            return _map(data, at, length)
    raise ValueError(f"byte 0x{head:02x} is not expected")


def _text(data: bytes, at: int, length: int) -> tuple[str, int]:
    taken, at = _take(data, at, length)
    return taken.decode("utf-8", "surrogateescape"), at


def _float(data: bytes, at: int, size: int) -> tuple[float, int]:
    import struct

    taken, at = _take(data, at, size)
    value: float = struct.unpack(">f" if size == 4 else ">d", taken)[0]
    return value, at


def _array(data: bytes, at: int, length: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(length):
        item, at = _unpack(data, at)
        items.append(item)
    return items, at


def _map(data: bytes, at: int, length: int) -> tuple[dict[Any, Any], int]:
    items = {}
    for _ in range(length):
        key, at = _unpack(data, at)
        items[key], at = _unpack(data, at)
    return items, at
