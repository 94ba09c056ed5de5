"""Who runs next: a bounded queue that is fair between tenants, and between the clients of each.

At most `places` jobs run at once. The rest wait, each tenant with a line for each of its clients
(whom a tenant such as a gateway tells apart by `client`). A free place goes to the next tenant in
turn and there to the next client: one that sends a thousand jobs delays the others by one job each.
As a tenant has a share of the queue, so has a client of the tenant's: there is room for the others.
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
    line: str
    size: int
    started_ns: int

    def start(self) -> None:
        """Called once, when the job has a place. Must not raise."""


class _Tenant:
    """What waits of one tenant: a line for each client, the next one first."""

    __slots__ = ("lines", "waiting")

    def __init__(self) -> None:
        self.lines: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self.waiting = 0

    def add(self, ticket: Ticket) -> None:
        line = self.lines.get(ticket.line)
        if line is None:
            line = self.lines[ticket.line] = deque()
        line.append(ticket)
        self.waiting += 1

    def waiting_in(self, name: str) -> int:
        return len(self.lines.get(name, ()))

    def take(self) -> Ticket:
        """The next one; there must be one."""
        name, line = next(iter(self.lines.items()))
        ticket = line.popleft()
        self.waiting -= 1
        if line:
            self.lines.move_to_end(name)
        else:
            del self.lines[name]
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """False when it is not here."""
        line = self.lines.get(ticket.line)
        if line is None or ticket not in line:
            return False
        line.remove(ticket)
        self.waiting -= 1
        if not line:
            del self.lines[ticket.line]
        return True


class Scheduler:
    """Gives places to tickets. Every started ticket must be given back by `release`."""

    def __init__(self, places: int, capacity: int, per_tenant: int, max_bytes: int) -> None:
        self.places = places
        self.capacity = capacity
        self.running = 0
        self.waiting = 0
        self.paused = True
        self._per_tenant = per_tenant
        self._per_line = max(1, per_tenant * 3 // 4)
        self._max_bytes = max_bytes
        self._bytes = 0
        self._tenants: OrderedDict[int, _Tenant] = OrderedDict()
        self._service_ns = float(_FIRST_GUESS_NS)
        self._filling = False

    def submit(self, ticket: Ticket) -> None:
        """Start the ticket now or let it wait. Raises RequestError `busy` when the queue is full.

        ``start`` may be called before this returns.
        """
        if self.running < self.places and not self.waiting and not self.paused:
            self._start(ticket)
            return
        tenant = self._tenants.get(ticket.tenant)
        if self.waiting >= self.capacity or self._bytes + ticket.size > self._max_bytes:
            raise self._busy("the queue is full", self.waiting)
        if tenant is None:
            tenant = self._tenants[ticket.tenant] = _Tenant()
        elif tenant.waiting >= self._per_tenant:
            raise self._busy("your share of the queue is full", tenant.waiting)
        elif ticket.line and tenant.waiting_in(ticket.line) >= self._per_line:
            # Of who names no clients, all is one line.
            raise self._busy("this client's share of the queue is full", tenant.waiting)
        tenant.add(ticket)
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
        tenant = self._tenants.get(ticket.tenant)
        if tenant is None or not tenant.remove(ticket):
            return False
        self._left_queue(ticket, tenant)
        return True

    def drain(self) -> list[Ticket]:
        """Take everything that waits out of the queue, in the order of arrival by tenant."""
        tickets = [
            ticket
            for tenant in self._tenants.values()
            for line in tenant.lines.values()
            for ticket in line
        ]
        self._tenants.clear()
        self.waiting = self._bytes = 0
        return tickets

    def pause(self) -> None:
        """Start nothing until `resume`: there is no helper to run it."""
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._fill()

    def _fill(self) -> None:
        if self._filling:  # A job that cannot be started gives its place back from within `start`.
            return
        self._filling = True
        try:
            while self.waiting and self.running < self.places and not self.paused:
                uid, tenant = next(iter(self._tenants.items()))
                ticket = tenant.take()
                self._tenants.move_to_end(uid)
                self._left_queue(ticket, tenant)
                self._start(ticket)
        finally:
            self._filling = False

    def _left_queue(self, ticket: Ticket, tenant: _Tenant) -> None:
        self.waiting -= 1
        self._bytes -= ticket.size
        if not tenant.waiting:
            del self._tenants[ticket.tenant]

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
