"""What the graders of both templates share. Runs in the sandbox of a task, with the task's files.

The grader and the learner's program run as one user. So before any of the learner's code runs the
grader has read all it needs, has taken the expected answers off the disk, and has made itself
undumpable: nobody reads its memory or writes to its output. What the learner's program can still do
is to end it, and then there is no verdict.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import IO, Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_DUMPABLE = 4
# Of one program's output; the verdict quotes some of it.
_MAX_OUTPUT = 256 * 1024
_PLACE = re.compile(r"@([^@\n]*)@(\w+)@([^@\n]*)@")
_OTHER_NAMES = {"code": "body", "f1": "code"}
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"}  # noqa: S108 - the sandbox's own


class Fault(Exception):
    """The task cannot be graded; the text says why."""


class Ended:
    """One program that ran."""

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout.decode("utf-8", "replace")
        self.stderr = stderr.decode("utf-8", "replace")

    def words(self) -> str:
        """What it has to say about its failure."""
        if self.stderr or self.stdout:
            return self.stderr or self.stdout
        if self.status < 0:
            return f"killed by signal {-self.status}"
        return f"ended with status {self.status}"


def begin(*secret: str) -> tuple[tuple[Any, dict[str, str]], dict[str, Any]]:
    """(submission, config files by name); nothing of ``secret`` is left on the disk.

    The input is `{"tid": …, "fields": {NAME: TEXT}}`, on one line or several.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.path.remove(os.path.dirname(os.path.realpath(__file__)))  # Nothing is imported from there.
    found = {}
    for name in os.listdir("/task/config"):
        with open(f"/task/config/{name}", encoding="utf-8") as file:
            found[name] = json.load(file)
    for name in secret:
        os.unlink(f"/task/config/{name}")
    return _submission(sys.stdin.buffer.read()), found


def _submission(data: bytes) -> tuple[Any, dict[str, str]]:
    text = data.rstrip(b"\0").decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Fault('the input must be JSON: {"tid": "...", "fields": {"code": "..."}}') from None
    fields = value.get("fields") if isinstance(value, dict) else None
    if not isinstance(fields, dict) or not all(isinstance(v, str) for v in fields.values()):
        raise Fault('the input must be {"tid": "...", "fields": {NAME: TEXT}}')
    return value.get("tid", ""), fields


def fill(skeleton: str, fields: dict[str, str]) -> str:
    """The program: the skeleton with the fields in their places; what is not given is empty."""
    if "program" in fields:
        return fields["program"]

    def lines(match: re.Match[str]) -> str:
        before, name, after = match.groups()
        text = fields.get(name, fields.get(_OTHER_NAMES.get(name, ""), ""))
        return "\n".join(f"{before}{line}{after}" for line in text.split("\n")) if text else ""

    return _PLACE.sub(lines, skeleton)


def directory() -> str:
    """A new one, where nobody has left anything."""
    return tempfile.mkdtemp(prefix="work-")


def write(directory: str, name: str, text: str) -> None:
    """A file of a program."""
    with open(f"{directory}/{name}", "w", encoding="utf-8", errors="replace") as file:
        file.write(text)


def run(
    argv: list[str], directory: str, stdin: str = "", env: dict[str, str] | None = None
) -> Ended:
    """Run a program to its end, and end whatever it leaves."""
    environment = {**_ENV, **(env or {})}
    program = shutil.which(argv[0], path=environment["PATH"]) if "/" not in argv[0] else argv[0]
    if program is None:
        raise Fault(f"there is no {argv[0]} in the environment of this task")
    child = subprocess.Popen(
        [program, *argv[1:]],
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    outputs = _talk(child, stdin.encode("utf-8", "replace"))
    status = child.wait()
    kill_all()
    return Ended(status, *outputs)


def kill_all() -> None:
    """Every process but this one and the sandbox's init."""
    if os.getuid():  # In a sandbox it is never 0: never on a host.
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def _talk(child: subprocess.Popen[bytes], stdin: bytes) -> list[bytes]:
    """What it writes, to the end or to what is too much: then it is killed.

    Its end is the end: what it has left running is killed then, or the pipes would stay open.
    """
    assert child.stdin  # noqa: S101 - for mypy
    assert child.stdout  # noqa: S101 - for mypy
    assert child.stderr  # noqa: S101 - for mypy
    found = {child.stdout: bytearray(), child.stderr: bytearray()}
    ended = os.pidfd_open(child.pid)
    os.set_blocking(child.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(ended, selectors.EVENT_READ)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        for stream in found:
            selector.register(stream, selectors.EVENT_READ)
        while any(stream in selector.get_map() for stream in found):
            for key, _ in selector.select():
                if key.fd == ended:
                    selector.unregister(ended)
                    kill_all()
                elif key.fileobj is child.stdin:
                    stdin = _written(child.stdin, stdin)
                    if not stdin:
                        selector.unregister(child.stdin)
                        _close(child.stdin)
                else:
                    stream = child.stdout if key.fileobj is child.stdout else child.stderr
                    if not _read(stream, found[stream]):
                        selector.unregister(stream)
            if any(len(data) > _MAX_OUTPUT for data in found.values()):
                child.kill()
                found[child.stderr][:] = b"the program wrote too much"
                break
    os.close(ended)
    _close(child.stdin)
    return [bytes(data[:_MAX_OUTPUT]) for data in found.values()]


def _read(stream: IO[bytes], into: bytearray) -> bytes:
    data = os.read(stream.fileno(), 65536)
    into += data
    return data


def _written(stream: IO[bytes], data: bytes) -> bytes:
    """What is left to write; nothing when nobody reads it."""
    try:
        return data[os.write(stream.fileno(), data) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return b""


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def verdict(tid: Any, status: str, feedback: dict[str, Any]) -> None:
    """The task's output: one line of JSON."""
    print(json.dumps({"tid": tid, "status": status, "feedback": feedback}, ensure_ascii=False))


def score(succeeded: int, total: int) -> float:
    """The part that succeeded."""
    value = succeeded / total if total else 0.0
    return int(value) if value in (0.0, 1.0) else round(value, 7)


def main(grade: Callable[[], None]) -> None:
    """Grade, and say in one sentence what stood in the way."""
    try:
        grade()
    except Fault as exc:
        print(exc)
        sys.exit(1)
