"""The small C programs of the tests, compiled once and kept in the build directory."""

import functools
import hashlib
import subprocess
from pathlib import Path

from support.requirements import REPOSITORY, missing_compiler, skip

SOURCES = REPOSITORY / "tests" / "attacks" / "programs"
_BUILD = REPOSITORY / "build" / "attacks"
# Static, because a judge's programs are, and because they then run without any /usr.
_FLAGS = ("-std=gnu17", "-O1", "-static", "-s", "-pthread", "-Wall", "-Wextra", "-Werror")


@functools.cache
def program(name: str) -> bytes:
    """The executable made of programs/NAME.c."""
    text = (SOURCES / f"{name}.c").read_bytes() + (SOURCES / "attack.h").read_bytes()
    key = hashlib.sha256(repr(_FLAGS).encode() + text).hexdigest()[:16]
    binary = _BUILD / f"{name}-{key}"
    if not binary.exists():
        reason = missing_compiler()
        if reason:
            skip(reason)
        _compile(name, binary)
    return binary.read_bytes()


def _compile(name: str, binary: Path) -> None:
    _BUILD.mkdir(parents=True, exist_ok=True)
    for old in _BUILD.glob(f"{name}-*"):
        old.unlink()
    unfinished = binary.with_suffix(".new")
    subprocess.run(["gcc", *_FLAGS, "-o", unfinished, SOURCES / f"{name}.c"], check=True)
    unfinished.rename(binary)


def executable(name: str) -> dict[str, dict[str, object]]:
    """`files` of a job that has this program in its work directory."""
    return {name: {"data": program(name), "mode": 0o755}}


def report(output: bytes) -> dict[str, str]:
    """The lines ``name=outcome`` of an attack program. A name said twice is a test's mistake."""
    lines = [line.partition("=") for line in output.decode().splitlines() if "=" in line]
    found = {name: outcome for name, _, outcome in lines}
    assert len(found) == len(lines), output
    return found
