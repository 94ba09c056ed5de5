"""A clock that a daemon believes in, and nobody else."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.programs import SOURCES
from support.requirements import missing_compiler, skip


@contextlib.contextmanager
def shifted_clock() -> Iterator[dict[str, str]]:
    """The environment in which a daemon believes in another time when told to: while the file that
    SHIFTED_CLOCK names is there it is an hour earlier, while FILE.ahead is, a day later."""
    if missing_compiler():
        skip(missing_compiler() or "")
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-clock-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        library = f"{name}/clock.so"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCES / "shifted_clock.c"]
        subprocess.run(command, check=True)
        yield {"LD_PRELOAD": library, "SHIFTED_CLOCK": f"{name}/shift"}
