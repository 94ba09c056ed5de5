"""Sizes and times as people type and read them."""

from __future__ import annotations

_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_TIMES = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "min": 60_000_000_000,
    "h": 3600_000_000_000,
}
MAX_COUNT = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes for `64M`, `1.5g`, `512KiB`, `1048576`. Raises ValueError with what would be right."""
    number, unit = _split(text)
    unit = unit.lower().removesuffix("ib").removesuffix("b")
    if unit not in _SIZES:
        raise ValueError("a size such as 64M, 512K or 1048576")
    return _scale(number, _SIZES[unit], "a size such as 64M, 512K or 1048576")


def parse_time(text: str) -> int:
    """Nanoseconds for `250ms`, `1.5s`, `2` (s). Raises ValueError with what would be right."""
    number, unit = _split(text)
    if (unit or "s") not in _TIMES:
        raise ValueError("a time such as 1s, 250ms or 2m")
    return _scale(number, _TIMES[unit or "s"], "a time such as 1s, 250ms or 2m")


def parse_count(text: str) -> int:
    """A whole number above zero. Raises ValueError with what would be right."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a whole number such as 16")
    return _scale(text, 1, "a whole number such as 16")


def _split(text: str) -> tuple[str, str]:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return number, text[len(number) :]


def _scale(number: str, factor: int, right: str) -> int:
    """`number` with up to 9 decimals times `factor`, exactly: no float is involved."""
    whole, dot, part = number.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit()) or (dot and not part) or len(part) > 9:
        raise ValueError(right)
    if len(whole) > 19:
        raise ValueError(f"{right}, and not as large")
    scale = int("1" + "0" * len(part))
    value, rest = divmod(int(digits) * factor, scale)
    if rest or not value:
        raise ValueError(f"{right}, at least {'1 and whole' if factor > 1 else '1'}")
    if value > MAX_COUNT:
        raise ValueError(f"{right}, and not as large")
    return value


def format_size(size: int) -> str:
    """Bytes for people: `512 B`, `1.5 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_time(ns: int) -> str:
    """A duration for people: `1.5 ms`, `3 min 20 s`, `2 h 5 min`."""
    if ns < 60_000_000_000:
        for unit, factor in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
            if ns >= factor:
                return f"{ns / factor:.3g} {unit}"
        return f"{ns} ns"
    minutes, seconds = divmod(ns // 10**9, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    while not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{value} {unit}" for value, unit in parts[:2])
