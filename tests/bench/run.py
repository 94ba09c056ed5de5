"""Measures sandboxd against the kernel's own floor and against the other sandboxes on this machine.

    .venv/bin/python tests/bench/run.py [--quick] [--only PART,…] [--json] [--check]

Prints a table (or JSON) and writes the figures to tests/bench/results/. Needs root, as sandboxd
itself does. Nothing it starts outlives it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import exact
import footprint
import functions
import functions_store
import large
import neighbour
import peers
import rest
import speed
from daemon import private_daemon
from table import as_data, as_text
from tools import BENCH, BenchError, build_all

if TYPE_CHECKING:
    from table import Section

PARTS = (
    "speed", "peers", "wall", "cpu", "memory", "idle", "left", "stream", "rest", "clients", "store",
    "functions", "neighbour", "large",
)  # fmt: skip
WITH_DAEMON = {
    "wall": exact.wall_limit,
    "cpu": exact.cpu_time,
    "memory": exact.memory_limit,
    "stream": footprint.streamed,
    "rest": rest.added,
    "clients": rest.many_clients,
}
ON_ITS_OWN = {
    "idle": footprint.idle_memory,
    "left": footprint.left_behind,
    "store": functions_store.measure,
    "functions": functions.measure,
    "neighbour": neighbour.measure,
    "large": large.measure,
}


def main() -> int:
    options = _parse()
    try:
        if os.geteuid() != 0:
            raise BenchError("sandboxd and its peers need root: sudo make bench")
        build_all()
        sections = _measure(options.only, options.quick)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    data = {"machine": _machine(), "quick": options.quick, "rows": as_data(sections)}
    path = _write(data)
    print(json.dumps(data, indent=2) if options.json else as_text(sections))
    print(f"figures: {os.path.relpath(path)}", file=sys.stderr)
    missed = [row.what for section in sections for row in section.rows if row.met is False]
    return 1 if options.check and missed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmarks of sandboxd.")
    parser.add_argument("--quick", action="store_true", help="fewer runs: half a minute")
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    unknown = ", ".join(sorted(set(chosen) - set(PARTS)))
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown}: not one of {', '.join(PARTS)}")
    return chosen


def _measure(parts: tuple[str, ...], quick: bool) -> list[Section]:
    sections: list[Section] = []
    if "speed" in parts or "peers" in parts:
        sections += _measure_speed(parts, speed.QUICK if quick else speed.FULL)
    chosen = [part for part in parts if part in WITH_DAEMON]
    if chosen:
        with private_daemon() as daemon:
            sections += [WITH_DAEMON[part](daemon, quick) for part in chosen]
    return sections + [ON_ITS_OWN[part](quick) for part in parts if part in ON_ITS_OWN]


def _measure_speed(parts: tuple[str, ...], plan: speed.Plan) -> list[Section]:
    found: list[peers.Peer] = []
    left_out: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-peers-") as work,
        private_daemon() as daemon,
        private_daemon(jobs=8) as wide,
        private_daemon(spares=speed.READY_SLOTS) as ready,
    ):
        candidates = speed.Candidates()
        candidates.add_floor(plan)
        candidates.add_daemon(plan, daemon, wide, ready)
        try:
            if "peers" in parts:
                found, left_out = peers.installed(Path(work))
            for peer in found:
                candidates.add_peer(plan, peer)
            series = candidates.measure(plan.rounds)
        finally:
            for peer in found:
                peer.close()
    return [speed.targets(series), speed.everything(series, found, left_out)]


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "kernel": platform.release(),
        "processors": len(os.sched_getaffinity(0)),
        "model": models[0] if models else platform.machine(),
        "load": os.getloadavg(),
        "peers": {name: text for name in peers.MAKERS if (text := peers.version(name))},
    }


def _write(data: dict[str, Any]) -> Path:
    directory = BENCH / "results"
    directory.mkdir(exist_ok=True)
    path = directory / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(data, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
