"""The terminal in front of `--tty`: its size, and its raw mode while the program has it."""

from __future__ import annotations

import os
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def size(fd: int) -> dict[str, int]:
    """Rows and columns of the terminal at `fd`; 24 by 80 where it does not say."""
    try:
        terminal = os.get_terminal_size(fd)
    except OSError:
        return {"rows": 24, "columns": 80}
    return {"rows": terminal.lines or 24, "columns": terminal.columns or 80}


class Raw:
    """Raw mode for as long as the block lasts: every key goes to the program's own terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before = termios.tcgetattr(fd)

    def __enter__(self) -> None:
        tty.setraw(self._fd, termios.TCSANOW)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
