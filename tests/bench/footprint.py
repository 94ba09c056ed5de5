"""What the daemon takes when it does nothing, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import job, private_daemon
from table import Row, Section
from tools import BUILD, BenchError, load, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon import Daemon

MIB = 1 << 20
FEW_SLOTS = 2
MANY_SLOTS = 34
SETTLE_TIMEOUT = 10.0
RESIDENT_TARGET = 60 * MIB
SLOT_TARGET = 1 * MIB
GROWTH_TARGET = 5 * MIB
CGROUPS = Path("/sys/fs/cgroup")


def process_tree(root: int) -> dict[int, int]:
    """The process and its descendants: pid -> depth (daemon 0, keeper 1, worker 2, slots 3…)."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    depth = {root: 0}
    while new := {
        pid: depth[p] + 1 for pid, p in parents.items() if p in depth and pid not in depth
    }:
        depth.update(new)
    return depth


def _started(pid: int) -> str:
    """When the process started: with its number, what tells it from another. Empty when gone."""
    with suppress(OSError):
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    return ""


def memory_of(pids: list[int], what: str) -> int:
    """The sum of one line (Rss, Pss) of smaps_rollup, in bytes."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # a slot may have been replaced meanwhile
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(s.split()[1]) for s in lines if s.startswith(f"{what}:")) * 1024
    return total


def settle(daemon: Daemon, ready: int = 1) -> dict[str, int]:
    """Wait until no job runs and no slot is being made, and return the slots' figures."""
    rpc = daemon.connect()
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while True:
        slots: dict[str, int] = rpc.call("server.stats")["slots"]
        if not slots["running"] and not slots["preparing"] and slots["ready"] >= ready:
            rpc.close()
            return slots
        if time.monotonic() > deadline:
            raise BenchError(f"the slots did not come to rest: {slots}")
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Idle:
    slots: int
    core_rss: int  # daemon, keeper and worker
    core_pss: int
    slots_rss: int
    slots_pss: int
    charged: int | None  # to the cgroup, kernel memory included


def idle_memory(_quick: bool) -> Section:
    """Two daemons, one with few and one with many idle slots; the difference is the slots'."""
    few, many = (_measure_idle(spares) for spares in (FEW_SLOTS, MANY_SLOTS))
    extra = many.slots - few.slots
    per_rss = (many.slots_rss - few.slots_rss) / extra
    per_pss = (many.slots_pss - few.slots_pss) / extra
    charged = None
    if many.charged is not None and few.charged is not None:
        charged = (many.charged - few.charged) / extra
    resident = Row(
        "daemon and helper, resident",
        f"{few.core_rss / MIB:.1f} MiB",
        "≤ 60 MiB",
        met=few.core_rss <= RESIDENT_TARGET,
        data={"pss_bytes": few.core_pss, "slots": few.slots},
    )
    slot = Row(
        "one idle slot, with the kernel's part" if charged is not None else "one idle slot, Pss",
        f"{(per_pss if charged is None else charged) / 1024:.0f} KiB",
        "≤ 1024 KiB",
        met=(per_pss if charged is None else charged) <= SLOT_TARGET,
        data={"rss_bytes": per_rss, "pss_bytes": per_pss, "charged_bytes": charged},
    )
    detail = f"{per_rss / 1024:.0f} / {per_pss / 1024:.0f} KiB"
    return Section("Idle memory", [resident, slot, Row("one idle slot, Rss / Pss", detail)])


def _measure_idle(spares: int) -> Idle:
    with memory_group() as group, private_daemon(2, spares, group) as daemon:
        slots = settle(daemon)
        tree = process_tree(daemon.process.pid)
        core = [pid for pid, depth in tree.items() if depth < 3]
        rest = [pid for pid, depth in tree.items() if depth >= 3]
        return Idle(
            slots["ready"],
            memory_of(core, "Rss"),
            memory_of(core, "Pss"),
            memory_of(rest, "Rss"),
            memory_of(rest, "Pss"),
            None if group is None else _charged(group),
        )


@contextmanager
def memory_group() -> Iterator[Path | None]:
    """A memory cgroup below our own for one daemon; None where there is no v1 memory hierarchy."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    if own is None:
        yield None
        return
    group = CGROUPS / "memory" / own.lstrip("/") / f"bench-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        _remove_group(group)


def _remove_group(group: Path) -> None:
    """The last process may need a moment to leave; v1 has no event for it."""
    for _ in range(100):
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)
    raise BenchError(f"{group} cannot be removed: the daemon left something in it")


def _charged(group: Path) -> int:
    """Pages that are only cached are not memory the daemon needs."""
    usage = int((group / "memory.usage_in_bytes").read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return usage - int(stat["total_cache"]) + int(stat.get("total_shmem", "0"))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a job could leave behind, counted."""

    processes: int
    cgroups: int
    mounts: int
    descriptors: int
    files: int
    memory: int

    @classmethod
    def take(cls, daemon: Daemon) -> Snapshot:
        tree = process_tree(daemon.process.pid)
        core = [pid for pid, depth in tree.items() if depth < 3]
        return cls(
            processes=len(tree),
            cgroups=sum(1 for _ in _groups(daemon)),
            mounts=sum(_mounts(pid) for pid in [os.getpid(), *core]),
            descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in core),
            files=_temporary_files(daemon),
            memory=memory_of(list(tree), "Pss"),
        )


