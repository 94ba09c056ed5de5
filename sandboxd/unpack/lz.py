"""The two decompressors that squashfs images need and Python has not: LZO1X and LZ4.

Both formats are sequences of "copy these bytes" and "repeat what you wrote that long ago". Here
they are read from untrusted bytes by Python, which checks every index; what is left to bound is the
size of the output.
"""

from __future__ import annotations

_M4_BASE = 16384  # LZO: where the longest distances begin.


class BadData(ValueError):
    """It is not what such a compressor writes."""


class _Output:
    """What was written so far, at most ``most`` bytes."""

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self._most = most

    def literal(self, data: bytes, length: int) -> None:
        if len(data) != length:
            raise BadData("compressed data ends too early")
        self._reserve(length)
        self.data += data

    def repeat(self, distance: int, length: int) -> None:
        """Where they overlap, what is written is repeated in its turn."""
        start = len(self.data) - distance
        if start < 0 or not distance:
            raise BadData("compressed data refers to what was never there")
        self._reserve(length)
        piece = bytes(self.data[start : start + length])
        while len(piece) < length:
            piece += piece
        self.data += piece[:length]

    def _reserve(self, length: int) -> None:
        if len(self.data) + length > self._most:
            raise BadData(f"compressed data unpacks to more than {self._most} bytes")


def lz4(data: bytes, most: int) -> bytes:
    """Unpack an LZ4 block. Raises BadData."""
    output = _Output(most)
    at = 0
    try:
        while at < len(data):
            token = data[at]
            at += 1
            length, at = _lz4_length(data, at, token >> 4)
            output.literal(data[at : at + length], length)
            at += length
            if at == len(data):
                break
            distance = data[at] | data[at + 1] << 8
            length, at = _lz4_length(data, at + 2, token & 15)
            output.repeat(distance, length + 4)
    except IndexError:
        raise BadData("compressed data ends too early") from None
    return bytes(output.data)


def _lz4_length(data: bytes, at: int, length: int) -> tuple[int, int]:
    if length == 15:
        while True:
            byte = data[at]
            at += 1
            length += byte
            if byte != 255:
                break
    return length, at


def lzo(data: bytes, most: int) -> bytes:
    """Unpack an LZO1X stream. Raises BadData."""
    try:
        return _Lzo(data, most).run()
    except IndexError:
        raise BadData("compressed data ends too early") from None


class _Lzo:
    """One stream, as the kernel's Documentation/staging/lzo.rst has it."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = data
        self._at = 0
        self._output = _Output(most)
        self._state = 0
        """How many literals came last: 0 to 3, 4 for more."""

    def run(self) -> bytes:
        if self._data[0] > 17:
            length = self._data[0] - 17
            self._at = 1
            self._literals(length)
            self._state = min(length, 4)
        while not self._instruction():
            pass
        return bytes(self._output.data)

    def _instruction(self) -> bool:
        """True at the mark of the end."""
        code = self._byte()
        if code >= 64:
            length = 3 + (code >> 5 & 1) if code < 128 else 5 + (code >> 5 & 3)
            self._match((self._byte() << 3) + (code >> 2 & 7) + 1, length, code & 3)
        elif code >= 32:
            length = 2 + self._length(code & 31, 31)
            tail = self._byte() | self._byte() << 8
            self._match((tail >> 2) + 1, length, tail & 3)
        elif code >= 16:
            length = 2 + self._length(code & 7, 7)
            tail = self._byte() | self._byte() << 8
            distance = _M4_BASE + ((code & 8) << 11) + (tail >> 2)
            if distance == _M4_BASE:
                return True
            self._match(distance, length, tail & 3)
        elif self._state == 0:
            self._literals(3 + self._length(code, 15))
            self._state = 4
        else:
            base, length = (2049, 3) if self._state == 4 else (1, 2)
            self._match((self._byte() << 2) + (code >> 2) + base, length, code & 3)
        return False

    def _match(self, distance: int, length: int, literals: int) -> None:
        self._output.repeat(distance, length)
        self._literals(literals)
        self._state = literals

    def _literals(self, length: int) -> None:
        self._output.literal(self._data[self._at : self._at + length], length)
        self._at += length

    def _length(self, short: int, base: int) -> int:
        """A length that did not fit into the code is base + 255 for each zero + a byte."""
        if short:
            return short
        length = base
        while not (byte := self._byte()):
            length += 255
        return length + byte

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte
