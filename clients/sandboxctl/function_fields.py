"""Values of a function configuration file, taken one by one, with errors that name file and key."""

from __future__ import annotations

from sandboxctl.units import MAX_COUNT
from sandboxd.protocol.errors import SandboxdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class BadFunctionFile(SandboxdError):
    """A function configuration file cannot be used; the text names the file and the key."""


class Fields:
    """A table of the file. What was taken is known; `nothing_else` complains about the rest."""

    def __init__(self, where: str, values: dict[str, Any], at: str = "") -> None:
        self.where = where
        self.values = dict(values)
        self._at = at
        self._known: list[str] = []

    def bad(self, key: str, problem: str) -> BadFunctionFile:
        """The error for a key of this table; `problem` reads on after it."""
        return BadFunctionFile(f"{self.where}: {self._at}{key}: {problem}")

    def take(self, key: str, *others: str) -> Any:
        """The value of `key`, or of another name for it; None when there is none."""
        given = [name for name in (key, *others) if self.values.get(name) is not None]
        self._known += [key, *others]
        if len(given) > 1:
            raise self.bad(given[1], f"means the same as {given[0]}; give one of them")
        return self.values[given[0]] if given else None

    def needed(self, key: str) -> str:
        """A text that must be there."""
        value = self.take(key)
        if value is None:
            raise self.bad(key, "is missing")
        return self.text(value, key)

    def text_into(self, found: dict[str, Any], key: str, *others: str) -> None:
        """Put the text at `key` into `found`, if there is one."""
        value = self.take(key, *others)
        if value is not None:
            found[key] = self.text(value, key)

    def texts_into(self, found: dict[str, Any], key: str) -> None:
        """Put the table of texts at `key` into `found`, if there is one."""
        value = self.take(key)
        if value is not None:
            table = self.table(value, key)
            found[key] = {name: table.text(text, name) for name, text in table.values.items()}

    def nothing_else(self) -> None:
        """Raises BadFunctionFile for a key that nobody asked for."""
        for key in self.values:
            if key not in self._known:
                known = ", ".join(sorted(self._known))
                raise self.bad(key, f"is not known; there are {known}")

    # -- types -------------------------------------------------------------------------------

    def text(self, value: object, key: str) -> str:
        if not isinstance(value, str) or not value:
            raise self.bad(key, f"must be text, not {_shown(value)}")
        return value

    def truth(self, value: object, key: str) -> bool:
        if not isinstance(value, bool):
            raise self.bad(key, f"must be true or false, not {_shown(value)}")
        return value

    def count(self, value: object, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_COUNT:
            raise self.bad(key, f"must be a whole number above 0, not {_shown(value)}")
        return value

    def list(self, value: object, key: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.bad(key, f"must be a list, not {_shown(value)}")
        return value

    def table(self, value: object, key: str) -> Fields:
        if not isinstance(value, dict):
            raise self.bad(key, f"must be a table, not {_shown(value)}")
        return Fields(self.where, value, f"{self._at}{key}.")

    def json_table(self, value: object, key: str) -> dict[str, Any]:
        """A table of which every value can be JSON: TOML has dates, too."""
        import json

        table = self.table(value, key).values
        for name, inner in table.items():
            try:
                json.dumps(inner, allow_nan=False)
            except (TypeError, ValueError):
                problem = f"must be what JSON has, not {_shown(inner)}; write it as text"
                raise self.bad(f"{key}.{name}", problem) from None
        return table


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
