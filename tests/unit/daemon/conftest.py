"""An engine whose helper is the test itself."""

import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from engine_peer import DEADLINE_S, PATIENT_NS, Peer
from rpc_client import ANYBODY, Client, Connect

from sandboxd.cgroups import Groups
from sandboxd.check import Checker, KernelCheck
from sandboxd.config import Config
from sandboxd.connection import Connection
from sandboxd.engine.descriptors import close_all
from sandboxd.engine.helper import Keeper
from sandboxd.engine.jobs import Engine
from sandboxd.environments.store import Environments
from sandboxd.functions.service import Functions
from sandboxd.packages.installed import Packages
from sandboxd.peer import Peer as Who
from sandboxd.runtimes.cache import Cache
from sandboxd.runtimes.catalog import Catalog
from sandboxd.runtimes.loader import Sources
from sandboxd.server import Server
from sandboxd.state import State
from sandboxd.weaker import Weaker


@pytest.fixture
def config() -> Config:
    """Two places: one job that runs and one that the helper is sent ahead."""
    return Config(jobs=1, queue_length=8, queue_per_tenant=6, helper_timeout_ns=PATIENT_NS)


@pytest.fixture
def keeper() -> Iterator[tuple[Keeper, socket.socket]]:
    """A child that ends when ``ctl`` does, as the keeper; and the other end of ``ctl``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    process = subprocess.Popen(
        ["/bin/sh", "-c", "read line"], stdin=theirs, stdout=subprocess.DEVNULL
    )
    keeper = Keeper(process, os.pidfd_open(process.pid), ours)
    yield keeper, theirs
    ours.close()
    theirs.close()
    process.kill()
    process.wait()
    os.close(keeper.pidfd)


@pytest.fixture
async def engine(
    config: Config, keeper: tuple[Keeper, socket.socket], nursery: trio.Nursery
) -> AsyncIterator[Engine]:
    engine = Engine(config, keeper[0])
    nursery.start_soon(engine.link.run)
    yield engine
    nursery.cancel_scope.cancel()


@pytest.fixture
async def peer(engine: Engine, keeper: tuple[Keeper, socket.socket]) -> AsyncIterator[Peer]:
    """The helper's side, with a worker that serves."""
    peer = Peer(keeper[1])
    peer.start_worker()
    with trio.fail_after(DEADLINE_S):
        await engine.up.wait()
    yield peer
    peer.close()


@pytest.fixture
def open_descriptors() -> Iterator[None]:
    """Fails when the test leaves descriptors open. Some are closed by a thread."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    deadline = time.monotonic() + DEADLINE_S
    while not (after := set(os.listdir("/proc/self/fd"))) <= before:
        assert time.monotonic() < deadline, after - before
        time.sleep(0.001)


@pytest.fixture
def pipes() -> Iterator[Callable[[], tuple[int, int]]]:
    """Makes pipes whose ends are closed after the test."""
    made: list[int] = []

    def make() -> tuple[int, int]:
        ends = os.pipe()
        made.extend(ends)
        return ends

    yield make
    close_all(made)


@pytest.fixture
def server(config: Config, engine: Engine) -> Iterator[Server]:
    with subprocess.Popen(["true"]) as process, open(os.devnull, "rb") as output:
        groups = Groups(1, {})
        weaker = Weaker(None, config, groups, 0)
        checker = Checker(engine, KernelCheck(process, output), groups, b"", weaker)
        catalog = Catalog(
            config, engine, Sources("/nonexistent"), Cache("/nonexistent", writable=False)
        )
        state = State(Path("/nonexistent"))
        environments = Environments(state, engine.roots, config.env)
        packages = Packages(state, engine, catalog, "/nonexistent")
        functions = Functions(config, state, engine, catalog)
        yield Server(
            config, engine, checker, catalog, environments, packages, functions, private=False
        )


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        yield ours, theirs


@pytest.fixture
async def connection(
    server: Server, ends: tuple[socket.socket, socket.socket], nursery: trio.Nursery
) -> AsyncIterator[Connection]:
    """A connection that is served; its other end is ``client``."""
    connection = Connection(server, ends[0], ANYBODY)
    server.connections.add(connection)
    nursery.start_soon(connection.run)
    yield connection
    connection.drop()
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def connect(server: Server, nursery: trio.Nursery) -> AsyncIterator[Connect]:
    """Makes connections that are served."""
    made: list[tuple[Connection, Client]] = []

    def make(uid: int) -> tuple[Connection, Client]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = Connection(server, ours, Who(uid, can_run=True, can_admin=False))
        nursery.start_soon(connection.run)
        made.append((connection, Client(theirs)))
        return made[-1]

    yield make
    for connection, client in made:
        connection.drop()
        client.sock.close()
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def client(connection: Connection, ends: tuple[socket.socket, socket.socket]) -> Client:
    return Client(ends[1])
