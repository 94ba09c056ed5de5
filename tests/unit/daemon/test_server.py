"""Accepting and refusing clients, and what happens to all of them at the end."""

import gc
import os
import socket
import weakref
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from engine_peer import Peer
from rpc_client import Client

from sandboxd import listener
from sandboxd.config import Config
from sandboxd.server import Server, _affordable


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        jobs=1, socket=str(tmp_path / "s"), socket_group=str(os.getgid()),
        max_connections=4, max_connections_per_uid=3,
    )  # fmt: skip


@pytest.fixture
async def path(server: Server, nursery: trio.Nursery) -> str:
    """The path of a server that accepts."""
    nursery.start_soon(server.serve, listener.bind(server.config, None))
    await trio.testing.wait_all_tasks_blocked()
    return server.config.socket


def connect(path: str) -> Client:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return Client(sock)


async def test_clients_come_and_go(server: Server, path: str, peer: Peer) -> None:
    for _ in range(10):
        client = connect(path)
        assert (await client.call("server.health"))["status"] == "ok"
        client.sock.close()
        await trio.testing.wait_all_tasks_blocked()
    assert not server.connections
    assert not server._by_uid


async def test_a_closed_connection_needs_no_garbage_collector(
    server: Server, path: str, peer: Peer
) -> None:
    """It comes seldom, and what clients that come and go leave would grow until then."""
    client = connect(path)
    await client.call("server.health")
    (connection,) = map(weakref.ref, server.connections)
    gc.disable()
    try:
        client.sock.close()
        await trio.testing.wait_all_tasks_blocked()
        assert connection() is None
    finally:
        gc.enable()


async def test_too_many_of_one_user(server: Server, path: str, peer: Peer) -> None:
    clients = [connect(path) for _ in range(3)]
    for client in clients:
        await client.call("server.health")
    extra = connect(path)
    kind, method, (error,) = await extra.message()
    assert (kind, method, error["code"]) == (2, "error", "busy")
    assert await extra.message() is None
    clients[0].sock.close()
    await trio.testing.wait_all_tasks_blocked()
    again = connect(path)
    await again.call("server.health")
    for client in (*clients, extra, again):
        client.sock.close()
    await trio.testing.wait_all_tasks_blocked()


async def test_a_private_server_refuses_strangers(server: Server, path: str, peer: Peer) -> None:
    server._private = True
    server.config = msgspec.structs.replace(
        server.config, allowed_uids=(os.getuid() + 1,), admin_uids=()
    )
    client = connect(path)
    assert (await client.message())[2][0]["code"] == "permission_denied"
    assert await client.message() is None
    client.sock.close()


async def test_after_accepting_has_ended_clients_are_still_served(
    server: Server, path: str, peer: Peer
) -> None:
    client = connect(path)
    await client.call("server.health")
    server.accepting.cancel()
    await trio.testing.wait_all_tasks_blocked()
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(FileNotFoundError):
        late.connect(path)
    await client.call("server.health")
    client.sock.close()


async def test_one_broken_connection_breaks_no_other(
    server: Server, path: str, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = connect(path)
    await victim.call("server.health")
    (broken,) = server.connections
    other = connect(path)
    await other.call("server.health")

    def mistake(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(broken.passed, "message_ended", mistake)
    victim.send("server.health")
    assert (await victim.message())[3]["status"] == "ok"  # It broke after the answer.
    assert await victim.message() is None
    assert broken not in server.connections
    assert (await other.call("server.health"))["status"] == "ok"
    fresh = connect(path)
    assert (await fresh.call("server.health"))["status"] == "ok"
    for client in (victim, other, fresh):
        client.sock.close()


def test_connections_leave_descriptors_for_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(soft: int) -> None:
        monkeypatch.setattr("resource.getrlimit", lambda _: (soft, soft))

    limited(100)
    assert _affordable(512, 2) == 52
    limited(1 << 20)
    assert _affordable(512, 2) == 512
    limited(10)
    assert _affordable(512, 64) == 4
