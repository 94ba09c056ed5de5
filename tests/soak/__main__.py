"""Puts a real daemon and gateway under mixed load for a long time and watches them.

    PYTHONPATH=tests .venv/bin/python -m soak [--minutes 60] [--scale 1.5] [--every 5] [--into DIR]

Needs root. Writes `samples.jsonl`, `soak.png` and `table.txt` into the directory, a line in each
minute to stdout, and the table at the end. The exit status is 1 when something did not hold.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import trio

from soak.run import Soak, soak
from soak.world import prepared

# Of ended executions: reached well within the first minutes, and more than are read at a time.
_KEPT = 250


def main() -> int:
    options = _parse()
    if os.geteuid() != 0:
        print("soak: the daemon needs root: sudo make soak", file=sys.stderr)
        return 1
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # It may outlive the terminal.
    # While the load runs `run` takes it; before and after it nothing may be left behind either.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    into: Path = options.into
    into.mkdir(parents=True, exist_ok=True)
    (into / "samples.jsonl").unlink(missing_ok=True)
    with prepared(_KEPT) as world:
        run = Soak(world, into, options.minutes * 60, options.every, options.scale)
        return trio.run(soak, run)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description="A long run under mixed load.")
    parser.add_argument("--minutes", type=float, default=60, help="how long (default: 60)")
    parser.add_argument(
        "--scale", type=float, default=1.5, help="how much load (1.5: about half of the machine)"
    )
    parser.add_argument("--every", type=float, default=5, help="seconds between two samples")
    parser.add_argument("--into", type=Path, default=Path("build/soak"), help="where the files go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
