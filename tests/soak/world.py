"""The daemon and the gateway that are put under load, and what is stored there for it."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compat import gateway as gateways
from compat.pythia_tasks import Pythia
from sandboxd_client import Client
from support import daemon as daemons
from support.images import memfd
from support.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compat.gateway import Gateway
    from support.daemon import Daemon

MIB = 1024 * 1024
ECHO = "def main(args, context):\n    return [args, context['word']]\n"
WORD = "context of the soak"
SLEEPER = "import time\n\ndef main(args, context):\n    time.sleep(60)\n"
COPY = 'cat in.txt > out.txt; echo "copied"'


@dataclass(frozen=True)
class World:
    daemon: Daemon
    gateway: Gateway
    key: str
    """The secret of an `admin` key."""
    task: str
    """The id of a task of Pythia's."""
    environment: str
    archive: bytes
    """A root file system as a tar archive."""


@contextlib.contextmanager
def prepared(kept: int) -> Iterator[World]:
    """All of it, with ``kept`` ended executions at most."""
    settings = {
        # Some of the jobs sleep, and nobody shall wait for these.
        "jobs": max(2, len(os.sched_getaffinity(0))),
        "executions_count": kept,
        "executions_bytes": 64 * MIB,
    }
    with (
        daemons.running(**settings) as daemon,
        gateways.running(daemon.socket, pifop={"plain_http": True}) as gateway,
        Client(daemon.socket) as client,
    ):
        client.create_function("echo", "python", code=ECHO, context={"word": WORD})
        client.create_function("sleeper", "python", code=SLEEPER)
        client.create_function(
            "copy",
            "program",
            command=["sh", "-c", COPY],
            inputs=[{"id": "in", "path": "in.txt", "required": True}],
            outputs=[{"id": "out", "path": "out.txt"}],
        )
        key = client.create_key("soak", "admin")["secret"]
        archive = _archive()
        fd = memfd(archive)
        with contextlib.closing(io.FileIO(fd)):
            client.import_environment("small", fd)
        task = Pythia(gateway).script('read line; echo "solved $line"')
        yield World(daemon, gateway, key, task, "small", archive)


def _archive() -> bytes:
    """With one static program, which ends with the code it is given."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("bin/exit_code")
        data = program("exit_code")
        info.size, info.mode = len(data), 0o755
        archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()
