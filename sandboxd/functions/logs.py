"""The output of executions while they run, read by one task for all of them.

A task for each would have to be made, woken and ended, which costs more than most executions print.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from sandboxd.engine.streams import Intake

# So many pipes are read before others get their turn.
_AT_ONCE: Final = 64


class LogReader:
    """Reads pipes until each is finished; owns none of them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._intakes: dict[int, Intake] = {}

    async def run(self) -> None:
        """Read whatever comes, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0, _AT_ONCE):
                intake = self._intakes[fd]
                intake.take()
                if intake.ended:
                    self._forget(fd)

    def add(self, intake: Intake) -> None:
        """Raises OSError when the kernel has no room for it."""
        self._epoll.register(intake.fd, select.EPOLLIN)
        self._intakes[intake.fd] = intake

    def finish(self, intake: Intake) -> None:
        """Take what is left. The program is dead, and the pipe is going to be closed."""
        if intake.fd not in self._intakes:
            return
        self._forget(intake.fd)
        while intake.take():
            pass

    def _forget(self, fd: int) -> None:
        del self._intakes[fd]
        self._epoll.unregister(fd)

    def close(self) -> None:
        self._epoll.close()
