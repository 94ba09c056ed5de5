"""What is kept in memory for clients that have not taken it: messages that they do not read, and
outcomes that they do not ask for.

It is counted by user, however many connections one has. Who has more than a share loses the oldest
outcomes, then the connection with most that is unread. Where it is too much in all, the user who
has most does, and not who happens to be sent something next.

A message or an outcome may be of any size, so one connection of a user, the one with most, and the
latest outcome are left out of the sum.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary


class Reader(Protocol):
    """A connection."""

    def give_up(self) -> None:
        """Close it. `Share.left` is called before this returns."""


class Kept(Protocol):
    """An outcome, or those of a batch so far."""

    def forget(self) -> None:
        """Nobody can ask for it any more. `Share.forget` is called before this returns."""


class Untaken:
    """All users'."""

    def __init__(self, most: int) -> None:
        """``most`` is what may be unread on one connection; a share is twice that, and all are four
        times as much."""
        self.most = most
        self.bytes = 0
        self._shares: WeakValueDictionary[int, Share] = WeakValueDictionary()

    def share(self, uid: int) -> Share:
        """This user's."""
        return self._shares.setdefault(uid, Share(self))

    def bound(self, share: Share) -> None:
        """After more has come to ``share``."""
        while share.bytes > 2 * self.most and share.bytes - share.spared > 2 * self.most:
            share.give_up(spare=1)
        while self.bytes > 4 * self.most:
            largest = max(self._shares.values(), key=_bytes)
            if self.bytes - largest.spared <= 4 * self.most:
                return
            largest.give_up()


class Share:
    """One user's, for as long as somebody has it."""

    def __init__(self, all_: Untaken) -> None:
        self.bytes = 0
        self._all = all_
        self._kept: dict[Kept, int] = {}  # The oldest first.
        self._unread: dict[Reader, int] = {}

    def keep(self, outcome: Kept, size: int) -> None:
        """The latest one, or what it has grown to."""
        self._count(size - self._kept.pop(outcome, 0))
        self._kept[outcome] = size
        self._all.bound(self)

    def forget(self, outcome: Kept) -> None:
        """It was asked for, or nobody can any more."""
        self._count(-self._kept.pop(outcome, 0))

    def unread(self, reader: Reader, size: int) -> None:
        """One more message waits to be read."""
        self._unread[reader] = self._unread.get(reader, 0) + size
        self._count(size)
        self._all.bound(self)

    def read(self, reader: Reader, size: int) -> None:
        """All of one of them."""
        self._unread[reader] -= size
        if not self._unread[reader]:
            del self._unread[reader]
        self._count(-size)

    def left(self, reader: Reader) -> None:
        """It is closed."""
        self._count(-self._unread.pop(reader, 0))

    @property
    def spared(self) -> int:
        """What is left out of the sum."""
        latest = next(reversed(self._kept.values()), 0)
        return latest + max(self._unread.values(), default=0)

    def give_up(self, spare: int = 0) -> None:
        """Take something from this user, but for so many of each kind."""
        if len(self._kept) > spare:
            next(iter(self._kept)).forget()
        elif len(self._unread) > spare:
            max(self._unread, key=self._unread.__getitem__).give_up()

    def _count(self, more: int) -> None:
        self.bytes += more
        self._all.bytes += more


def _bytes(share: Share) -> int:
    return share.bytes
