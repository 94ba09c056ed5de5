"""Daemons in places that lack something: file systems of their own, cgroups with limits."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxd.cgroups import find_hierarchies
from support import host
from support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_DIRECTORY = "/var/tmp"
# Of the first daemon in a directory: what it left is the next one's.
_uids: dict[Path, range] = {}


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Reachable for the daemon's user, and not in /tmp, which a test may have taken away."""
    made = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir=_DIRECTORY))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def mounted(*mounts: tuple[str | Path, str]) -> tuple[str, ...]:
    """A command that mounts tmpfs with these options, and executes what follows it."""
    lines = [f"mount -t tmpfs -o {options} none {target}" for target, options in mounts]
    return ("sh", "-ec", "\n".join([*lines, 'exec "$@"']), "sh")


def entered(group: Path) -> tuple[str, ...]:
    """A command that enters this cgroup, and executes what follows it."""
    if group.suffix == ".scope":
        # It goes with its last process, but not in the same moment.
        script = 'systemctl --quiet stop "$0" 2>/dev/null || :; exec systemd-run --scope "$@"'
        return ("sh", "-ec", script, group.name, "-qpDelegate=yes", f"--unit={group.name}", "--")
    return ("sh", "-ec", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")


@contextlib.contextmanager
def running(
    where: Path, around: Sequence[str] = (), *, stderr: int | None = None,
    environment: Mapping[str, str] | None = None, **settings: Any,
) -> Iterator[Daemon]:  # fmt: skip
    """A daemon in this directory; a second one finds the state of the first."""
    own = Path(tempfile.mkdtemp(dir=where))
    own.chmod(0o755)
    values = {"state_directory": str(where / "state"), "jobs": 1, **settings}
    if where in _uids:
        values["uid_base"] = _uids[where].start
    daemon = Daemon(values, own, environment, stderr=stderr, around=around)
    daemon.uids = _uids.setdefault(where, daemon.uids)
    try:
        yield daemon
    finally:
        daemon.stop()


def seen_by(daemon: Daemon, path: Path) -> Path:
    """A path in the daemon's own mount namespace."""
    return Path(f"/proc/{daemon.pid}/root{path}")


@contextlib.contextmanager
def filled(directory: Path) -> Iterator[None]:
    """A file system without a byte left, for as long as the block runs."""
    path = directory / "filling"
    try:
        with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12, 1 << 6, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass
        yield
    finally:
        path.unlink()


@contextlib.contextmanager
def without_inodes(directory: Path) -> Iterator[None]:
    """A file system in which no file can be made, for as long as the block runs."""
    made = []
    try:
        with contextlib.suppress(OSError):
            while True:
                made.append(directory / f"filling-{len(made)}")
                made[-1].touch()
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def cgroup(controller: str) -> Iterator[Path]:
    """A cgroup below the test's own, in which a daemon can have its own; removed with it. Of v2 a
    scope, which is made when it is entered, and goes when all have left it."""
    hierarchies = find_hierarchies()
    parent = next((item.own for item in hierarchies if controller in item.controllers), None)
    if parent is None:
        yield Path("/sys/fs/cgroup/system.slice", f"sandboxd-test-{os.getpid()}.scope")
        return
    group = parent / f"sandboxd-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        for found in sorted(group.glob("**/"), reverse=True):
            found.rmdir()


def await_gone(daemon: Daemon, seconds: float = 10.0) -> None:
    """Everything of the daemon is gone without anybody's help."""
    deadline = time.monotonic() + seconds
    while host.owned_by(daemon.uids) or host.cgroups(daemon.group):
        assert time.monotonic() < deadline, (host.owned_by(daemon.uids), host.cgroups(daemon.group))
        time.sleep(0.02)
