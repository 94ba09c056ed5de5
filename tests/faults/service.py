"""The part of the service manager: a unit is started again when it ends, and killed when it stops
feeding its watchdog. What it leaves is left: that is for its next start, or for nobody."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Callable

WATCHDOG_S = 6.0
WATCHDOG = {"WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
# systemd's RestartSec= is half a second in the unit; the shorter, the more a start has to clean.
_RESTART_S = 0.02
_MOST_FAILURES = 3


class Unit(Protocol):
    """A process that was started and is ready."""

    process: subprocess.Popen[bytes]
    notify: socket.socket

    def stop(self) -> int: ...


class Service:
    """Keeps one unit running."""

    def __init__(self, begin: Callable[[], Unit]) -> None:
        self.begin = begin
        self.unit = begin()
        self.up = threading.Event()
        self.starts = 1
        self.hung = 0
        """How often the watchdog had to end it."""
        self.failures: list[str] = []
        """Of starts."""
        self._stopping = False
        self.up.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self.unit.process.pid

    def _run(self) -> None:
        while not self._stopping:
            self._watch(self.unit)
            if self._stopping:
                return
            self.up.clear()
            self.unit.stop()  # It has ended: this closes what the test has of it.
            self._start()

    def _watch(self, unit: Unit) -> None:
        """Until it has ended."""
        ended = os.pidfd_open(unit.process.pid)
        fed = time.monotonic()
        try:
            while not self._stopping:
                left = fed + WATCHDOG_S - time.monotonic()
                if left <= 0:
                    self.hung += 1
                    unit.process.kill()
                    left = WATCHDOG_S
                ready = select.select([ended, unit.notify], [], [], left)[0]
                if ended in ready:
                    unit.process.wait()
                    return
                if unit.notify in ready and b"WATCHDOG=1" in unit.notify.recv(4096):
                    fed = time.monotonic()
        finally:
            os.close(ended)

    def _start(self) -> None:
        for _ in range(_MOST_FAILURES):
            time.sleep(_RESTART_S)
            try:
                self.unit = self.begin()
            except Exception as exc:
                self.failures.append(str(exc))
                continue
            self.starts += 1
            self.up.set()
            return

    def stop(self) -> int:
        self._stopping = True
        status = self.unit.stop()
        self._thread.join(WATCHDOG_S + 10)
        return status
