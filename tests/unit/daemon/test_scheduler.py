"""Places, lines and turns. Hypothesis looks for an order in which a place is lost."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.engine.scheduler import Scheduler
from sandboxd.protocol.errors import BUSY, RequestError


class Ticket:
    def __init__(self, tenant: int, log: "list[Ticket]", size: int = 0, line: str = "") -> None:
        self.tenant = tenant
        self.line = line
        self.size = size
        self.started_ns = 0
        self._log = log

    def start(self) -> None:
        self._log.append(self)


def scheduler(
    places: int = 1, capacity: int = 100, per_tenant: int = 100, max_bytes: int = 1000
) -> Scheduler:
    made = Scheduler(places, capacity, per_tenant, max_bytes)
    made.resume()
    return made


def test_a_free_place_is_given_at_once() -> None:
    log: list[Ticket] = []
    scheduler(places=1).submit(Ticket(1, log))
    assert len(log) == 1


def test_nothing_starts_before_there_is_a_helper() -> None:
    log: list[Ticket] = []
    queue = Scheduler(2, 10, 10, 1000)
    queue.submit(Ticket(1, log))
    assert (log, queue.waiting) == ([], 1)
    queue.resume()
    assert (len(log), queue.waiting, queue.running) == (1, 0, 1)


def test_tenants_take_turns() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1)
    first = Ticket(0, log)
    queue.submit(first)
    for tenant in (1, 1, 1, 2, 3, 2):
        queue.submit(Ticket(tenant, log))
    for _ in range(6):
        queue.release(log[-1])
    assert [ticket.tenant for ticket in log] == [0, 1, 2, 3, 1, 2, 1]


def test_clients_of_a_tenant_take_turns_within_its_turn() -> None:
    """A gateway with many clients is one tenant: it gets no more places for that."""
    log: list[Ticket] = []
    queue = scheduler(places=1)
    queue.submit(Ticket(0, log))
    for line in ("a", "a", "a", "b", "c"):
        queue.submit(Ticket(1, log, line=line))
    queue.submit(Ticket(2, log))
    while queue.running:
        queue.release(log[-1])
    order = [(ticket.tenant, ticket.line) for ticket in log]
    assert order == [(0, ""), (1, "a"), (2, ""), (1, "b"), (1, "c"), (1, "a"), (1, "a")]


def test_a_share_is_the_tenants_whatever_its_clients_are_called() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1, per_tenant=2)
    queue.submit(Ticket(0, log))
    queue.submit(Ticket(1, log, line="a"))
    queue.submit(Ticket(1, log, line="b"))
    with pytest.raises(RequestError, match="your share"):
        queue.submit(Ticket(1, log, line="c"))


def test_one_client_leaves_room_for_the_others_of_its_tenant() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1, per_tenant=8)
    queue.submit(Ticket(0, log))
    for _ in range(6):
        queue.submit(Ticket(1, log, line="a"))
    with pytest.raises(RequestError, match="this client's share of the queue is full") as caught:
        queue.submit(Ticket(1, log, line="a"))
    assert caught.value.code == BUSY
    for line in ("b", "c"):
        queue.submit(Ticket(1, log, line=line))
    with pytest.raises(RequestError, match="your share"):
        queue.submit(Ticket(1, log, line="d"))
    for _ in range(8):
        queue.submit(Ticket(2, log))  # It names none: the share is its own.
    while queue.running:
        queue.release(log[-1])
    queue.submit(Ticket(0, log))
    for _ in range(6):
        queue.submit(Ticket(1, log, line="a"))


def test_one_tenants_order_is_kept() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1)
    tickets = [Ticket(1, log) for _ in range(5)]
    for ticket in tickets:
        queue.submit(ticket)
    for ticket in tickets:
        queue.release(ticket)
    assert log == tickets


def test_full_queue_is_busy_and_says_when_to_come_back() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1, capacity=2)
    for tenant in range(3):
        queue.submit(Ticket(tenant, log))
    with pytest.raises(RequestError) as caught:
        queue.submit(Ticket(9, log))
    assert caught.value.code == BUSY
    assert 1_000_000 <= int(str(caught.value.data["retry_after_ns"])) <= 60_000_000_000
    assert queue.waiting == 2


def test_one_tenants_share_does_not_stop_another() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1, capacity=10, per_tenant=2)
    for _ in range(3):
        queue.submit(Ticket(1, log))
    with pytest.raises(RequestError, match="your share of the queue is full"):
        queue.submit(Ticket(1, log))
    queue.submit(Ticket(2, log))
    assert queue.waiting == 3


def test_queued_bytes_are_bounded() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1, max_bytes=100)
    queue.submit(Ticket(1, log, size=1_000_000))  # It starts, so it does not wait.
    waiting = Ticket(1, log, size=60)
    queue.submit(waiting)
    with pytest.raises(RequestError):
        queue.submit(Ticket(1, log, size=60))
    assert queue.withdraw(waiting)
    queue.submit(Ticket(1, log, size=60))


def test_withdrawn_tickets_never_start() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=1)
    running, gone, after = (Ticket(1, log) for _ in range(3))
    for ticket in (running, gone, after):
        queue.submit(ticket)
    assert queue.withdraw(gone)
    assert not queue.withdraw(gone)
    assert not queue.withdraw(running)
    queue.release(running)
    assert log == [running, after]


def test_pause_and_resume() -> None:
    log: list[Ticket] = []
    queue = scheduler(places=2)
    running = Ticket(1, log)
    queue.submit(running)
    queue.pause()
    queue.submit(Ticket(1, log))
    queue.release(running)
    assert log == [running]
    queue.resume()
    assert len(log) == 2


@given(
    places=st.integers(1, 4),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.integers(0, 3)),
            st.tuples(st.sampled_from(["release", "withdraw"]), st.integers(0, 20)),
            st.tuples(st.sampled_from(["pause", "resume"]), st.just(0)),
        ),
        max_size=60,
    ),
)
def test_every_ticket_starts_once_and_no_place_is_lost(
    places: int, steps: list[tuple[str, int]]
) -> None:
    log: list[Ticket] = []
    queue = scheduler(places, capacity=6, per_tenant=4)
    accepted: list[Ticket] = []
    released: list[Ticket] = []
    withdrawn: list[Ticket] = []
    for step, number in steps:
        running = [ticket for ticket in log if ticket not in released]
        if step == "submit":
            ticket = Ticket(number, log)
            try:
                queue.submit(ticket)
            except RequestError:
                continue
            accepted.append(ticket)
        elif step == "release" and running:
            ticket = running[number % len(running)]
            released.append(ticket)
            queue.release(ticket)
        elif step == "withdraw" and accepted:
            ticket = accepted[number % len(accepted)]
            if queue.withdraw(ticket):
                withdrawn.append(ticket)
        elif step in ("pause", "resume"):
            getattr(queue, step)()
        assert queue.running == len(log) - len(released) <= places
        assert queue.waiting == len(accepted) - len(log) - len(withdrawn)
        assert queue.paused or not queue.waiting or queue.running == places
    assert max(Counter(map(id, log)).values(), default=1) == 1
    assert not set(map(id, log)) & set(map(id, withdrawn))


def test_a_queue_of_jobs_that_cannot_be_started() -> None:
    """However long it is: each gives its place back before `start` returns."""
    waiting = scheduler(capacity=5000, per_tenant=5000)
    log: list[Ticket] = []

    class Failing(Ticket):
        def start(self) -> None:
            super().start()
            waiting.release(self)

    waiting.pause()
    for _ in range(5000):
        waiting.submit(Failing(1, log))
    waiting.resume()
    assert (len(log), waiting.running, waiting.waiting) == (5000, 0, 0)
