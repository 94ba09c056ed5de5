"""Imports environments into a running daemon and looks at what it keeps of them."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.images import memfd

if TYPE_CHECKING:
    from sandboxd_client import Client, RequestError, Result
    from support.daemon import Daemon

SETTLE_S = 10.0
_numbers = itertools.count(1)


def fresh_name() -> str:
    return f"test-{os.getpid()}-{next(_numbers)}"


def import_bytes(client: "Client", archive: bytes, name: str | None = None) -> dict[str, Any]:
    fd = memfd(archive)
    try:
        return client.import_environment(fresh_name() if name is None else name, fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def imported(client: "Client", archive: bytes) -> Iterator[str]:
    """The name of an environment that is there for as long as the block runs."""
    name = import_bytes(client, archive)["name"]
    try:
        yield name
    finally:
        client.remove_environment(name)


def shell(client: "Client", environment: str, script: str, **fields: Any) -> "Result":
    return client.run(["sh", "-c", script], environment=environment, **fields)


def state(daemon: "Daemon") -> Path:
    return Path(daemon.socket).parent / "state"


def kept(daemon: "Daemon") -> list[str]:
    """Everything in the state directory that has to do with environments."""
    return files_below(state(daemon) / "environments") + files_below(state(daemon) / "staging")


def files_below(place: Path) -> list[str]:
    """What is there, with its mode; some of it may just be going."""
    found = []
    for where, directories, files in os.walk(place):
        for name in (*directories, *files):
            path = Path(where) / name
            with contextlib.suppress(FileNotFoundError):
                found.append(f"{path} {path.lstat().st_mode:o}")
    return sorted(found)


def import_or_refusal(client: "Client", archive: bytes) -> "str | RequestError":
    """The name of the environment that was made, or why none was."""
    from sandboxd_client import RequestError

    try:
        return str(import_bytes(client, archive)["name"])
    except RequestError as error:
        return error


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in the background."""
    deadline = time.monotonic() + SETTLE_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
