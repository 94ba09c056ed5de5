"""What an attack on another processor takes from a job by the clock, and one on all of them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from daemon import job, private_daemon
from table import Row, Section
from tools import BenchError

if TYPE_CHECKING:
    from daemon import Daemon, Rpc

MS = 1_000_000
ROUNDS = "40"
PATIENT = {"wall_time_ns": 60_000 * MS, "cpu_time_ns": 60_000 * MS}
ATTACKS: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "fork_bomb": ((), {}),
    "fork_bomb_setsid": ((), {"processes": 512}),
    "respawn": ((), {}),
    "spin": (("60",), {}),
}


def measure(quick: bool) -> Section:
    """The same work alone and beside each attack, in turns; medians."""
    turns = 3 if quick else 10
    rows = []
    for dedicated in (True, False):
        # As many jobs as processors, which is the most that dedicated_cpus allows.
        with private_daemon(dedicated=dedicated) as daemon:
            rows += [_row(daemon, name, turns, dedicated) for name in ATTACKS]
    notes = ["the target is for the medians: 10 % and 10 ms more than alone"]
    return Section("A job's time by the clock beside an attack", rows, notes)


def _row(daemon: Daemon, name: str, turns: int, dedicated: bool) -> Row:
    rpc, attacker = daemon.connect(), daemon.connect()
    alone, beside = [], []
    for _ in range(turns):
        alone += [_work(rpc) for _ in range(2)]
        token = _attack(attacker, name)
        beside += [_work(rpc) for _ in range(2)]
        if not _running(rpc):
            raise BenchError(f"{name} was over too soon")
        attacker.call("job.cancel", {"job": token})
    rpc.close()
    attacker.close()
    before, after = median(alone), median(beside)
    return Row(
        f"{name}{', dedicated_cpus' if dedicated else ', equal shares'}",
        f"{after / MS:.1f} ms",
        "≤ 1.1x + 10 ms" if dedicated else "",
        f"{before / MS:.1f} ms",
        f"{after / before:.2f}x",
        met=after <= before * 1.1 + 10 * MS if dedicated else None,
        data={"alone_ns": alone, "beside_ns": beside},
    )


def _work(rpc: Rpc) -> int:
    result = rpc.call("job.run", job("fixed_work", ROUNDS, limits=PATIENT))
    if result["status"] != "ok":
        raise BenchError(f"fixed_work: {result['status']}")
    return int(result["wall_time_ns"])


def _attack(attacker: Rpc, name: str) -> Any:
    """Start it. There is a place for it, so it has been sent to the helper when this returns."""
    args, limits = ATTACKS[name]
    return attacker.call("job.start", job(name, *args, limits=PATIENT | limits))["job"]


def _running(rpc: Rpc) -> int:
    return int(rpc.call("server.stats")["queue"]["running"])
