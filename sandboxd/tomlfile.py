"""What the TOML files that people write have in common.

Texts with a unit become numbers (``"10s"`` for ``…_ns``, ``"64M"`` for ``…_bytes``), and an error
names the key it is about.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from sandboxd.errors import ConfigError

_TIMES: Final = {
    "ns": 1,
    "us": 1000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
}
_SIZES: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def explain(text: str) -> str:
    """msgspec's ``Expected … - at `$.limits.x``` with the key in front."""
    problem, _, path = text.partition(" - at `$")
    key = path.strip("`").lstrip(".")
    match = re.fullmatch(r"Object contains unknown field `(.*)`", problem)
    if match:
        return f"{key + '.' if key else ''}{match[1]} is not a setting of sandboxd"
    match = re.fullmatch(r"Object missing required field `(.*)`", problem)
    if match:
        return f"{key + '.' if key else ''}{match[1]} is missing"
    return f"{key}: {problem[0].lower()}{problem[1:]}"


def plain(key: str, value: Any, where: str) -> Any:
    """``value`` as a number where it is text and ``key`` is of a time or a size.

    Raises ConfigError, naming ``where`` and ``key``.
    """
    if not isinstance(value, str):
        return value
    if key.endswith("_ns"):
        return _with_unit(key, value, _TIMES, where)
    if key.endswith("_bytes"):
        return _with_unit(key, value, _SIZES, where)
    return value


def _with_unit(key: str, text: str, units: Mapping[str, int], where: str) -> int:
    match = re.fullmatch(r"([0-9]+)\s*([A-Za-z]*)", text)
    if not match or match[2] not in units:
        names = ", ".join(unit for unit in units if unit)
        raise ConfigError(f"{where}: {key}: {text!r} is not a whole number with a unit ({names})")
    return int(match[1]) * units[match[2]]
