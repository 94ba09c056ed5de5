"""Fixtures of the client's tests."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.scripted import Daemon, Script


@pytest.fixture
def daemon_with(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a daemon with scripts; gives the path of its socket."""
    with contextlib.ExitStack() as stack:

        def start(*scripts: Script) -> str:
            daemon = Daemon(tmp_path / "s", scripts)
            stack.callback(daemon.close)
            return daemon.path

        yield start
