"""Fixtures of sandboxctl's tests."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.scripted import Daemon, Script
from support.world import World


@pytest.fixture
def daemon_with(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a daemon with scripts; gives the path of its socket."""
    with contextlib.ExitStack() as stack:

        def start(*scripts: Script) -> str:
            daemon = Daemon(tmp_path / "s", scripts)
            stack.callback(daemon.close)
            return daemon.path

        yield start


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The world of a command, with nothing on stdin and no environment."""
    world = World(tmp_path)
    yield world
    world.close()
