"""The daemon's place in the cgroup tree: found, prepared and cleaned, nothing else touched.

Theory of operation. The kernel says in /proc/self/cgroup and /proc/self/mountinfo which group the
daemon is in, once for each hierarchy. Below that group, and nowhere else, `prepare` makes
``sandboxd-<pid>``, in which the helper makes one group for each slot. With pure cgroup v2 a group
that has controllers for its children may hold no process, so the daemon first moves itself to a
``supervisor`` leaf, and turns the controllers on.

A flock on each directory says that its daemon lives; the kernel drops it with the last descriptor,
so a group without the lock was left behind by a daemon that was killed, whatever its pid is now.
"""

import errno
import fcntl
import os
import re
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandboxd.errors import HostError
from sandboxd.protocol import places

# Controllers a job cannot be limited or measured without, in each layout.
_V1_REQUIRED: Final = ("memory", "pids", "cpuacct")
# Equal shares of CPU time for jobs. In v1 it is often one hierarchy with cpuacct.
_SHARES: Final = "cpu"
_V2_REQUIRED: Final = ("memory", "pids")
_V2_WANTED: Final = (*_V2_REQUIRED, _SHARES)

_HELPER: Final = "sandbox-helper"
_SUPERVISOR: Final = "supervisor"
_GROUP: Final = re.compile(r"sandboxd-[0-9]+")
# A killed process is gone within milliseconds, unless it waits for a device.
_KILL_TIMEOUT_S: Final = 2.0

_SYSTEMD: Final = Path("/run/systemd/system")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One cgroup hierarchy as this process sees it."""

    version: int
    controllers: frozenset[str]
    own: Path
    """The directory of the group this process is in."""


@dataclass(slots=True)
class Groups:
    """The groups made for this daemon. The locks live as long as the object."""

    version: int
    directories: dict[str, Path]
    """By the helper's words: ``cg2``, or ``cg_memory``, ``cg_pids``, ``cg_cpuacct`` …"""
    locks: list[int] = field(default_factory=list)

    def arguments(self) -> list[str]:
        return [f"{name}={path}" for name, path in self.directories.items()]

    def describe(self) -> list[tuple[str, str]]:
        """Each controller in use and where."""
        if self.version == 1:
            parts = self.directories.items()
            return [(key.removeprefix("cg_"), f"v1, {path}") for key, path in parts]
        group = self.directories["cg2"]
        controllers = (group / "cgroup.subtree_control").read_text().split()
        return [(name, f"v2, {group}") for name in controllers]

    def shares_cpu(self) -> bool:
        """Whether each job's group has its share of CPU time."""
        if self.version == 1:
            return any((path / "cpu.shares").exists() for path in self.directories.values())
        return _SHARES in (name for name, _ in self.describe())

    def remove(self) -> None:
        """Remove the groups, killing what is in them. For a start that failed; after a good
        start the keeper does it, because the daemon may not any more."""
        for path in self.directories.values():
            _remove_tree(path)
        while self.locks:
            os.close(self.locks.pop())


