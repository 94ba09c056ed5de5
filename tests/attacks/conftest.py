"""Every attack is run beside an innocent job, and everything must be as before when it is over.

The docstring of a test begins with the cases it is a test of (see cases.py), then a colon, then the
outcome: docs/attacks.md is made of that.
"""

from collections.abc import Iterator
from typing import Any

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


MODES = ("recycled", "fresh")
# What a program does in its sandbox is tried in both modes; what a client does to the daemon, and
# what one job leaves for the next (where tests choose the mode themselves), once.
_ONCE = {
    "test_api",
    "test_cores",
    "test_environments",
    "test_functions",
    "test_gateway",
    "test_leaks",
    "test_neighbour",
    "test_odd_hosts",
    "test_packages",
}


class _ModeClient(Client):
    """Asks for one mode wherever a test does not."""

    mode = ""

    def run(self, argv: Any, **options: Any) -> Any:
        return super().run(argv, **({"mode": self.mode} | options))

    def start(self, argv: Any, **options: Any) -> Any:
        return super().start(argv, **({"mode": self.mode} | options))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if "client" in metafunc.fixturenames and module not in _ONCE:
        metafunc.parametrize("client", MODES, indirect=True)


@pytest.fixture
def client(daemon: Daemon, unharmed: None, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A connection of the attack's own, closed before the invariants are checked."""
    mode: str = getattr(request, "param", "")
    with (_ModeClient if mode else Client)(daemon.socket) as client:
        if isinstance(client, _ModeClient):
            client.mode = mode
        yield client
