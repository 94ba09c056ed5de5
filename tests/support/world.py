"""What a command of sandboxctl may touch, as files that a test can read."""

import contextlib
import os
from pathlib import Path

from sandboxctl.stdio import Stdio


class World(Stdio):
    """A `Stdio` of files: what is on stdin is given, what is written can be read."""

    def __init__(self, directory: Path, stdin: bytes = b"", **environ: str) -> None:
        self._paths = [directory / name for name in ("stdin", "stdout", "stderr")]
        self._paths[0].write_bytes(stdin)
        flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
        fds = [os.open(path, flag, 0o600) for path, flag in zip(self._paths, flags, strict=True)]
        super().__init__(*fds, environ=environ)

    @property
    def stdout_text(self) -> str:
        return self._paths[1].read_text()

    @property
    def stderr_text(self) -> str:
        return self._paths[2].read_text()

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                os.close(fd)
