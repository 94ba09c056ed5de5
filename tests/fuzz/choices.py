"""Decisions read from the bytes that the fuzzer makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_ODD = (
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**63 - 1, 2**64 - 1, -(2**63), 0.5, float("inf"),
    "", "a", "/", "..", "a/../b", "/work", "\0", "\n", "ä", "\ud800", "x" * 300, "*", "**/[a-", "=",
    b"", b"\xff", b"\0", "stdin", "loopback", "recycled", "SIGKILL", "python", "1.x || >2", "json",
)  # fmt: skip


class Choices:
    """Reads from ``data``; beyond its end everything is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(self.left)

    def byte(self) -> int:
        return next(iter(self.take(1)), 0)

    def number(self) -> int:
        return int.from_bytes(self.take(self.byte() % 9), "little")

    def of(self, values: Sequence[T]) -> T:
        return values[int.from_bytes(self.take(2), "little") % len(values)]

    def text(self) -> str:
        return self.take(self.byte()).decode("utf-8", "replace")

    def value(self, names: Sequence[str], depth: int = 4) -> object:
        """Anything that MessagePack can say, with ``names`` among the keys of its maps."""
        kind = self.byte() % 12
        if not self.left or kind < 5:
            return self.of(_ODD)
        if kind < 8 or not depth:
            return (self.number, self.text, lambda: self.take(self.byte()))[kind % 3]()
        count = self.byte() % 6
        if kind < 10:
            return [self.value(names, depth - 1) for _ in range(count)]
        return {self.key(names): self.value(names, depth - 1) for _ in range(count)}

    def key(self, names: Sequence[str]) -> str:
        return self.text() if self.byte() > 240 else self.of(names)
