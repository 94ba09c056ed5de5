"""What a command may touch of the world, as one object, so that tests can give it another."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Stdio:
    """Descriptors and environment of the process."""

    def __init__(
        self,
        stdin: int = 0,
        stdout: int = 1,
        stderr: int = 2,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.environ = environ

    def out(self, text: str) -> None:
        """Write data, all of it. Raises BrokenPipeError when nobody reads."""
        write_all(self.stdout, text.encode("utf-8", "surrogateescape"))

    def err(self, text: str) -> None:
        """Write a line for a person. Never fails: there is nobody else to tell."""
        try:  # noqa: SIM105 - contextlib costs 2 ms to import
            write_all(self.stderr, f"sandboxctl: {printable(text)}\n".encode("utf-8", "replace"))
        except OSError:
            pass

    def is_terminal(self, fd: int) -> bool:
        """Whether a person sits at `fd`."""
        try:
            return os.isatty(fd)
        except OSError:
            return False


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however often the kernel takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def printable(text: str) -> str:
    """`text` without what a terminal would obey: names and messages may come from a program."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
