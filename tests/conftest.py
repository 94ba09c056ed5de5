"""Fixtures of the tests that need a real daemon."""

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from support import requirements, rootless
from support.daemon import Daemon, running

# sandboxd_client is imported where it is used: tests of other parts run without it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxd_client import Client

# Three jobs at once: an attack, its neighbour, and one that asks how things are.
SETTINGS = {
    "jobs": 3,
    "limits": {"wall_time_ns": 5_000_000_000, "cpu_time_ns": 5_000_000_000},
}
# Where an interpreter takes too long to start to be worth waiting for: in an emulated machine.
if "SANDBOXD_TEST_WARM_SLOTS" in os.environ:
    SETTINGS["warm_slots"] = int(os.environ["SANDBOXD_TEST_WARM_SLOTS"])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes some seconds; leave out with -m 'not slow'")
    # What a shell ignores in the background, and nohup, all that the tests start would ignore, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if rootless.ACTIVE:
        rootless.connect_as_owner()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure, what the shared daemon said last."""
    report = yield
    daemon = getattr(item, "funcargs", {}).get("daemon")
    if report.failed and isinstance(daemon, Daemon) and daemon.log.exists():
        report.sections.append(("log of the daemon", daemon.log_text()[-4000:]))
    return report


@pytest.fixture(scope="session")
def require_sandbox() -> None:
    """Skip (or fail, with SANDBOXD_MUST_WORK=1) where real jobs cannot run."""
    reason = requirements.missing()
    if reason:
        requirements.skip(reason)


@pytest.fixture(scope="session")
def extra_directory() -> Iterator[Path]:
    """A directory of the administrator's, `data` in `mounts`: reachable for everybody, which
    pytest's own temporary directories are not."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-mount-", dir="/tmp") as directory:
        path = Path(directory)
        path.chmod(0o755)
        (path / "readable").write_text("of the administrator")
        yield path


@pytest.fixture(scope="session")
def daemon(require_sandbox: None, extra_directory: Path) -> Iterator[Daemon]:
    """The real daemon that most tests share."""
    mounts = {"data": {"source": str(extra_directory), "target": "/data"}}
    from sandboxd_client import Client

    with running(**SETTINGS, mounts=mounts) as daemon:
        with Client(daemon.socket) as client:
            client.runtimes()  # Finding them runs jobs, and tests count those.
        yield daemon
        assert daemon.process.poll() is None, f"the daemon died:\n{daemon.log_text()}"


@pytest.fixture
def client(daemon: Daemon) -> "Iterator[Client]":
    """A connection to the shared daemon."""
    from sandboxd_client import Client

    with Client(daemon.socket) as client:
        yield client
