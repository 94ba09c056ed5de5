"""What is looked at every few seconds, from outside, as root."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soak.world import World

_MEMORY = {"Rss": "rss", "Pss": "pss", "Anonymous": "anonymous"}


class Sampler:
    """Takes one sample after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._state = Path(world.daemon.socket).parent / "state"
        self._cpu = _cpu()
        keeper = _child(world.daemon.pid)
        self._processes = {
            "daemon": world.daemon.pid,
            "keeper": keeper,
            "worker": _child(keeper),
            "gateway": world.gateway.process.pid,
        }

    def take(self) -> dict[str, Any]:
        """Without latencies. Raises OSError when one of the four processes is gone."""
        owned = set(host.owned_by(self._world.daemon.uids))
        tree = host.descendants(self._world.daemon.pid)
        # Some of them are new, or have ended meanwhile.
        strays = (owned - set(tree)) & set(host.owned_by(self._world.daemon.uids))
        before, self._cpu = self._cpu, _cpu()
        files, size = _size(self._state)
        return {
            "time": time.time(),
            "processes": {name: _process(pid) for name, pid in self._processes.items()},
            "cgroups": len(host.cgroups(self._world.daemon.group)),
            "sandbox_processes": len(tree),
            "zombies": sum(map(host.is_zombie, tree)),
            "strays": len(strays),
            "namespaces": {kind: len(ids) for kind, ids in host.namespaces(tree).items()},
            "state_bytes": size,
            "state_files": files,
            "machine_idle": _share(before, self._cpu, "idle"),
            "machine_stolen": _share(before, self._cpu, "steal"),
            "load": os.getloadavg()[0],
            "kernel_unreclaimable_bytes": _meminfo("SUnreclaim"),
        }


def _child(pid: int) -> int:
    """The first that it started."""
    return min(child for child, parent in host.parents().items() if parent == pid)


def _process(pid: int) -> dict[str, int]:
    root = Path(f"/proc/{pid}")
    lines = (root / "smaps_rollup").read_text().splitlines()
    found = {
        name: int(line.split()[1]) * 1024
        for line in lines
        if (name := _MEMORY.get(line.partition(":")[0])) is not None
    }
    return found | {
        "fds": len(os.listdir(root / "fd")),
        "threads": len(os.listdir(root / "task")),
        "mounts": (root / "mountinfo").read_text().count("\n"),
    }


def _size(directory: Path) -> tuple[int, int]:
    """Files below it, and the bytes that they take on the disk."""
    files = size = 0
    for where, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(where, name)).st_blocks * 512
                files += 1
    return files, size


def _cpu() -> dict[str, int]:
    """Of the processors that this, and so the load, may use: in ticks since the boot."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = map(str.split, Path("/proc/stat").read_text().splitlines())
    times = [map(int, line[1:9]) for line in lines if line[0] in ours]
    user, nice, system, idle, iowait, irq, softirq, steal = map(sum, zip(*times, strict=True))
    busy = user + nice + system + irq + softirq
    return {"idle": idle + iowait, "steal": steal, "all": busy + idle + iowait + steal}


def _share(before: Mapping[str, int], after: Mapping[str, int], what: str) -> float:
    passed = after["all"] - before["all"]
    return (after[what] - before[what]) / passed if passed else 0.0


def _meminfo(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
