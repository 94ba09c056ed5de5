"""Where MessagePack messages end in a stream of bytes.

Theory of operation. The decoder walks over the values of a message without building them: a table
says for each first byte how long the value is or how many values it holds. It remembers where it
stopped, so that every byte is looked at once however the bytes are cut, and it steps over the
payload of strings without reading it. What a peer declares is compared with the limits at once and
never used to allocate: memory grows with the bytes received, nothing else.
"""

from __future__ import annotations

from typing import Final, final

from sandboxd.protocol.errors import RemoteProtocolError

# Input files and stdin ride in the request; larger ones should come as descriptors.
DEFAULT_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
# The deepest legal message, a batch with a file mode, has seven levels.
DEFAULT_MAX_DEPTH: Final = 32
# A job with 10,000 input files has 60,000 values. Python needs up to 64 bytes for a value that
# takes one byte on the wire, so this, too, bounds what one message can cost: 16 MiB.
DEFAULT_MAX_VALUES: Final = 256 * 1024


@final
class _NeedData:
    def __repr__(self) -> str:
        return "NEED_DATA"


NEED_DATA: Final = _NeedData()


def _size_table() -> tuple[int, ...]:
    """For each first byte: n > 0, the value takes n bytes; n <= 0, it holds -n values after one
    byte (fixmap, fixarray); _SHORT or _LONG otherwise."""
    table = [1] * 256
    for low in range(16):
        table[0x80 + low] = -2 * low
        table[0x90 + low] = -low
    for low in range(32):
        table[0xA0 + low] = 1 + low
    for head in (0xC1, *_LONG_HEADS):
        table[head] = _LONG
    table[0xC4] = table[0xD9] = _SHORT
    fixed = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5}
    fixed |= {0xD3: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}
    for head, size in fixed.items():
        table[head] = size
    return tuple(table)


_SHORT: Final = -1000  # bin 8 and str 8: by far the most usual heads with a length.
_LONG: Final = -1001
# First byte: (bytes of the length field, values per unit of length, bytes besides the payload).
# Zero values per unit means that the length counts payload bytes.
_LONG_HEADS: Final = {
    0xC5: (2, 0, 3),
    0xC6: (4, 0, 5),
    0xC7: (1, 0, 3),
    0xC8: (2, 0, 4),
    0xC9: (4, 0, 6),
    0xDA: (2, 0, 3),
    0xDB: (4, 0, 5),
    0xDC: (2, 1, 3),
    0xDD: (4, 1, 5),
    0xDE: (2, 2, 3),
    0xDF: (4, 2, 5),
}
_SIZE: Final = _size_table()


class FrameDecoder:
    """Cuts a stream of bytes into MessagePack messages.

    Call `receive_data` with what came, then `next_frame` until it returns `NEED_DATA`. After a
    `RemoteProtocolError` the stream has no meaning any more and every call raises it again.
    """

    def __init__(
        self,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        max_depth: int = DEFAULT_MAX_DEPTH,
        max_values: int = DEFAULT_MAX_VALUES,
    ) -> None:
        self._max_bytes = max_message_bytes
        self._max_depth = max_depth
        self._max_values = max_values
        self._buffer = bytearray()
        self._error: str | None = None
        self._restart()

    def _restart(self) -> None:
        self._pos = 0  # Where the next value begins; may lie beyond what has come.
        self._left = 1  # Values still to come at the present level.
        self._outer: list[int] = []  # The same for the levels around it.
        self._values = 1

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended (the peer owes us the rest)."""
        return bool(self._buffer)

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the peer."""
        self._buffer += data

    def next_frame(self) -> bytes | bytearray | _NeedData:
        """The bytes of one whole message, or `NEED_DATA`.

        Raises RemoteProtocolError when what has come cannot be the beginning of a message within
        the limits.
        """
        if self._error is not None:
            raise RemoteProtocolError(self._error)
        if self._pos > len(self._buffer) or not self._buffer:
            return NEED_DATA
        try:
            whole = self._scan()
        except RemoteProtocolError as exc:
            self._error = str(exc)
            self._buffer = bytearray()
            raise
        return self._take() if whole else NEED_DATA

    def _take(self) -> bytes | bytearray:
        frame: bytes | bytearray
        size = self._pos
        if size == len(self._buffer):  # Nearly always: no copy, and the memory goes with it.
            frame, self._buffer = self._buffer, bytearray()
        else:
            frame = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
        self._restart()
        return frame

    def _scan(self) -> bool:
        """Walk on over values. True when the message ends within what has come."""
        buffer, pos, left, outer = self._buffer, self._pos, self._left, self._outer
        size_of = _SIZE
        try:
            while True:
                while left:
                    size = size_of[buffer[pos]]
                    if size > 0:
                        pos += size
                        left -= 1
                        continue
                    if size > _SHORT:
                        pos, held = pos + 1, -size
                    elif size == _SHORT:
                        pos, held = pos + 2 + buffer[pos + 1], 0
                    else:
                        pos, held = self._long(pos)
                    left -= 1
                    if held:
                        outer.append(left)
                        left = held
                        self._count(held, len(outer))
                if not outer:
                    break
                left = outer.pop()
        except IndexError:
            pass
        self._pos, self._left = pos, left
        if pos > self._max_bytes:
            raise RemoteProtocolError(
                f"a message of {pos} bytes or more; at most {self._max_bytes} are taken"
            )
        return not left and pos <= len(buffer)

    def _long(self, pos: int) -> tuple[int, int]:
        """Read a head with a length field: (where the next value begins, values held).

        Raises IndexError when the head has not come whole.
        """
        buffer = self._buffer
        head = buffer[pos]
        if head == 0xC1:
            raise RemoteProtocolError("byte 0xc1 does not begin any MessagePack value")
        width, per_unit, extra = _LONG_HEADS[head]
        if pos + width >= len(buffer):
            raise IndexError
        length = int.from_bytes(buffer[pos + 1 : pos + 1 + width], "big")
        if per_unit:
            return pos + extra, length * per_unit
        return pos + extra + length, 0

    def _count(self, held: int, depth: int) -> None:
        self._values += held
        if depth > self._max_depth:
            raise RemoteProtocolError(f"nested deeper than {self._max_depth} levels")
        if self._values > self._max_values:
            raise RemoteProtocolError(
                f"a message of {self._values} values or more; at most {self._max_values} are taken"
            )
