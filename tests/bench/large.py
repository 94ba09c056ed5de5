"""What others wait for while one user sends or is sent very large messages."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from daemon import job, private_daemon
from table import Row, Section
from tools import BenchError, load

if TYPE_CHECKING:
    from daemon import Daemon

MS = 1_000_000
SIZE = 60 << 20  # max_message_bytes is 64 MiB
LIMITS = {"output_bytes": SIZE, "memory_bytes": 1 << 30, "disk_bytes": 2 * SIZE}
FILES = f"head -c {SIZE // 2} /dev/zero | split -b 128K -a 4"


def measure(quick: bool) -> Section:
    """A job with nothing to do, alone and beside each."""
    turns = 3 if quick else 10
    with private_daemon(jobs=2) as daemon:
        requests = {
            "results of 60 MiB": job("flood", str(SIZE), limits=LIMITS),
            "collected files, 240 of 128 KiB": {
                "argv": ["/bin/sh", "-c", FILES],
                "collect": ["x*"],
                "limits": LIMITS,
            },
            "requests of 60 MiB": job("true", stdin=bytes(SIZE)),
        }
        rows = [_row(daemon, name, request, turns) for name, request in requests.items()]
    notes = ["for a job at a time: its p99, and the longest time of all"]
    return Section("Other users beside large messages", rows, notes)


def _row(daemon: Daemon, name: str, request: dict[str, Any], turns: int) -> Row:
    frame = daemon.frame("true", job("true"))
    alone: list[int] = []
    beside: list[int] = []
    for _ in range(turns):
        alone += load(daemon.socket, frame, jobs=500).each_ns
        other = _Other(daemon, request)
        beside += load(daemon.socket, frame, jobs=500).each_ns
        other.end()
    return Row(
        f"beside {name}",
        _shown(beside),
        floor=_shown(alone),
        data={"alone_ns": alone, "beside_ns": beside},
    )


def _shown(times: list[int]) -> str:
    ordered = sorted(times)
    return f"{ordered[len(ordered) * 99 // 100] / MS:.1f}, {ordered[-1] / MS:.1f} ms"


class _Other:
    """Another connection that has one such request after the other answered, from now to `end`."""

    def __init__(self, daemon: Daemon, request: dict[str, Any]) -> None:
        self._rpc = daemon.connect()
        self._over = False
        self._problems: list[str] = []
        self._rpc.call("job.run", request)
        self._thread = threading.Thread(target=self._run, args=(request,))
        self._thread.start()

    def _run(self, request: dict[str, Any]) -> None:
        while not self._over and not self._problems:
            try:
                status = self._rpc.call("job.run", request)["status"]
            except (BenchError, OSError) as exc:
                status = str(exc)
            if status != "ok":
                self._problems.append(status)

    def end(self) -> None:
        self._over = True
        self._thread.join()
        self._rpc.close()
        if self._problems:
            raise BenchError(f"a large message: {self._problems[0]}")
