"""`runtime.*` on a connection, with a helper that the test plays."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from engine_peer import Message, Peer
from rpc_client import Client
from runtime_host import Host

from sandboxd.config import Config
from sandboxd.connection import Connection
from sandboxd.engine import wire
from sandboxd.peer import Peer as ClientPeer
from sandboxd.runtimes.catalog import Catalog
from sandboxd.server import Server


@pytest.fixture
def host(tmp_path: Path, server: Server, peer: Peer) -> Host:
    """With one tool, whose version is not known yet."""
    host = Host(tmp_path, server.config, server.engine, peer)
    host.install("tool")
    host.describe("tool")
    server.runtimes = host.catalog()
    return host


def program(**fields: Any) -> dict[str, Any]:
    return {"language": "tool", "files": [{"data": "text"}], **fields}


async def known(host: Host, client: Client) -> None:
    """The version is found out."""
    msgid = client.send("runtime.list")
    await host.say("version 1.2.3")
    answer = await client.answer(msgid)
    assert [info["version"] for info in answer["runtimes"]] == ["1.2.3"]


async def job_of(peer: Peer) -> Message:
    message = await peer.receive()
    assert message.kind == wire.MSG_JOB
    return message


async def test_list_what_is_there(host: Host, client: Client) -> None:
    msgid = client.send("runtime.list")
    await host.say("version 1.2.3")
    assert await client.answer(msgid) == {
        "runtimes": [
            {
                "language": "tool",
                "version": "1.2.3",
                "aliases": [],
                "compiled": False,
                "package": False,
                "limits": {"compile": {}, "run": {}},
                "extensions": [],
            }
        ]
    }


async def test_execute_what_is_known_starts_no_task(
    host: Host, client: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known(host, client)
    monkeypatch.setattr(connection, "start_soon", lambda call: pytest.fail("a task"))
    msgid = client.send("runtime.execute", program(args=["a"], version="^1"))
    message = await job_of(host.peer)
    assert b"tool\0file0.code\0" in message.blob
    host.peer.result(message.fields["job_id"], b"out")
    answer = await client.answer(msgid)
    assert (answer["language"], answer["version"]) == ("tool", "1.2.3")
    assert answer["run"]["stdout"] == b"out"
    assert "compile" not in answer


async def test_execute_while_the_version_is_found_out(host: Host, client: Client) -> None:
    msgid = client.send("runtime.execute", program())
    other = client.send("server.health")
    await client.answer(other)  # Others do not wait for it.
    await host.say("version 1.2.3")
    message = await job_of(host.peer)
    host.peer.result(message.fields["job_id"], b"out")
    assert (await client.answer(msgid))["run"]["stdout"] == b"out"


@pytest.mark.parametrize("lazy", [False, True], ids=["known", "not known yet"])
async def test_passed_descriptors(
    host: Host, client: Client, pipes: Callable[[], tuple[int, int]], lazy: bool
) -> None:
    if not lazy:
        await known(host, client)
    ours, theirs = pipes()
    msgid = client.send("runtime.execute", program(fds={"stdout": 0}), [theirs])
    if lazy:
        client.send("server.health")  # What was passed is not the next request's.
        await host.say("version 1.2.3")
    message = await job_of(host.peer)
    assert message.fields["fd_mask"] & wire.FD_STDOUT
    os.write(message.fds[-1], b"through")
    assert os.read(ours, 100) == b"through"
    os.close(message.fds[-1])
    host.peer.result(message.fields["job_id"])
    if lazy:
        await client.message()
    assert (await client.answer(msgid))["run"]["status"] == "ok"


@pytest.mark.parametrize(
    "fields",
    [{}, {"version": "2"}, {"stdin": 3}, {"run": {"limits": {"open_files": 1}}}],
    ids=["no runtime", "no version", "bad field", "bad limit"],
)
async def test_descriptors_of_a_request_that_is_refused_are_closed(
    host: Host,
    client: Client,
    connection: Connection,
    pipes: Callable[[], tuple[int, int]],
    fields: dict[str, Any],
) -> None:
    ours, theirs = pipes()
    msgid = client.send("runtime.execute", program(fds={"stdout": 0}, **fields), [theirs])
    os.close(theirs)
    await host.say("version 1.2.3" if fields else "nothing")
    await client.error(msgid)
    await trio.testing.wait_all_tasks_blocked()
    os.set_blocking(ours, False)
    await trio.lowlevel.wait_readable(ours)
    assert os.read(ours, 1) == b""  # Nobody has the other end any more.
    os.dup2(ours, theirs)  # For the fixture, which closes it.


async def test_a_client_that_goes_while_the_version_is_found_out(
    host: Host, client: Client, connection: Connection, pipes: Callable[[], tuple[int, int]]
) -> None:
    ours, theirs = pipes()
    client.send("runtime.execute", program(fds={"stdout": 0}), [theirs])
    os.close(theirs)
    message = await host.asked()
    client.sock.close()
    kill = await host.peer.receive()
    assert (kill.kind, kill.fields["job_id"]) == (wire.MSG_KILL, message.fields["job_id"])
    host.peer.result(message.fields["job_id"], reason=wire.REASON_CANCELLED)
    await trio.testing.wait_all_tasks_blocked()
    os.set_blocking(ours, False)
    await trio.lowlevel.wait_readable(ours)
    assert os.read(ours, 1) == b""
    assert host.peer.nothing_sent()
    os.dup2(ours, theirs)


async def test_requests_that_wait_for_a_version_are_bounded(
    host: Host, client: Client, server: Server
) -> None:
    many = [client.send("runtime.execute", program()) for _ in range(6)]
    message = await host.asked()
    error = await client.refused("runtime.execute", program())
    assert error["code"] == "busy"
    assert "your share" in error["message"]
    assert error["data"]["retry_after_ns"] > 0
    host.peer.result(message.fields["job_id"], b"version 1.2.3")
    for _ in many:
        host.peer.result((await job_of(host.peer)).fields["job_id"])
    for _ in many:
        assert (await client.message())[2] is None
    assert not server.looking.count


@pytest.mark.parametrize("config", [Config(jobs=1, queue_bytes=10_000)])
async def test_bytes_that_wait_for_a_version_are_bounded(host: Host, client: Client) -> None:
    first = client.send("runtime.execute", program(stdin="x" * 6000))
    message = await host.asked()
    error = await client.refused("runtime.execute", program(stdin="x" * 6000))
    assert (error["code"], "queue is full" in error["message"]) == ("busy", True)
    host.peer.result(message.fields["job_id"], b"version 1.2.3")
    host.peer.result((await job_of(host.peer)).fields["job_id"])
    assert (await client.answer(first))["run"]["status"] == "ok"


async def test_errors_name_the_stage(host: Host, client: Client, server: Server) -> None:
    await known(host, client)
    most = server.config.max_limits.memory_bytes
    limits = {"limits": {"memory_bytes": most + 1}}
    error = await client.error(client.send("runtime.execute", program(run=limits)))
    assert error["code"] == "limit_exceeded"
    assert error["message"].startswith("run.limits.memory_bytes: ")
    assert error["data"] == {"field": "run.limits.memory_bytes", "maximum": most}
    msgid = client.send("runtime.execute", program(compile=limits))  # There is no such stage.
    message = await job_of(host.peer)
    host.peer.result(message.fields["job_id"])
    await client.answer(msgid)


async def test_start(host: Host, client: Client) -> None:
    await known(host, client)
    started = await client.answer(client.send("runtime.start", program()))
    assert started == {"job": "j1", "language": "tool", "version": "1.2.3"}
    message = await job_of(host.peer)
    host.peer.result(message.fields["job_id"], b"out")
    answer = await client.answer(client.send("job.wait", {"job": "j1"}))
    assert (answer["language"], answer["version"]) == ("tool", "1.2.3")
    assert answer["run"]["stdout"] == b"out"


async def test_start_while_the_version_is_found_out(host: Host, client: Client) -> None:
    msgid = client.send("runtime.start", program(stream=True))
    await host.say("version 1.2.3")
    assert (await client.answer(msgid))["version"] == "1.2.3"
    message = await job_of(host.peer)
    _, method, _ = await client.message()
    assert method == "job.stage"
    for fd in message.fds:
        os.close(fd)
    host.peer.result(message.fields["job_id"])
    _, method, (params,) = await client.message()
    assert method == "job.exit"
    assert params["result"]["language"] == "tool"


async def test_a_job_that_is_cancelled_in_the_queue(host: Host, client: Client) -> None:
    await known(host, client)
    for _ in range(3):
        msgid = client.send("runtime.start", program())
        await client.answer(msgid)
    running = [await job_of(host.peer) for _ in range(2)]
    await client.answer(client.send("job.cancel", {"job": "j3"}))
    answer = await client.answer(client.send("job.wait", {"job": "j3"}))
    assert answer["run"]["status"] == "cancelled"
    for message in running:
        host.peer.result(message.fields["job_id"])


async def test_a_mistake_of_ours_is_one_request_s(
    host: Host, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: Catalog, language: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Catalog, "settle", broken)
    error = await client.error(client.send("runtime.execute", program()))
    assert error["code"] == "internal"
    assert "ZeroDivisionError" in caplog.text
    await client.answer(client.send("server.health"))


@pytest.mark.parametrize(
    "method",
    ["runtime.list", "runtime.execute", "runtime.start", "package.list", "environment.list"],
)
async def test_who_may_not_run_jobs_runs_no_tools(
    host: Host, client: Client, connection: Connection, method: str
) -> None:
    connection.peer = ClientPeer(uid=1234, can_run=False, can_admin=False)
    params = {} if method.endswith(".list") else program()
    error = await client.error(client.send(method, params))
    assert error["code"] == "permission_denied"
    assert host.peer.nothing_sent()
