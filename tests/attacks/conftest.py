"""Every attack is run beside an innocent job, and everything must be as before when it is over."""

from collections.abc import Iterator

import pytest

from sandboxd_client import Client
from support import invariants
from support.daemon import Daemon
from support.jobs import SECOND, Stopwatch, job, run
from support.programs import report

_PATIENT = {"wall_time_ns": 120 * SECOND}
# A job takes a millisecond; what is not normal is waiting for something the attack left. The
# machine may be busy with other things, but not each time.
_NORMAL_S = 0.5
_TRIES = 5


@pytest.fixture(autouse=True)
def unharmed(daemon: Daemon) -> Iterator[None]:
    """The invariants of the suite: see `_check_afterwards`."""
    with Client(daemon.socket) as watcher:
        before = invariants.settle(daemon, watcher)
        neighbour = watcher.start(**job("neighbour", stdin_stream=True, limits=_PATIENT))
        neighbour.write(b"20 ")
        yield
        neighbour.write(b"22\n")
        neighbour.close_stdin()
        result = neighbour.wait()
        assert (result.status, report(result.stdout)) == ("ok", {"sum": "42"}), result
        assert result.cpu_time_ns < SECOND // 3, "the neighbour was charged for the attack"
        _check_afterwards(daemon, watcher, before)


def _next_job_s(watcher: Client) -> float:
    watch = Stopwatch()
    assert run(watcher, "exit_code", "0").status == "ok"
    return watch.seconds


def _check_afterwards(daemon: Daemon, watcher: Client, before: invariants.Snapshot) -> None:
    """The daemon lives and answers in normal time; nothing is left over."""
    assert daemon.process.poll() is None, daemon.log_text()
    assert any(_next_job_s(watcher) < _NORMAL_S for _ in range(_TRIES))
    invariants.settle_as(before, daemon, watcher)


@pytest.fixture
def client(daemon: Daemon, unharmed: None) -> Iterator[Client]:
    """A connection of the attack's own, closed before the invariants are checked."""
    with Client(daemon.socket) as client:
        yield client
