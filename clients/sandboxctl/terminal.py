"""The terminal in front of `--tty` and `--interactive`: its size, and its raw mode while the
program has it.

A terminal that is left raw shows nothing of what is typed, so it is put back however we end. For
the end that leaves no time (SIGKILL, a crash) there is a guard: a child that waits for the end of
a pipe whose other end only we hold, and then puts the terminal back itself.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RESTORED = b"."


def size(fd: int) -> dict[str, int]:
    """Rows and columns of the terminal at `fd`; 24 by 80 where it does not say."""
    try:
        terminal = os.get_terminal_size(fd)
    except OSError:
        return {"rows": 24, "columns": 80}
    return {"rows": terminal.lines or 24, "columns": terminal.columns or 80}


class Terminal:
    """The terminal at `fd`. `restore` must be called at the end, whether it was taken or not."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._before: list[Any] = []
        self._guard = 0
        self._lifeline = -1

    def size(self) -> dict[str, int]:
        """Rows and columns, as `job.resize` takes them."""
        return size(self.fd)

    def take(self) -> None:
        """Raw mode from now on: every key goes to the program's own terminal."""
        if self._before:
            return
        before = termios.tcgetattr(self.fd)
        self._guard, self._lifeline = _start_guard(self.fd, before)
        self._before = before
        tty.setraw(self.fd, termios.TCSANOW)

    def restore(self) -> None:
        """As it was before `take`. Never fails: the terminal may be gone."""
        if not self._before:
            return
        before, self._before = self._before, []
        _put_back(self.fd, before, termios.TCSADRAIN)
        try:
            os.write(self._lifeline, _RESTORED)
            os.waitpid(self._guard, 0)
        except OSError:  # Somebody killed the guard. It has nothing left to do.
            pass
        os.close(self._lifeline)


def _put_back(fd: int, before: list[Any], when: int) -> None:
    try:  # noqa: SIM105 - contextlib costs 2 ms to import
        termios.tcsetattr(fd, when, before)
    except termios.error:
        pass


def _start_guard(fd: int, before: list[Any]) -> tuple[int, int]:
    """(pid of the guard, our end of the pipe it waits on)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reader)
        return pid, writer
    try:
        _guard(reader, os.dup(fd), before)
    finally:
        os._exit(0)


def _guard(reader: int, terminal: int, before: list[Any]) -> None:
    """Of the child: wait for the end of our parent, or for its word that all is well."""
    # Out of the group that a terminal or a shell kills as a whole. Only who ignores SIGTTOU may
    # then still set the terminal.
    os.setpgid(0, 0)
    _signal.signal(_signal.SIGTTOU, _signal.SIG_IGN)
    # A connection that stayed open here would keep the job alive.
    os.dup2(reader, 0)
    os.dup2(terminal, 1)
    os.closerange(2, os.sysconf("SC_OPEN_MAX"))
    if os.read(0, 1) != _RESTORED:
        _put_back(1, before, termios.TCSANOW)