def find_hierarchies(proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """Every mounted hierarchy in which this process's own group can be seen."""
    memberships = []
    for line in (proc / "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        memberships.append((frozenset(filter(None, names.split(","))), path))
    found = []
    for mount in _cgroup_mounts(proc):
        for controllers, path in memberships:
            if mount.holds(controllers):
                own = mount.locate(path)
                if own is not None:
                    found.append(Hierarchy(mount.version, controllers, own))
    return found


@dataclass(frozen=True, slots=True)
class _Mount:
    version: int
    options: frozenset[str]
    root: str
    point: Path

    def holds(self, controllers: frozenset[str]) -> bool:
        if self.version == 2:
            return not controllers
        return bool(controllers) and controllers <= self.options

    def locate(self, path: str) -> Path | None:
        """The directory of group ``path``, unless this mount shows another part of the tree."""
        relative = os.path.relpath(path, self.root)
        own = self.point / relative if relative != "." else self.point
        return None if relative.startswith("..") or not own.is_dir() else own


def _cgroup_mounts(proc: Path) -> list[_Mount]:
    mounts = []
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point = (_unescape(text) for text in before.split(" ")[3:5])
            version = 2 if kind == "cgroup2" else 1
            mounts.append(_Mount(version, frozenset(options.split(",")), root, Path(point)))
    return mounts


def _unescape(text: str) -> str:
    """mountinfo writes blanks as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def prepare(proc: Path = Path("/proc/self"), *, user: str = "") -> Groups:
    """Make this daemon's groups and remove those of dead daemons. Needs the right to write there.

    ``user`` is the name of whoever does it without being root. Raises HostError with one sentence
    when the host cannot give what jobs need.
    """
    hierarchies = find_hierarchies(proc)
    if not hierarchies:
        raise HostError("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup")
    v1 = {name: item for item in hierarchies for name in item.controllers}
    v2 = next((item for item in hierarchies if item.version == 2), None)
    name = f"sandboxd-{os.getpid()}"
    try:
        if "memory" in v1 or v2 is None:
            return _prepare_v1(v1, name, user)
        return _prepare_v2(v2, name, _cure_v2(v2.own, user))
    except OSError as exc:
        cure = _cure_v1(v1, user) if "memory" in v1 or v2 is None else _cure_v2(v2.own, user)
        raise HostError(
            f"cannot set up the cgroup {exc.filename}: {exc.strerror}; sandboxd must be allowed "
            f"to write to its own cgroup: {cure}"
        ) from exc


def _cure_v1(v1: dict[str, Hierarchy], user: str) -> str:
    """How to come by a group that may be written to."""
    if not user:
        return _start_by_systemd("")
    groups = dict.fromkeys(v1[key].own for key in (*_V1_REQUIRED, _SHARES) if key in v1)
    return (
        f"as root, for your shell: for g in {' '.join(map(str, groups))}; do mkdir -p $g/{user};"
        f" chown {user} $g/{user}; echo {os.getppid()} >$g/{user}/cgroup.procs; done"
    )


def _cure_v2(own: Path, user: str) -> str:
    if not user or _SYSTEMD.is_dir():
        return _start_by_systemd(user)
    wanted = " ".join(f"+{name}" for name in _V2_WANTED)
    return (
        f"as root, for your shell: g={own}/{user}; mkdir $g; echo {os.getppid()} >$g/cgroup.procs;"
        f" echo {wanted} >{own}/cgroup.subtree_control; chown {user} $g $g/cgroup.procs"
        " $g/cgroup.subtree_control"
    )


def _start_by_systemd(user: str) -> str:
    option = "--user " if user else ""
    # Such as after su, where nobody has logged in.
    unmanaged = user and not places.runtime_directory(os.environ)
    first = f"as root, loginctl enable-linger {user}; then " if unmanaged else ""
    return (
        f"{first}start it as a systemd {'user ' if user else ''}service with Delegate=yes, or by "
        f"'systemd-run {option}--scope -p Delegate=yes sandboxd'"
    )


def _prepare_v1(v1: dict[str, Hierarchy], name: str, user: str) -> Groups:
    for controller in _V1_REQUIRED:
        if controller not in v1:
            raise HostError(
                f"the cgroup controller {controller} is missing: mount its hierarchy "
                f"(mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}) or boot "
                "with pure cgroup v2 (systemd.unified_cgroup_hierarchy=1)"
            )
    parents = {f"cg_{controller}": v1[controller].own for controller in _V1_REQUIRED}
    shares = v1.get(_SHARES)
    # An ordinary user may not have been given any; what that costs is among what is weaker then.
    given = shares is not None and (not user or os.access(shares.own, os.W_OK))
    if shares is not None and given and shares.own not in parents.values():
        parents[f"cg_{_SHARES}"] = shares.own
    return _make_groups(1, parents, name)


def _prepare_v2(v2: Hierarchy, name: str, cure: str) -> Groups:
    available = (v2.own / "cgroup.controllers").read_text().split()
    for controller in _V2_REQUIRED:
        if controller not in available:
            raise HostError(
                f"the cgroup controller {controller} is not available in {v2.own}: {cure}"
            )
    wanted = [controller for controller in _V2_WANTED if controller in available]
    # The root of the whole tree is the one group that may hold processes and children alike; it
    # is also the one without cgroup.type.
    if (v2.own / "cgroup.type").exists():
        _move_to_supervisor(v2.own)
    _enable(v2.own, wanted, cure)
    groups = _make_groups(2, {"cg2": v2.own}, name)
    _enable(groups.directories["cg2"], wanted, cure)
    return groups


def _move_to_supervisor(own: Path) -> None:
    supervisor = own / _SUPERVISOR
    supervisor.mkdir(exist_ok=True)
    (supervisor / "cgroup.procs").write_text("0")


def _enable(group: Path, controllers: Sequence[str], cure: str) -> None:
    try:
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        others = (group / "cgroup.procs").read_text().split()
        raise HostError(
            f"the cgroup {group} holds other processes (pid {', '.join(others[:5])}), so it cannot "
            f"have controllers for jobs: give sandboxd a cgroup of its own: {cure}"
        ) from exc


def _make_groups(version: int, parents: dict[str, Path], name: str) -> Groups:
    """Make ``name`` in each parent and lock it.

    The parent is locked meanwhile: another daemon that starts at this moment must not take the
    new directory, which nobody holds yet, for a stale one.
    """
    groups = Groups(version, {key: parent / name for key, parent in parents.items()})
    try:
        for parent in dict.fromkeys(parents.values()):
            lock = _open_locked(parent)
            try:
                _remove_stale(parent)
                (parent / name).mkdir()
                groups.locks.append(_open_locked(parent / name))
            finally:
                os.close(lock)
    except BaseException:
        groups.remove()
        raise
    return groups


def _open_locked(path: Path, flags: int = 0) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | flags)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _remove_stale(parent: Path) -> None:
    for entry in sorted(parent.iterdir()):
        if _GROUP.fullmatch(entry.name) and entry.is_dir():
            try:
                lock = _open_locked(entry, fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _kill_helpers(entry)
            _remove_tree(entry)
            os.close(lock)


def _kill_helpers(group: Path) -> None:
    """Kill what serves a dead daemon's group still: a keeper or a worker that hangs or was stopped.
    They are in no group of ours, but have its path in their command line (native/src/helper.c)."""
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    for name in filter(str.isdigit, os.listdir("/proc")):
        if _serves(int(name), group):
            _kill_and_wait(int(name), deadline, lambda pid: _serves(pid, group))


def _serves(pid: int, group: Path) -> bool:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False  # It has ended.
    return name == _HELPER and os.fsencode(group) in arguments


def _remove_tree(group: Path) -> None:
    """Kill what is in a group of ours and below, then remove it. Gives up silently where the
    kernel does not let go in time: the next start tries again."""
    for directory, _, _ in os.walk(group, topdown=False):
        path = Path(directory)
        try:
            _kill_members(path)
            _rmdir(path)
        except OSError:
            continue


def _members(group: Path) -> list[int]:
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []  # Somebody else has removed the group.


def _kill_members(group: Path) -> None:
    """SIGKILL every member until none is left, waiting for each death by pidfd."""
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    while time.monotonic() < deadline:
        pids = _members(group)
        if not pids:
            return
        if (group / "cgroup.kill").exists():
            (group / "cgroup.kill").write_text("1")
        for pid in pids:
            _kill_and_wait(pid, deadline, lambda pid: pid in _members(group))


def _kill_and_wait(pid: int, deadline: float, is_it: Callable[[int], bool]) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The number may have gone to another process before the pidfd was opened; from here on
        # it cannot any more.
        if not is_it(pid):
            return
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


def _rmdir(group: Path) -> None:
    """A group whose last member has just died stays busy for a moment; v1 has no event for it."""
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    while True:
        try:
            group.rmdir()
        except OSError as exc:
            if exc.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return