def _groups(daemon: Daemon) -> Iterator[Path]:
    return CGROUPS.glob(f"**/sandboxd-{daemon.process.pid}/**/")


def _mounts(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/mountinfo").read_text().count("\n")
    except OSError:
        return 0  # a process that nobody has waited for has no mounts; it is counted itself


def _temporary_files(daemon: Daemon) -> int:
    """Files in the daemon's own places, and whatever of other users is in the shared ones."""
    count = sum(1 for _ in daemon.directory.rglob("*"))
    for shared in (Path("/tmp"), Path("/dev/shm"), Path("/run")):
        for entry in shared.iterdir():
            with suppress(OSError):
                count += entry.lstat().st_uid >= 65536 or entry.name.startswith("sbx")
    return count


def left_behind(quick: bool) -> Section:
    """Thousands of jobs of all kinds, then the same counts as before."""
    jobs = 1000 if quick else 10_000
    with private_daemon() as daemon:
        _many_jobs(daemon, jobs // 10)
        slots = settle(daemon)
        before = Snapshot.take(daemon)
        _many_jobs(daemon, jobs)
        settle(daemon, slots["ready"])
        after = Snapshot.take(daemon)
        ours = {pid: _started(pid) for pid in process_tree(daemon.process.pid)}
    names = ("processes", "cgroups", "mounts", "descriptors", "files")
    rows = [_same_row(name, getattr(before, name), getattr(after, name)) for name in names]
    growth = after.memory - before.memory
    rows.append(
        Row("growth of memory", f"{growth / MIB:+.2f} MiB", "< 5 MiB", met=growth < GROWTH_TARGET)
    )
    alive = [pid for pid, started in ours.items() if started and _started(pid) == started]
    rows.append(Row("processes after the daemon has stopped", f"{len(alive)}", "0", met=not alive))
    return Section(f"Left behind by {jobs} jobs", rows)


def _many_jobs(daemon: Daemon, jobs: int) -> None:
    """Nine in ten recycled, one in ten fresh, one in a hundred ended by its wall limit."""
    ended = job("sleep", limits={"wall_time_ns": 10_000_000})
    kinds = Counter(recycled=jobs - jobs // 10 - jobs // 100, fresh=jobs // 10)
    for mode, count in kinds.items():
        frame = daemon.frame(mode, job("true", mode=mode))
        load(daemon.socket, frame, jobs=count, inflight=8)
    frame = daemon.frame("ended", ended)
    load(daemon.socket, frame, jobs=jobs // 100, inflight=8, status="wall_time_limit")


def _same_row(name: str, before: int, after: int) -> Row:
    return Row(
        f"{name} more than before",
        f"{after - before:+d}",
        "0",
        met=after <= before,
        data={"before": before, "after": after},
    )


def streamed(daemon: Daemon, quick: bool) -> Section:
    """How fast a job's output comes through the daemon, against a bare pipe."""
    size = (128 if quick else 1024) * MIB
    limits = {"output_bytes": size}
    frame = daemon.frame(
        "flood", job("flood", str(size), stream=True, limits=limits), method="job.start"
    )
    out = run([str(BUILD / "stream"), str(daemon.socket), str(frame), str(size)]).decode()
    elapsed = int(out.split()[1])
    bare = _bare_pipe(size)
    row = Row(
        f"{size // MIB} MiB streamed",
        f"{size * 1000 / elapsed:.0f} MB/s",
        floor=f"{size * 1000 / bare:.0f} MB/s",
        ratio=f"{elapsed / bare:.2f}x",
        data={"elapsed_ns": elapsed, "bare_pipe_ns": bare, "messages": int(out.split()[3])},
    )
    return Section("Streamed output, against a bare pipe", [row])


def _bare_pipe(size: int) -> int:
    start = time.monotonic_ns()
    buffer = bytearray(1 << 16)
    with subprocess.Popen([str(BUILD / "flood"), str(size)], stdout=subprocess.PIPE) as flood:
        if flood.stdout is None:
            raise BenchError("no pipe")
        while os.readv(flood.stdout.fileno(), [buffer]):
            pass
    return time.monotonic_ns() - start
