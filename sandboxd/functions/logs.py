"""The output of executions while they run, read by one task for all of them.

A task for each would have to be made, woken and ended, which costs more than most executions print.
"""

from __future__ import annotations

import logging
import select
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from sandboxd.logs import fields

if TYPE_CHECKING:
    from sandboxd.engine.streams import Intake

_log = logging.getLogger("sandboxd.functions")

# So many pipes are read before others get their turn.
_AT_ONCE: Final = 64
_ONCE: Final = select.EPOLLIN | select.EPOLLONESHOT
# When no thread is to be had.
_PAUSE_S: Final = 0.1


class LogReader:
    """Reads pipes until each is finished; owns none of them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._intakes: dict[int, Intake] = {}

    async def run(self) -> None:
        """Read whatever comes, until cancelled. A pipe that is read is watched again afterwards:
        its program may keep the thread waiting, and nobody else."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0, _AT_ONCE):
                intake = self._intakes.get(fd)
                if intake is None:  # It was finished during the pause.
                    continue
                if not intake.look():
                    self._watch_again(intake)
                    continue
                try:
                    intake.start(partial(self._arrived, intake))
                except OSError as exc:
                    _log.error("a log cannot be read now %s", fields(why=exc.strerror))
                    await trio.sleep(_PAUSE_S)
                    self._arrived(intake)

    def _arrived(self, intake: Intake) -> None:
        if self._intakes.get(intake.end.fd) is intake:
            self._watch_again(intake)

    def _watch_again(self, intake: Intake) -> None:
        if intake.ended:
            self._forget(intake)
        else:
            self._epoll.modify(intake.end.fd, _ONCE)

    def add(self, intake: Intake) -> None:
        """Raises OSError when the kernel has no room for it."""
        self._epoll.register(intake.end.fd, _ONCE)
        self._intakes[intake.end.fd] = intake

    async def finish(self, intake: Intake) -> None:
        """Take what is left. The program is dead, and the pipe is going to be closed."""
        self.leave(intake)
        await intake.drain(trio.lowlevel.checkpoint)

    def leave(self, intake: Intake) -> None:
        """Read it no more. Where a thread does just now, what that brings is passed on."""
        if self._intakes.get(intake.end.fd) is intake:
            self._forget(intake)

    def _forget(self, intake: Intake) -> None:
        del self._intakes[intake.end.fd]
        self._epoll.unregister(intake.end.fd)

    def close(self) -> None:
        self._epoll.close()
