"""Calls on descriptors whose other side may keep us waiting, each in a thread.

The kernel takes a pipe's lock for every read, write and close, O_NONBLOCK or not, and whoever has
it copies from or to memory of its own meanwhile: a program that writes from a file which is not in
memory yet, and gets next to no processor, keeps the other side waiting for as long. A terminal's
size and its end have such locks, too. On the event loop that would be every client's time. What
never waits is to ask whether there is something to read (poll).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from sandboxd.engine.descriptors import close_all

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from outcome import Outcome

_log = logging.getLogger("sandboxd.jobs")

T = TypeVar("T")

# Of one user. With a job of three streams they are three for a moment, and hundreds of jobs may end
# together.
MAX_UNCLOSED: Final = 512


class Aside:
    """One descriptor, and the calls on it. Owns it.

    One call at a time, so that there is never more than one thread for it: none is taken away from
    others.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closer: Closer | None = None
        """Who closes it, when nobody wants it any more."""
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
        waits, and after `close_ends`, too. Not while `busy`. Raises OSError when no thread is to be
        had."""
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
        if self.closer is not None and not self.busy:
            self.closer.count(-1)
            self.closer.close((self.fd,))

    async def call(self, call: Callable[[int], T]) -> T:
        """What the call returns. Cancelled, this does not wait for it; it is made to its end."""
        await self.settled()
        answer: list[T] = []
        self.start(call, answer.append)
        await self.settled()
        return answer[0]


class Closer:
    """Closes descriptors in threads, and knows how many are not closed yet: each keeps a thread and
    its place in the daemon's table, some for ever. So those of each user have one of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unclosed = 0
        self._waiting: set[Callable[[], None]] = set()  # Each wakes a task.
        self._left: set[int] = set()  # There was no thread for them.
        self.lost = 0
        """Programs that this user's descriptors keep in the kernel, so that they cannot be ended:
        each costs a sandbox, and the user may pass no further ones meanwhile."""

    @property
    def full(self) -> bool:
        """Whether there are more than should be: no further descriptor is to be taken then."""
        return self._unclosed >= MAX_UNCLOSED

    async def room(self) -> None:
        """Wait while it is `full`. A checkpoint, unless it is not."""
        while self.full:
            event = trio.Event()
            wake = partial(trio.lowlevel.current_trio_token().run_sync_soon, event.set)
            with self._lock:
                self._waiting.add(wake)
            try:
                if self.full:  # Else a thread may have looked before we were there.
                    await event.wait()
            finally:
                with self._lock:
                    self._waiting.discard(wake)

    def close(self, fds: Collection[int]) -> None:
        """Close each once, soon; nobody waits for it. The caller has them no more."""
        left = self._left.union(fds)
        self.count(len(left) - len(self._left))
        self._left = left
        if not left:
            return
        try:
            trio.lowlevel.start_thread_soon(
                partial(close_all, tuple(left)), partial(self._closed, len(left))
            )
        except RuntimeError:
            return  # No thread is to be had now: the next call does it.
        self._left = set()

    def _closed(self, number: int, made: Outcome[None]) -> None:
        """For the thread."""
        self.count(-number)

    def count(self, more: int) -> None:
        """By any thread."""
        with self._lock:
            self._unclosed += more
            waiting = [] if self.full else list(self._waiting)
        for wake in waiting:
            with contextlib.suppress(trio.RunFinishedError):
                wake()


# For what has no user.
OURS: Final = Closer()


def close_ends(ends: Iterable[Aside], closer: Closer = OURS) -> None:
    """Close what they own, soon. A thread that is in a call needs its descriptor until then, or
    would have the next one with that number."""
    idle = []
    for end in ends:
        if end.closer is not None:
            continue
        end.closer = closer
        trio.lowlevel.notify_closing(end.fd)
        if end.busy:
            closer.count(1)
        else:
            idle.append(end.fd)
    closer.close(idle)
