"""Whether this machine can run real jobs, and what a test does where it cannot."""

import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MUST_WORK = os.environ.get("SANDBOXD_MUST_WORK") == "1"
# The variables configure the daemon, too: those of the person who runs the tests must not.
CLEAN_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith("SANDBOXD_")
}

USER_MODE_LINUX = b"User Mode Linux" in Path("/proc/cpuinfo").read_bytes()
# User Mode Linux counts CPU time in ticks, and whose tick it is is a matter of chance.
CPU_GRAIN_NS = 20_000_000 if USER_MODE_LINUX else 0

_CONTROLLERS = ("memory", "pids")


def skip(reason: str) -> NoReturn:
    """Skip this test, or fail it where everything is said to be there."""
    if MUST_WORK:
        pytest.fail(f"SANDBOXD_MUST_WORK=1, but: {reason}", pytrace=False)
    pytest.skip(reason)


def missing() -> str | None:
    """The first requirement of a real daemon that is not met, as one sentence."""
    if os.geteuid() != 0:
        return "the daemon makes cgroups and namespaces when it starts: run the tests as root"
    if platform.system() != "Linux":
        return "sandboxes are made of Linux namespaces"
    if not any((REPOSITORY / "sandboxd").glob("_native*.so")) and not _installed():
        return "the helper is not built: run 'make test' or 'pip install -e .'"
    for controller in _CONTROLLERS:
        if not _has_controller(controller):
            return f"the cgroup controller {controller} is neither in a v1 nor in a v2 hierarchy"
    return None


def need_readable_tree() -> None:
    """Skip a test in which another user runs our Python, where only root can read it: in a checkout
    in root's home directory."""
    for path in (Path(sys.executable).absolute(), REPOSITORY):
        if not all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents)):
            skip(f"other users cannot read {path}")


def missing_compiler() -> str | None:
    return None if shutil.which("gcc") else "gcc is not installed: apt-get install gcc libc6-dev"


def _installed() -> bool:
    return any(Path(sysconfig.get_path("platlib")).glob("sandboxd/_native*.so"))


def _has_controller(controller: str) -> bool:
    v1 = any(
        controller in line.split(":")[1].split(",")
        for line in Path("/proc/self/cgroup").read_text().splitlines()
    )
    roots = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    files = (root / "cgroup.controllers" for root in roots)
    return v1 or any(controller in file.read_text().split() for file in files if file.exists())
