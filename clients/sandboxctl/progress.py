"""One line on a terminal that says how far something is."""

from __future__ import annotations

from sandboxctl.stdio import printable, write_all
from sandboxctl.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio

_CLEAR = "\r\x1b[K"


class Progress:
    """Shows itself on stderr where that is a terminal and nobody asked for quiet or JSON."""

    def __init__(self, command: Command, stdio: Stdio) -> None:
        self._stdio = stdio
        wanted = not command["--quiet"] and not command["--json"]
        self._shows = wanted and stdio.is_terminal(stdio.stderr)
        self._last = ""

    def show(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say that `what` is going on, with `done` bytes of `total` (0: nobody knows)."""
        if not self._shows:
            return
        # Written whenever it reads differently, which is seldom enough; to leave some out would
        # leave an old one on the screen where things stand still.
        text = f"{_CLEAR}{printable(what)}{_amount(done, total)}"
        if text != self._last:
            self._last = text
            self._put(text)

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._last:
            self._last = ""
            self._put(_CLEAR)

    def _put(self, text: str) -> None:
        try:  # noqa: SIM105 - contextlib costs 2 ms to import
            write_all(self._stdio.stderr, text.encode("utf-8", "replace"))
        except OSError:
            pass


def _amount(done: int, total: int) -> str:
    if not done and not total:
        return ""
    if not total:
        return f"  {format_size(done)}"
    return f"  {format_size(done)} of {format_size(total)}  {min(done, total) * 100 // total} %"
