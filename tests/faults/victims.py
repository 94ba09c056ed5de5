"""Who can be killed: the processes of a daemon and its gateway, by the part they play."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sandboxd.engine import wire
from support import host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

ROLES = ("daemon", "keeper", "worker", "init", "process", "interpreter", "gateway")


def pids(role: str, daemon: Daemon, gateway: int) -> list[int]:
    """Every process that plays this part at the moment."""
    if role == "daemon":
        return [daemon.pid]
    if role == "gateway":
        return [gateway]
    if role in ("keeper", "worker"):
        return _helpers(daemon, role)
    return [pid for pid, plays in _slots(daemon.uids) if plays == role]


def _helpers(daemon: Daemon, role: str) -> list[int]:
    tree = host.parents()
    is_helper = {pid for pid in tree if _serves(pid) and host.effective_uid(pid) == 0}
    keepers = {pid for pid in is_helper if tree[pid] == daemon.pid}
    if role == "keeper":
        return sorted(keepers)
    # A builder is a short-lived child of the worker with the same name.
    return sorted(pid for pid in is_helper if tree[pid] in keepers)


def _serves(pid: int) -> bool:
    """And is not the helper that looks at the kernel, at the start."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words[0].endswith(b"/sandbox-helper") and words[1:2] == [b"serve"]


def _slots(uids: range) -> Iterator[tuple[int, str]]:
    """Every process in a slot. Its init and interpreter have the first of its ids, jobs another."""
    for pid in host.owned_by(uids):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        numbers = values.get("NSpid", "").split()
        if len(numbers) < 2 or "Z" in values["State"]:
            continue
        is_root = (int(values["Uid"].split()[0]) - uids.start) % wire.SLOT_UIDS == 0
        if numbers[-1] == "1":
            yield pid, "init"
        elif is_root and values["Name"].startswith("python"):
            yield pid, "interpreter"
        elif not is_root:
            yield pid, "process"
