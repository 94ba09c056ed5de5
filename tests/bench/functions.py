"""What a call of a Python function costs: against a warm interpreter that forks, against starting
Python for it, and many stored ones against the same jobs by `job.run`."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from daemon import private_daemon
from table import Row, Section
from times import Series, parse_round
from tools import BENCH, BenchError, load, run

from sandboxd.functions import python_call

if TYPE_CHECKING:
    from daemon import Daemon, Rpc
    from times import Round

INTERPRETER = "/usr/bin/python3"
ECHO = "def main(args, context):\n    return args\n"
ARGS = {"n": 1}
# p50 of a warm call over that of a bare fork, call and exit; of starting Python over a warm call.
CALL_TARGET = 1.5
COLD_TARGET = 5.0
# Rate of stored executions over that of the same jobs, and over that of calls that are not stored.
MANY_TARGET = 0.8
# How much more memory the daemon may have at the end of so many thousand stored executions, after
# those in which SQLite's page cache (2 MiB) fills and the allocators find their size.
GROWTH_BYTES = 1 << 20
GROWTH_ROUNDS = 30
WARM_UP_ROUNDS = 15
_PAGE = 4096


def measure(quick: bool) -> Section:
    rounds, calls, many = (3, 100, 200) if quick else (7, 300, 1000)
    with private_daemon() as daemon:
        rpc = daemon.connect()
        define = {"name": "echo", "kind": "python", "code": ECHO}
        rpc.call("function.create", define)
        return Section(
            "Functions",
            [
                *_one(daemon, rounds, calls),
                *_many(rpc, max(2, rounds // 2), many),
                _flat(daemon, rpc, quick),
            ],
            [f"{rounds} rounds of {calls} calls one after the other, and of {many} at once"],
        )


def _one(daemon: Daemon, rounds: int, calls: int) -> list[Row]:
    """Everything once in each round, so that all see the same machine."""
    frame = daemon.frame("call", {"name": "echo", "args": ARGS}, "function.call")
    floor, warm, cold = [], [], []
    load(daemon.socket, frame, jobs=20)
    for _ in range(rounds):
        floor.append(_program(calls))
        warm.append(load(daemon.socket, frame, jobs=calls))
        cold.append(_program(max(20, calls // 10), "cold"))
    called, bare = Series("function.call", warm), Series("fork", floor)
    started = Series("python3", cold)
    ratio, gain = called.p50_over(bare), started.p50_over(called)
    return [
        Row(
            "function.call, warm, p50",
            f"{called.p50_ms():.2f} ms",
            f"≤ {CALL_TARGET}x of fork + call + exit",
            f"{bare.p50_ms():.2f} ms",
            f"{ratio:.2f}x",
            ratio <= CALL_TARGET,
            {"call": called.as_json(bare), "floor": bare.as_json(bare)},
        ),
        Row(
            "starting Python for it, p50",
            f"{started.p50_ms():.2f} ms",
            f"≥ {COLD_TARGET:g}x of a warm call",
            f"{called.p50_ms():.2f} ms",
            f"{gain:.2f}x",
            gain >= COLD_TARGET,
            {"cold": started.as_json(called)},
        ),
    ]


def _program(count: int, *how: str) -> Round:
    program = BENCH / "programs" / "fork_call.py"
    return parse_round(run([INTERPRETER, "-s", str(program), str(count), *how]).decode())


def _many(rpc: Rpc, rounds: int, many: int) -> list[Row]:
    """All three once in each round."""
    jobs = [_job()] * many
    native, warm, stored = [], [], []
    calls = [{"name": "echo", "args": ARGS}] * many
    for _ in range(rounds):
        native.append(_rate(many, lambda: rpc.many("job.run", jobs, many)))
        warm.append(_rate(many, lambda: rpc.many("function.call", calls, many)))
        stored.append(_rate(many, lambda: _run_many(rpc, many)))
    ratio = median(s / n for s, n in zip(stored, native, strict=True))
    of_calls = median(s / n for s, n in zip(stored, warm, strict=True))
    data = {"native": native, "calls": warm, "stored": stored}
    return [
        Row(
            f"execution.run_many of {many}",
            f"{median(stored):.0f}/s",
            f"≥ {MANY_TARGET:.0%} of job.run",
            f"{median(native):.0f}/s",
            f"{ratio:.0%}",
            ratio >= MANY_TARGET,
            data,
        ),
        Row(
            "  over function.call, warm and not stored",
            f"{median(stored):.0f}/s",
            f"≥ {MANY_TARGET:.0%} of it",
            f"{median(warm):.0f}/s",
            f"{of_calls:.0%}",
            of_calls >= MANY_TARGET,
        ),
    ]


def _flat(daemon: Daemon, rpc: Rpc, quick: bool) -> Row:
    """The largest of the last third over that of the first, so that one that comes and goes does
    not count, and one that only grows does."""
    before, measured = (2, 3) if quick else (WARM_UP_ROUNDS, GROWTH_ROUNDS)
    for _ in range(before):
        _run_many(rpc, 1000)
    memory = []
    for _ in range(measured):
        _run_many(rpc, 1000)
        memory.append(_resident_bytes(daemon))
    third = measured // 3
    growth = max(memory[-third:]) - max(memory[:third])
    return Row(
        f"  memory of sandboxd, {measured},000 more of them",
        f"{growth / 2**20:+.2f} MiB",
        f"≤ {GROWTH_BYTES / 2**20:.0f} MiB after {before},000",
        f"{memory[0] / 2**20:.0f} MiB",
        "",
        # In a few seconds the page cache is not full yet.
        None if quick else growth <= GROWTH_BYTES,
        {"memory": memory},
    )


def _job() -> dict[str, Any]:
    """The job of one call, as anybody may ask for it."""
    return {
        "argv": [part.decode() for part in python_call.CALL_ARGV],
        "files": {python_call.SOURCE_NAME.decode(): ECHO},
        "stdin": b'{"args":{"n":1},"context":{}}',
    }


def _run_many(rpc: Rpc, many: int) -> None:
    """Until the last one has ended."""
    ids = rpc.call("execution.run_many", {"name": "echo", "calls": [ARGS] * many})["ids"]
    rpc.many("execution.wait", [{"id": id} for id in ids], 500)
    found = rpc.call("execution.get_many", {"ids": ids})["executions"]
    if any(row["result"] != '{"n": 1}' for row in found) or len(found) != many:
        raise BenchError("an execution has a wrong result")


def _rate(many: int, work: Any) -> float:
    began = time.monotonic()
    work()
    return many / (time.monotonic() - began)


def _resident_bytes(daemon: Daemon) -> int:
    pages = Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]
    return int(pages) * _PAGE
