"""Calls on descriptors whose other side may keep us waiting, each in a thread.

The kernel takes a pipe's lock for every read, write and close, O_NONBLOCK or not, and whoever has
it copies from or to memory of its own meanwhile: a program that writes from a file which is not in
memory yet, and gets next to no processor, keeps the other side waiting for as long. A terminal's
size and its end have such locks, too. On the event loop that would be every client's time. What
never waits is to ask whether there is something to read (poll).
"""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from sandboxd.engine.descriptors import close_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from outcome import Outcome

_log = logging.getLogger("sandboxd.jobs")

T = TypeVar("T")

# For whose closing there was no thread.
_unclosed: Final[set[int]] = set()


class Aside:
    """One descriptor, and the calls on it. Owns it.

    One call at a time, so that there is never more than one thread for it: none is taken away from
    others.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        self._idle = trio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether a thread is in a call."""
        return not self._idle.is_set()

    async def settled(self) -> None:
        """Wait until no thread is in a call, and `start` would do."""
        while self.busy:
            await self._idle.wait()

    def start(self, call: Callable[[int], T], done: Callable[[T], object]) -> None:
        """Have a thread make this call; the loop calls ``done`` with what it returned, whoever
        waits, and after `close`, too. Not while `busy`. Raises OSError when no thread is to be had.
        """
        token = trio.lowlevel.current_trio_token()

        def deliver(made: Outcome[T]) -> None:
            try:
                token.run_sync_soon(self._returned, made, done)
            except trio.RunFinishedError:
                return  # And the process ends.

        self._idle = trio.Event()
        try:
            trio.lowlevel.start_thread_soon(partial(call, self.fd), deliver)
        except RuntimeError as exc:
            self._idle.set()
            raise OSError(errno.EAGAIN, str(exc)) from exc

    def _returned(self, made: Outcome[T], done: Callable[[T], object]) -> None:
        self._idle.set()
        try:
            done(made.unwrap())
        except Exception:
            # One job's trouble must not take the loop, and every other job, with it.
            _log.exception("a stream of a job failed")
        if self.closed and not self.busy:
            close_aside((self.fd,))

    async def call(self, call: Callable[[int], T]) -> T:
        """What the call returns. Cancelled, this does not wait for it; it is made to its end."""
        await self.settled()
        answer: list[T] = []
        self.start(call, answer.append)
        await self.settled()
        return answer[0]

    def close(self) -> None:
        close_ends((self,))


def close_ends(ends: Iterable[Aside]) -> None:
    """Close what they own, soon. A thread that is in a call needs its descriptor until then, or
    would have the next one with that number."""
    idle = []
    for end in ends:
        if end.closed:
            continue
        end.closed = True
        trio.lowlevel.notify_closing(end.fd)
        if not end.busy:
            idle.append(end.fd)
    close_aside(idle)


def close_aside(fds: Sequence[int]) -> None:
    """Close them, soon; nobody waits for it. The caller has them no more."""
    _unclosed.update(fds)
    if not _unclosed:
        return
    try:
        trio.lowlevel.start_thread_soon(partial(close_all, tuple(_unclosed)), _closed)
    except RuntimeError:
        return  # No thread is to be had now: the next call does it.
    _unclosed.clear()


def _closed(made: Outcome[None]) -> None:
    """Whatever came of it."""
