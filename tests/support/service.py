"""A daemon as systemd's service: an instance of a copy of the installed unit.

`make test-vm` makes the copy (tests/vm/guest) and names it in SANDBOXD_TEST_UNIT; the instance's
name is the directory of the daemon's configuration, socket and log.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

TEMPLATE = os.environ.get("SANDBOXD_TEST_UNIT", "")
_KILLED = (os.CLD_KILLED, os.CLD_DUMPED)


class Service:
    """The main process of a unit, with what tests use of `subprocess.Popen`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        """Returns when the unit is active; raises ChildProcessError where it did not get so."""
        lines = [f'{name}="{value}"\n' for name, value in environment.items()]
        (directory / "environment").write_text("".join(lines))
        instance = subprocess.check_output(["systemd-escape", "--path", directory], text=True)
        self._unit = TEMPLATE.replace("@.", f"@{instance.strip()}.")
        self.returncode: int | None = None
        done = self._systemctl("start")
        self.pid = int(self._property("MainPID"))
        if done.returncode or not self.pid:
            self._systemctl("reset-failed")
            raise ChildProcessError(done.stderr)
        self._pidfd = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        return self.wait(0) if self.returncode is None and self._ended(0) else self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once nothing of the unit is left; negative for a signal."""
        if self.returncode is None:
            if not self._ended(timeout):
                raise subprocess.TimeoutExpired(self._unit, timeout or 0)
            # Waits for systemd, which kills what the main process left.
            self._systemctl("stop")
            status = int(self._property("ExecMainStatus"))
            killed = int(self._property("ExecMainCode")) in _KILLED
            self._systemctl("reset-failed")
            os.close(self._pidfd)
            self.returncode = -status if killed else status
        return self.returncode

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None and not self._ended(0):
            signal.pidfd_send_signal(self._pidfd, number)

    def _ended(self, timeout: float | None) -> bool:
        return bool(select.select([self._pidfd], [], [], timeout)[0])

    def _property(self, name: str) -> str:
        return self._systemctl("show", "--value", "--property", name).stdout.strip()

    def _systemctl(self, verb: str, *options: str) -> "subprocess.CompletedProcess[str]":
        command = ["systemctl", verb, *options, self._unit]
        return subprocess.run(command, capture_output=True, text=True, check=False)
