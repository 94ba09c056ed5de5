"""sandboxctl in the foreground of a terminal, with somebody who types and reads."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

from support.requirements import CLEAN_ENVIRONMENT

if TYPE_CHECKING:
    from types import TracebackType

COMMAND = [sys.executable, "-P", "-m", "sandboxctl"]


class Terminal:
    """A terminal of 30 by 100 with `sandboxctl ARGV` in its foreground."""

    def __init__(self, *argv: str) -> None:
        self.master, self.slave = os.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [*COMMAND, *argv],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=CLEAN_ENVIRONMENT,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def until(self, text: bytes) -> None:
        """Read until `text` is on the screen."""
        deadline = time.monotonic() + 10
        while text not in self.seen:
            wait = deadline - time.monotonic()
            readable, _, _ = select.select([self.master], [], [], max(0, wait))
            assert readable, f"{text!r} did not come; there is {self.seen!r}"
            self.seen += os.read(self.master, 65536)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def end(self) -> int:
        return self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
