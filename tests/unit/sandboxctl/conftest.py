"""Fixtures of sandboxctl's tests."""

import contextlib
import fcntl
import os
import struct
import termios
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


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[tuple[World, Callable[[], str]]]:
    """A world whose stderr is a terminal, and what is on it."""
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    world = World(tmp_path)
    os.dup2(slave, world.stderr)
    os.set_blocking(master, False)
    seen = []

    def read() -> str:
        try:
            while True:
                seen.append(os.read(master, 65536))
        except BlockingIOError:
            return b"".join(seen).decode()

    yield world, read
    world.close()
    os.close(slave)
    os.close(master)
