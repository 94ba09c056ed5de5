"""Who runs next: a bounded queue that is fair between tenants.

At most `places` jobs run at once. The rest wait, each tenant in a line of its own, and a free place
goes to the next tenant in turn: one that sends a thousand jobs delays the others by one job each.
Nothing here waits, sleeps or knows what a job does.
"""

import time
from collections import OrderedDict, deque
from typing import Final, Protocol

from sandboxd.protocol.errors import BUSY, RequestError

# Smoothing of the measured service time: about the last 16 jobs count.
_WEIGHT: Final = 1 / 16
_FIRST_GUESS_NS: Final = 100_000_000
_MIN_RETRY_NS: Final = 1_000_000
_MAX_RETRY_NS: Final = 60_000_000_000


class Ticket(Protocol):
    """What the scheduler needs to know of a job."""

    tenant: int
    size: int
    started_ns: int

    def start(self) -> None:
        """Called once, when the job has a place. Must not raise."""


class Scheduler:
    """Gives places to tickets. Every started ticket must be given back by `release`."""

    def __init__(self, places: int, capacity: int, per_tenant: int, max_bytes: int) -> None:
        self.places = places
        self.capacity = capacity
        self.running = 0
        self.waiting = 0
        self.paused = True
        self._per_tenant = per_tenant
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lines: OrderedDict[int, deque[Ticket]] = OrderedDict()
        self._service_ns = float(_FIRST_GUESS_NS)

    def submit(self, ticket: Ticket) -> None:
        """Start the ticket now or let it wait. Raises RequestError `busy` when the queue is full.

        ``start`` may be called before this returns.
        """
        if self.running < self.places and not self.waiting and not self.paused:
            self._start(ticket)
            return
        line = self._lines.get(ticket.tenant)
        if self.waiting >= self.capacity or self._bytes + ticket.size > self._max_bytes:
            raise self._busy("the queue is full", self.waiting)
        if line is not None and len(line) >= self._per_tenant:
            raise self._busy("your share of the queue is full", len(line))
        if line is None:
            line = self._lines[ticket.tenant] = deque()
        line.append(ticket)
        self.waiting += 1
        self._bytes += ticket.size

    def release(self, ticket: Ticket) -> None:
        """A started ticket ended: its place goes to the next one."""
        self.running -= 1
        took = time.monotonic_ns() - ticket.started_ns
        self._service_ns += (took - self._service_ns) * _WEIGHT
        if self.waiting:
            self._fill()

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a waiting ticket out of the queue. False when it does not wait."""
        line = self._lines.get(ticket.tenant)
        if line is None or ticket not in line:
            return False
        line.remove(ticket)
        self._left_queue(ticket, line)
        return True

    def drain(self) -> list[Ticket]:
        """Take everything that waits out of the queue, in the order of arrival by tenant."""
        tickets = [ticket for line in self._lines.values() for ticket in line]
        self._lines.clear()
        self.waiting = self._bytes = 0
        return tickets

    def pause(self) -> None:
        """Start nothing until `resume`: there is no helper to run it."""
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._fill()

    def _fill(self) -> None:
        while self.waiting and self.running < self.places and not self.paused:
            tenant, line = next(iter(self._lines.items()))
            ticket = line.popleft()
            self._lines.move_to_end(tenant)
            self._left_queue(ticket, line)
            self._start(ticket)

    def _left_queue(self, ticket: Ticket, line: deque[Ticket]) -> None:
        self.waiting -= 1
        self._bytes -= ticket.size
        if not line:
            del self._lines[ticket.tenant]

    def _start(self, ticket: Ticket) -> None:
        self.running += 1
        ticket.started_ns = time.monotonic_ns()
        ticket.start()

    def _busy(self, why: str, ahead: int) -> RequestError:
        """Says when to try again: after the measured time for a quarter of what is ahead, so
        that the queue neither runs empty nor is asked all the time."""
        guess = int(self._service_ns * max(1, ahead / 4) / self.places)
        retry = max(_MIN_RETRY_NS, min(guess, _MAX_RETRY_NS))
        message = f"{why}; try again in {retry / 1e9:.3g} s"
        return RequestError(BUSY, message, {"retry_after_ns": retry})
