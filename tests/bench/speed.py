"""How long a job takes, against the floor of the same moment.

All candidates are measured in turns: one short run of each, then the next round. What the machine
does meanwhile hits the floor and the candidates alike, and what is reported is the median over the
rounds of the ratio within a round.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon import job
from table import Row, Section
from times import Series
from tools import BUILD, floor, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon import Daemon
    from peers import Peer
    from times import Round

FLOOR = "floor"
FLOOR_ALL = "floor, all cores"

# So many fresh jobs find their slots ready: a slot takes some milliseconds to make, and sandboxd
# makes new ones between the rounds.
FRESH_BURST = 16
READY_SLOTS = 30
# For those that must find theirs ready with the usual number of slots.
FRESH_GAP_US = 15_000

# On a machine with nothing else to do the floor's p99 is about twice its p50.
NOT_QUIET = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    single: int  # jobs one at a time, each round
    many: int  # jobs with several in flight, each round
    paced: int  # fresh jobs with a pause before each
    peer: int  # jobs of a peer


FULL = Plan(rounds=15, single=300, many=800, paced=40, peer=8)
QUICK = Plan(rounds=4, single=150, many=400, paced=20, peer=8)


@dataclass(frozen=True, slots=True)
class Candidates:
    runs: dict[str, Callable[[], Round]] = field(default_factory=dict)

    def add_floor(self, plan: Plan) -> None:
        true = [str(BUILD / "true")]
        processors = len(os.sched_getaffinity(0))
        self.runs[FLOOR] = lambda: floor(true, runs=plan.single)
        self.runs[FLOOR_ALL] = lambda: floor(true, runs=plan.many, workers=processors)
        self.runs["floor, 8 at once"] = lambda: floor(true, runs=plan.many, workers=8)
        self.runs["floor, paced"] = lambda: floor(true, runs=plan.paced, gap_us=FRESH_GAP_US)

    def add_daemon(self, plan: Plan, daemon: Daemon, wide: Daemon, ready: Daemon) -> None:
        """The usual daemon, one that runs 8 jobs at once, one with many slots made ahead."""
        recycled = daemon.frame("recycled", job("true", mode="recycled"))
        fresh = daemon.frame("fresh", job("true", mode="fresh"))
        path = daemon.socket
        self.runs["recycled"] = lambda: load(path, recycled, jobs=plan.single)
        self.runs["recycled, 8 in flight"] = lambda: load(
            path, recycled, jobs=plan.many, inflight=8
        )
        self.runs["recycled, 8 on 8 connections"] = lambda: load(
            path, recycled, jobs=plan.many, inflight=8, connections=8
        )
        self.runs["recycled, 64 in flight"] = lambda: load(
            path, recycled, jobs=plan.many, inflight=64
        )
        self.runs["recycled, 8 in flight, 8 run at once"] = lambda: load(
            wide.socket, recycled, jobs=plan.many, inflight=8
        )
        self.runs["fresh, slots ready"] = lambda: load(ready.socket, fresh, jobs=FRESH_BURST)
        self.runs["fresh, paced"] = lambda: load(path, fresh, jobs=plan.paced, gap_us=FRESH_GAP_US)
        self.runs["fresh, back to back"] = lambda: load(path, fresh, jobs=plan.single // 3)
        self.runs["fresh, 8 in flight"] = lambda: load(path, fresh, jobs=plan.single, inflight=8)

    def add_peer(self, plan: Plan, peer: Peer) -> None:
        self.runs[peer.name] = lambda: peer.run(plan.peer, 1)
        self.runs[f"{peer.name}, 8 at once"] = lambda: peer.run(plan.peer, 8)

    def measure(self, rounds: int) -> dict[str, Series]:
        """Run every candidate once in each round, after one round that does not count."""
        for run in self.runs.values():
            run()
        series: dict[str, Series] = {name: Series(name, []) for name in self.runs}
        for _ in range(rounds):
            for name, run in self.runs.items():
                series[name].rounds.append(run())
        return series


def targets(series: dict[str, Series]) -> Section:
    """The rows that have a target."""
    base = series[FLOOR]
    recycled = series["recycled"]
    fresh = series["fresh, slots ready"]
    eight = series["recycled, 8 in flight, 8 run at once"]
    one_each = series["recycled, 8 in flight"]
    bare = max(series[FLOOR_ALL], series["floor, 8 at once"], key=Series.rate)
    part = eight.rate_over(bare)
    tail = Row(
        "recycled job, one at a time, p99",
        f"{recycled.p99_ms():.3f} ms",
        "≤ 4x",
        f"{base.p50_ms():.3f} ms",
        f"{recycled.p99_over(base):.2f}x",
        recycled.p99_over(base) <= 4.0,
    )
    rate = Row(
        "recycled jobs/s, 8 in flight (jobs = 8)",
        f"{eight.rate():.0f}/s",
        "≥ 60 %",
        f"{bare.rate():.0f}/s",
        f"{part * 100:.0f} %",
        part >= 0.60,
        {"floor": bare.name},
    )
    usual = Row(
        "  the same with one job for each processor",
        f"{one_each.rate():.0f}/s",
        "",
        f"{bare.rate():.0f}/s",
        f"{one_each.rate_over(bare) * 100:.0f} %",
    )
    rows = [
        _p50_row("recycled job, one at a time, p50", recycled, base, 2.0),
        tail,
        rate,
        usual,
        _p50_row(f"fresh job, slots ready, p50 (spare_slots = {READY_SLOTS})", fresh, base, 3.0),
    ]
    title = "Speed, against a bare vfork + exec + wait of the same program"
    return Section(title, rows, _quiet_note(base))


def _quiet_note(base: Series) -> list[str]:
    """Says so when the machine was busy with something else."""
    own = base.p99_over(base)
    if own <= NOT_QUIET:
        return []
    return [f"not a quiet machine: the floor's own p99 is {own:.1f}x its p50"]


def _p50_row(what: str, series: Series, base: Series, most: float) -> Row:
    ratio = series.p50_over(base)
    measured, floor_ms = f"{series.p50_ms():.3f} ms", f"{base.p50_ms():.3f} ms"
    return Row(what, measured, f"≤ {most:g}x", floor_ms, f"{ratio:.2f}x", ratio <= most)


def everything(series: dict[str, Series], peers: list[Peer], left_out: dict[str, str]) -> Section:
    """Every candidate with its p50, p99 and rate."""
    base = series[FLOOR]
    notes = {peer.name: f" ({peer.how})" for peer in peers}
    rows = [_full_row(entry, base, notes.get(name, "")) for name, entry in series.items()]
    title = "All candidates: p50 / p99 of one job, jobs per second; ratio of the p50"
    return Section(title, rows, [f"{name}: {reason}" for name, reason in left_out.items()])


def _full_row(series: Series, base: Series, note: str) -> Row:
    measured = f"{series.p50_ms():.3f} / {series.p99_ms():.3f} ms {series.rate():6.0f}/s"
    ratio = f"{series.p50_over(base):.2f}x"
    floor_ms = f"{base.p50_ms():.3f} ms"
    return Row(series.name + note, measured, "", floor_ms, ratio, data=series.as_json(base))
