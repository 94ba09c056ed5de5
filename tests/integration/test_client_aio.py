"""The trio client and the real daemon: many jobs on one connection, streams, cancel scopes."""

import os
import sys

import pytest
import trio

from sandboxd_client import RequestError, Result, StagesResult
from sandboxd_client.aio import TrioClient
from support.daemon import Daemon
from support.jobs import SECOND

LONG = {"wall_time_ns": 60 * SECOND, "cpu_time_ns": 60 * SECOND}


async def test_many_jobs_on_one_connection(daemon: Daemon) -> None:
    outputs = {}

    async def one(client: TrioClient, number: int) -> None:
        result = await client.run(["cat"], stdin=str(number))
        assert result.ok, result
        outputs[number] = result.stdout

    async with await TrioClient.connect(daemon.socket) as client, trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(one, client, number)
    assert outputs == {number: b"%d" % number for number in range(60)}


async def test_errors_and_results_beside_each_other(daemon: Daemon) -> None:
    async with await TrioClient.connect(daemon.socket) as client:
        with pytest.raises(RequestError, match=r"^limits\.processes: must be a whole number"):
            await client.run(["true"], limits={"processes": -1})
        assert (await client.run(["sh", "-c", "exit 3"])).exit_code == 3
        assert (await client.health())["status"] == "ok"
        assert (await client.info())["name"] == "sandboxd"
        assert "jobs" in await client.stats()


async def test_two_stages(daemon: Daemon) -> None:
    async with await TrioClient.connect(daemon.socket) as client:
        result = await client.run(["cat", "made"], compile={"argv": ["sh", "-c", "echo it > made"]})
    assert isinstance(result, StagesResult)
    assert result.run is not None
    assert result.run.stdout == b"it\n"


async def test_a_stream_in_both_directions(daemon: Daemon) -> None:
    """4 MiB through cat: more than any buffer on the way."""
    data = os.urandom(4 << 20)
    received = bytearray()

    async with await TrioClient.connect(daemon.socket) as client:
        limits = {**LONG, "output_bytes": 16 << 20}
        job = await client.start(["cat"], stdin_stream=True, stream=True, limits=limits)

        async def write() -> None:
            await job.write(data)
            await job.close_stdin()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            async for stream, chunk in job:
                assert stream == "stdout"
                received.extend(chunk)
        result = await job.wait()
    assert isinstance(result, Result)
    assert (result.ok, result.stdout) == (True, b"")
    assert bytes(received) == data


async def test_leaving_the_scope_cancels_the_job(daemon: Daemon) -> None:
    async with await TrioClient.connect(daemon.socket) as client:
        before = (await client.stats())["jobs"].get("cancelled", 0)
        with trio.move_on_after(0.2) as scope:
            async with await client.start(["sleep", "60"], limits=LONG) as job:
                await job.wait()
        assert scope.cancelled_caught
        assert (await job.wait()).status == "cancelled"  # type: ignore[union-attr]
        assert (await client.stats())["jobs"]["cancelled"] == before + 1


async def test_a_run_ends_with_its_scope(daemon: Daemon) -> None:
    async with await TrioClient.connect(daemon.socket) as client:
        before = (await client.stats())["jobs"].get("cancelled", 0)
        with trio.move_on_after(0.2):
            await client.run(["sleep", "60"], limits=LONG)
        with trio.fail_after(5):
            while (await client.stats())["queue"]["running"]:  # noqa: ASYNC110 - the daemon's
                await trio.sleep(0.01)
        assert (await client.stats())["jobs"]["cancelled"] == before + 1


async def test_signals_and_a_terminal(daemon: Daemon) -> None:
    script = "trap 'stty size; exit 5' WINCH; stty size; while :; do sleep 0.05; done"
    async with await TrioClient.connect(daemon.socket) as client:
        job = await client.start(
            ["sh", "-c", script], tty={"rows": 30, "columns": 100}, stream=True, limits=LONG
        )
        output = b""
        async for _, chunk in job:
            output += chunk
            if output == b"30 100\r\n":
                await job.resize(50, 132)
        result = await job.wait()
        assert isinstance(result, Result)
        assert (output, result.exit_code) == (b"30 100\r\n50 132\r\n", 5)

        job = await client.start(["sleep", "60"], limits=LONG)
        await trio.sleep(0.05)
        await job.signal("SIGUSR1")
        result = await job.wait()
        assert isinstance(result, Result)
        assert result.status == "signaled"


async def test_descriptors(daemon: Daemon) -> None:
    reader, writer = os.pipe()
    try:
        async with await TrioClient.connect(daemon.socket) as client:
            result = await client.run(["echo", "there"], fds={"stdout": writer})
        assert (result.ok, result.stdout) == (True, b"")
        os.close(writer)
        assert os.read(reader, 100) == b"there\n"
        assert os.read(reader, 1) == b"", "the daemon has closed its copy"
    finally:
        os.close(reader)


async def test_a_connection_that_closes_takes_its_jobs_along(daemon: Daemon) -> None:
    async with await TrioClient.connect(daemon.socket) as watcher:
        async with await TrioClient.connect(daemon.socket) as client:
            await client.start(["sleep", "60"], limits=LONG)
            assert (await watcher.stats())["queue"]["running"] >= 1
        with trio.fail_after(5):
            while (await watcher.stats())["queue"]["running"]:  # noqa: ASYNC110 - the daemon's
                await trio.sleep(0.01)


def test_the_blocking_client_does_not_need_trio(daemon: Daemon) -> None:
    import subprocess

    script = f"""
import sys
sys.modules["trio"] = None
from sandboxd_client import Client
with Client({daemon.socket!r}) as client:
    print(client.run(["echo", "hi"]).stdout)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("b'hi\\n'\n", "")
