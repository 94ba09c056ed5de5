"""A kind of load: something that is done again and again, at a steady pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Wrong(Exception):
    """An answer is not what it must be."""


@dataclass(frozen=True)
class Kind:
    name: str
    rate: float
    """How often a second, for each processor."""
    once: Callable[[], Awaitable[None]]


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{found!r} instead of {wanted!r}"[:500])
