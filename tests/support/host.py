"""What can be seen of processes from the host, read as root from /proc."""

import os
from collections.abc import Iterator
from pathlib import Path

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for pid in _pids():
        try:
            # The command, in brackets, may hold blanks and brackets.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[pid] = int(fields[1])
    return found


def descendants(pid: int) -> list[int]:
    """Every child of ``pid``, and theirs, without ``pid``."""
    tree = parents()
    found = [pid]
    for member in found:
        found += [child for child, parent in tree.items() if parent == member]
    return found[1:]


def owned_by(uids: range) -> list[int]:
    """Every process whose effective user is in ``uids``, wherever it is in the tree."""
    found = []
    for pid in _pids():
        try:
            owner = os.stat(f"/proc/{pid}").st_uid
            # A process that is not dumpable has its /proc owned by root: ask its status.
            if owner == 0:
                owner = effective_uid(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if owner in uids:
            found.append(pid)
    return found


def effective_uid(pid: int) -> int:
    """-1 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return next((int(line.split()[2]) for line in lines if line.startswith("Uid:")), -1)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


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
            # os.walk leaves out what is removed while it walks.
            paths = (Path(directory) for directory, _, _ in os.walk(mount.split()[4]))
            found |= {path for path in paths if group in path.parts}
    return sorted(found)


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
