"""Fixtures of the tests that need a real daemon."""

from collections.abc import Iterator

import pytest
from support import requirements
from support.daemon import Daemon, running

# Three jobs at once: an attack, its neighbour, and one that asks how things are.
SETTINGS = {
    "jobs": 3,
    "limits": {"wall_time_ns": 5_000_000_000, "cpu_time_ns": 5_000_000_000},
}


@pytest.fixture(scope="session")
def require_sandbox() -> None:
    """Skip (or fail, with SANDBOXD_MUST_WORK=1) where real jobs cannot run."""
    reason = requirements.missing()
    if reason:
        requirements.skip(reason)


@pytest.fixture(scope="session")
def daemon(require_sandbox: None) -> Iterator[Daemon]:
    """The real daemon that most tests share."""
    with running(**SETTINGS) as daemon:
        yield daemon
        assert daemon.process.poll() is None, f"the daemon died:\n{daemon.log_text()}"
