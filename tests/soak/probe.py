"""Asks for one small job at a steady pace and writes down how long each took.

A process of its own, so that what the load's clients do with their time does not count; and after
each job the same program by a plain start, which says what the machine itself does.

    python -m soak.probe SOCKET PER_SECOND
"""

from __future__ import annotations

import os
import sys
import time

from sandboxd_client import Client

PROGRAM = "/bin/true"


def main() -> None:
    path, rate = sys.argv[1], float(sys.argv[2])
    period = 1.0 / rate
    due = time.monotonic()
    with Client(path) as client:
        while True:
            due = max(due + period, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            job, plain = _job(client), _plain()
            sys.stdout.write(f"{job} {plain}\n")
            sys.stdout.flush()


def _job(client: Client) -> int:
    began = time.monotonic_ns()
    result = client.run([PROGRAM])
    took = time.monotonic_ns() - began
    if result.status != "ok":
        sys.exit(f"the probe ended with {result}")
    return took


def _plain() -> int:
    began = time.monotonic_ns()
    os.waitpid(os.posix_spawn(PROGRAM, [PROGRAM], {}), 0)
    return time.monotonic_ns() - began


if __name__ == "__main__":
    main()
