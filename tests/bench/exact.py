"""How exact the limits and the accounting are."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from daemon import job
from footprint import settle
from table import Row, Section
from times import percentile
from tools import load

if TYPE_CHECKING:
    from daemon import Daemon

MS = 1_000_000
MIB = 1 << 20

WALL_LIMIT_NS = 50 * MS
WALL_LATE_NS = 5 * MS

CPU_PROGRAMS = (
    ("user", 5),
    ("user", 100),
    ("system", 50),
    ("threads", 80),
    ("children", 60),
    ("short", 100),
)

# A program needs memory besides what it touches, and the kernel charges a cgroup in batches, for
# each processor; so "just" below and above is as close as the accounting is to be exact.
MEMORY_LIMIT = 32 * MIB
JUST_BELOW = MEMORY_LIMIT - MIB
JUST_ABOVE = MEMORY_LIMIT + MIB


def warm_up(daemon: Daemon) -> None:
    """Slots that serve the benchmark's jobs take the place of those made before."""
    load(daemon.socket, daemon.frame("warm", job("true")), jobs=100, inflight=8)
    settle(daemon)


def wall_limit(daemon: Daemon, quick: bool) -> Section:
    """Programs that sleep for ever: how long after the limit the answer is there.

    Counted from the moment the client sends the request, so starting the job is in it.
    """
    limits = {"wall_time_ns": WALL_LIMIT_NS}
    frame = daemon.frame("sleep", job("sleep", limits=limits))
    warm_up(daemon)
    got = load(daemon.socket, frame, jobs=40 if quick else 200, status="wall_time_limit")
    late = [ns - WALL_LIMIT_NS for ns in got.each_ns]
    p99 = percentile(late, 0.99)
    row = Row(
        f"wall limit: answered after the deadline, p99 of {len(late)}",
        f"{p99 / MS:.2f} ms",
        "≤ 5 ms",
        met=p99 <= WALL_LATE_NS,
        data={"p50_ms": percentile(late, 0.5) / MS, "max_ms": max(late) / MS, "n": len(late)},
    )
    return Section("Wall clock limit", [row])


def cpu_time(daemon: Daemon, quick: bool) -> Section:
    """What is reported against what getrusage told the program itself."""
    rpc = daemon.connect()
    rows = []
    for how, milliseconds in CPU_PROGRAMS:
        jobs = [job("burn", how, str(milliseconds))] * (3 if quick else 10)
        rows.append(_cpu_row(how, rpc.many("job.run", jobs, 1)))
    rpc.close()
    return Section("CPU time reported against the program's own getrusage", rows)


def _cpu_row(how: str, results: list[dict[str, Any]]) -> Row:
    pairs = [(r["cpu_time_ns"], int(r["stdout"])) for r in results if r["status"] == "ok"]
    off = [reported - own for reported, own in pairs]
    met = len(pairs) == len(results) and all(
        abs(reported - own) <= max(MS, own // 100) for reported, own in pairs
    )
    own_ms = median(own for _, own in pairs) / MS if pairs else 0.0
    worst = max(off, key=abs, default=0)
    return Row(
        f"burn {how}, {own_ms:.0f} ms",
        f"{worst / MS:+.3f} ms at worst",
        "≤ 1 ms or 1 %",
        met=met,
        data={"differences_ns": off},
    )


def memory_limit(daemon: Daemon, quick: bool) -> Section:
    """Programs that touch a little less and a little more than their memory limit."""
    runs = 100 if quick else 1000
    rpc = daemon.connect()
    limits = {"memory_bytes": MEMORY_LIMIT}
    below = job("touch", str(JUST_BELOW), limits=limits)
    above = job("touch", str(JUST_ABOVE), limits=limits)
    mixed = rpc.many("job.run", [below, above] * runs, 4)
    rpc.close()
    fits, exceeds = mixed[::2], mixed[1::2]
    off = [r["memory_bytes"] - JUST_BELOW for r in fits]
    furthest = max(off, key=abs)
    rows = [
        _verdict_row(f"touches {JUST_BELOW // 1024} KiB", fits, "ok"),
        _verdict_row(f"touches {JUST_ABOVE // 1024} KiB", exceeds, "memory_limit"),
        Row(
            "memory_bytes less what was touched",
            f"{furthest / 1024:+.0f} KiB at worst",
            "≤ 1024 KiB",
            met=abs(furthest) <= MIB,
            data={"median_bytes": median(off), "least": min(off), "most": max(off)},
        ),
    ]
    return Section(f"Memory limit of {MEMORY_LIMIT // 1024} KiB", rows)


def _verdict_row(what: str, results: list[dict[str, Any]], expected: str) -> Row:
    right = sum(r["status"] == expected for r in results)
    others = sorted({r["status"] for r in results} - {expected})
    return Row(
        what,
        f"{right} of {len(results)} {expected}",
        "all",
        met=right == len(results),
        data={"others": others},
    )
