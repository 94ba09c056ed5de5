"""Copies of parts of large values, for threads.

To copy a part of ``bytes`` is one step for the interpreter, during which no other thread gets its
turn, 0.3 ms for each MiB; to join pieces is not.
"""

from collections.abc import Iterator
from typing import Final

_PIECE_BYTES: Final = 1024 * 1024


def pieces(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """``data[start:end]``, piece by piece."""
    for at in range(start, end, _PIECE_BYTES):
        yield data[at : min(end, at + _PIECE_BYTES)]


def part(data: bytes, start: int, end: int) -> bytes:
    """``data[start:end]``."""
    if end - start <= _PIECE_BYTES:
        return data[start:end]
    return b"".join(pieces(data, start, end))
