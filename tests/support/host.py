"""What can be seen of processes from the host, read as root from /proc."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_STATUS = re.compile(
    rb"Name:\t(?P<name>.*?)\n.*?^State:\t(?P<state>.).*?^PPid:\t(?P<parent>\d+)"
    rb".*?^Uid:\t\d+\t(?P<uid>\d+)",
    re.S | re.M,
)


@dataclass(frozen=True, slots=True)
class Process:
    """One line of a table of all processes."""

    name: str
    zombie: bool
    parent: int
    uid: int
    """The effective one."""


Table = dict[int, Process]


def processes() -> Table:
    """Every process of this host by its pid: the whole table costs some milliseconds, so who has
    several questions asks them of one."""
    found = {pid: process(pid) for pid in _pids()}
    return {pid: one for pid, one in found.items() if one is not None}


def process(pid: int) -> Process | None:
    """None for one that is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            match = _STATUS.match(file.read(4096))
    except (FileNotFoundError, ProcessLookupError):
        return None
    if match is None:
        return None
    name = match["name"].decode("utf-8", "replace")
    return Process(name, match["state"] == b"Z", int(match["parent"]), int(match["uid"]))


def parents() -> dict[int, int]:
    """The parent of every process."""
    return {pid: process.parent for pid, process in processes().items()}


def descendants(pid: int, table: Table | None = None) -> list[int]:
    """Every child of ``pid``, and theirs, without ``pid``."""
    children: dict[int, list[int]] = {}
    for child, process in (processes() if table is None else table).items():
        children.setdefault(process.parent, []).append(child)
    found = [pid]
    for member in found:
        found += children.get(member, ())
    return found[1:]


def owned_by(uids: range, table: Table | None = None) -> list[int]:
    """Every process whose effective user is in ``uids``, wherever it is in the tree."""
    every = processes() if table is None else table
    return [pid for pid, process in every.items() if process.uid in uids]


def effective_uid(pid: int) -> int:
    """-1 of one that is gone."""
    found = process(pid)
    return -1 if found is None else found.uid


def is_zombie(pid: int) -> bool:
    """Or gone."""
    found = process(pid)
    return found is None or found.zombie


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptors(pid: int) -> list[str]:
    """What each open descriptor of a process is, without the numbers that differ each time."""
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = []
    for fd in fds:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        # A file that is built again meanwhile is the same descriptor still.
        found.append(target.partition(":[")[0].removesuffix(" (deleted)"))
    return sorted(found)


def namespaces(pids: list[int]) -> dict[str, set[str]]:
    """The namespaces these processes are in, by kind."""
    found: dict[str, set[str]] = {kind: set() for kind in _NAMESPACES}
    for pid in pids:
        for kind in _NAMESPACES:
            try:
                found[kind].add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM and its own (no file pages)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def cgroups(group: str) -> list[Path]:
    """Every cgroup of this name, and below it, in every hierarchy that is mounted."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = set()
    for mount in mounts:
        if " - cgroup" in mount:
            paths = _cgroups_below(mount.split()[4])
            found |= {Path(path) for path in paths if group in path.split("/")}
    return sorted(found)


def _cgroups_below(path: str) -> Iterator[str]:
    """Reading such a directory is slow, for all the files in it; that it has no other directories
    its links tell. What is removed meanwhile is left out."""
    try:
        has_groups = os.stat(path).st_nlink > 2
        yield path
        if has_groups:
            with os.scandir(path) as entries:
                inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for group in inner:
                yield from _cgroups_below(group)
    except FileNotFoundError:
        return


def files_of(uids: range, directories: tuple[str, ...]) -> list[str]:
    """Files of these users directly below directories that everybody may write to."""
    found = []
    for directory in directories:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.stat(follow_symlinks=False).st_uid in uids:
                        found.append(entry.path)
                except FileNotFoundError:
                    continue
    return sorted(found)


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
