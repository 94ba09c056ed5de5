"""A daemon of an ordinary user, on a machine where the tests are root: an account that exists for
this daemon alone, with subordinate ids, in cgroups that were given to it.

With SANDBOXD_TEST_MODE=rootless every daemon of the tests is started so. It serves nobody but its
user, so that the tests, which stay root, become that user for the moment of each connect(2).
"""

import contextlib
import ctypes
import functools
import os
import platform
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sandboxd import cgroups
from support.requirements import REPOSITORY

ACTIVE: Final = os.environ.get("SANDBOXD_TEST_MODE") == "rootless"
NAME: Final = "sandboxd-tester"
_SETRESUID: Final = {"x86_64": 117, "aarch64": 147}[platform.machine()]
_CONTROLLERS: Final = ("memory", "pids", "cpuacct", "cpu")
_SCOPE: Final = ("systemd-run", "--scope", "--quiet", "--collect", "-pDelegate=yes")
# $1 is the user, $2 the directory of its files; the rest is the command. Pure v2: the scope is ours
# alone, and is given away as systemd's user manager would.
_START: Final = """
set -e
user=$1 files=$2 groups=$3
shift 3
for group in $groups; do echo $$ >"$group/cgroup.procs"; done
if [ -z "$groups" ]; then
    own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
    chown "$user" "$own" "$own/cgroup.procs" "$own/cgroup.subtree_control"
fi
for name in passwd subuid subgid; do
    if [ -e "$files/$name" ]; then
        [ -e "/etc/$name" ] || : >"/etc/$name"
        mount --bind "$files/$name" "/etc/$name"
    fi
done
mount --make-rshared /
exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
"""


class Account:
    """A user who has ``uids``: the first is the account, the others are its subordinate ids."""

    def __init__(self, uids: range, directory: Path) -> None:
        """``directory`` becomes the user's; below it is a home nobody else may enter."""
        self.uid = uids.start
        self.subordinate = uids[1:]
        self.home = directory / "home"
        self._etc = directory / "etc"
        self.home.mkdir(mode=0o700)
        self._etc.mkdir(mode=0o755)
        entry = f"{NAME}:x:{self.uid}:{self.uid}::{self.home}:/bin/sh\n"
        self.write("passwd", Path("/etc/passwd").read_text() + entry)
        ranges = f"{NAME}:{self.subordinate.start}:{len(self.subordinate)}\n"
        self.write("subuid", ranges)
        self.write("subgid", ranges)
        for path in (directory, self.home):
            self.take(path)
        self.groups = _delegate(f"rootless-{self.uid}", self.uid)

    def take(self, path: Path) -> None:
        os.chown(path, self.uid, self.uid)

    def write(self, name: str, text: str) -> None:
        """Replace the user's view of /etc/passwd, /etc/subuid or /etc/subgid."""
        (self._etc / name).write_text(text)

    def command(self, *command: str) -> list[str]:
        """What root is to run for the user to run ``command``, as the same process."""
        scope = () if self.groups else _SCOPE
        return [
            *scope, "unshare", "--mount", "--propagation", "private",
            "sh", "-c", _START, "sh", str(self.uid), str(self._etc),
            " ".join(map(str, self.groups)), *command,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def close(self) -> None:
        for group in self.groups:
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()


def _delegate(name: str, uid: int) -> list[Path]:
    """Groups below our own, where the controllers are in v1 hierarchies; else none."""
    v1 = {key: item.own for item in cgroups.find_hierarchies() for key in item.controllers}
    if "memory" not in v1:
        return []
    groups = [own / name for own in dict.fromkeys(v1[key] for key in _CONTROLLERS if key in v1)]
    for group in groups:
        group.mkdir(exist_ok=True)
        os.chown(group, uid, uid)
    return groups


ONE_USER: Final = "without root a daemon serves one user"
# Of a test about what users do to each other.
other_users: Final = pytest.mark.skipif(ACTIVE, reason=ONE_USER)
# Of a test whose daemon is not started by `support.daemon`.
starts_its_own: Final = pytest.mark.skipif(
    ACTIVE, reason="it starts a daemon of root's; test_without_root.py has the like without root"
)


def python_module(name: str) -> list[str]:
    """Runs a module that is a client of a daemon, whoever that serves."""
    if not ACTIVE:
        return [sys.executable, "-m", name]
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(REPOSITORY / 'tests')!r}); "
        "from support import rootless; rootless.connect_as_owner(); "
        f"runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", code]


def connect_as_owner() -> None:
    """From now on whoever connects to a Unix socket of somebody else does it as its owner."""
    from sandboxd_client import _connection

    class Socket(_connection.Socket):
        connect = _as_owner(_connection.Socket.connect)

    _connection.Socket = Socket  # type: ignore[misc]
    socket.socket.connect = _as_owner(socket.socket.connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = _as_owner(socket.socket.connect_ex)  # type: ignore[method-assign]


def _as_owner(connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    def wrapper(self: Any, address: Any) -> Any:
        with being(_owner(address)):
            return connect(self, address)

    return wrapper


def _owner(address: object) -> int:
    if isinstance(address, str | bytes):
        with contextlib.suppress(OSError):
            found = os.stat(address)
            if stat.S_ISSOCK(found.st_mode):
                return found.st_uid
    return 0


@contextlib.contextmanager
def being(uid: int) -> Iterator[None]:
    """For root: this thread has another effective uid for the length of the block. Others of the
    process do not, unlike with the C library's seteuid: they may be reading /proc."""
    if not uid or os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    unchanged = ctypes.c_long(-1)
    if libc.syscall(_SETRESUID, unchanged, ctypes.c_long(uid), unchanged) != 0:
        raise OSError(ctypes.get_errno(), f"seteuid in {threading.current_thread().name}")
    try:
        yield
    finally:
        libc.syscall(_SETRESUID, unchanged, ctypes.c_long(0), unchanged)
