"""Executions by both clients against a scripted daemon."""

import os
import time
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sandboxd_client import Client, ConnectionLost, ExecuteResult, StagesResult
from sandboxd_client._wire import execute_params
from sandboxd_client.aio import TrioClient
from sandboxd_client.result import read_result
from support.scripted import RESULT, Peer

Start = Callable[..., str]

FAILED = {"status": "nonzero_exit", "exit_code": 1}
ANSWER = {"language": "c", "version": "12.2.0", "compile": {"status": "ok"}, "run": RESULT}
INFO = {
    "language": "c",
    "version": "12.2.0",
    "aliases": ["gcc"],
    "compiled": True,
    "package": False,
    "limits": {"compile": {}, "run": {}},
    "extensions": [".c"],
}


def test_files_may_be_plain_text() -> None:
    file = {"name": "x.h", "data": b"2", "source": False}
    assert execute_params("c", ["1", b"\xff", file], {"args": ["a"]}) == (
        {"language": "c", "files": [{"data": "1"}, {"data": b"\xff"}, file], "args": ["a"]},
        [],
    )
    assert execute_params("c", "1", {})[0]["files"] == [{"data": "1"}]


def test_descriptors_are_passed_once_each() -> None:
    params, fds = execute_params("c", ["1"], {"fds": {"stdin": 7, "stdout": 9, "stderr": 9}})
    assert (params["fds"], fds) == ({"stdin": 0, "stdout": 1, "stderr": 1}, [7, 9])


def test_a_result_of_two_stages() -> None:
    result = read_result(ANSWER)
    assert isinstance(result, ExecuteResult)
    assert isinstance(result, StagesResult)
    assert (result.language, result.version, result.ok) == ("c", "12.2.0", True)
    assert result.compile is not None
    assert result.run is not None
    assert result.last.stdout == b"out"
    assert "c-12.2.0" in repr(result)


def test_a_result_of_one_stage() -> None:
    result = read_result({"language": "bash", "version": "5.2.15", "run": RESULT})
    assert isinstance(result, ExecuteResult)
    assert result.compile is None
    assert result.last is result.run


def test_a_result_that_did_not_get_to_the_program() -> None:
    result = read_result({"language": "c", "version": "1.0.0", "compile": FAILED, "run": None})
    assert isinstance(result, ExecuteResult)
    assert result.run is None
    assert (result.last.exit_code, result.ok) == (1, False)


def test_the_blocking_client(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, params) == ("runtime.list", {})
        peer.answer(msgid, {"runtimes": [INFO]})
        msgid, method, params = peer.request()
        assert (method, params["language"], params["version"]) == ("runtime.execute", "c", "12")
        os.close(peer.fds.pop())
        peer.answer(msgid, ANSWER)
        msgid, method, params = peer.request()
        assert (method, params["stream"]) == ("runtime.start", True)
        peer.notify("job.stage", job="j1", stage="compile")  # Even before the answer.
        peer.answer(msgid, {"job": "j1", "language": "c", "version": "12.2.0"})
        peer.notify("job.output", job="j1", stream="stdout", data=b"a")
        peer.notify("job.exit", job="j1", result=ANSWER)

    with Client(daemon_with(script)) as client:
        assert client.runtimes() == [INFO]
        result = client.execute("c", ["1"], version="12", fds={"stdin": 0})
        assert isinstance(result, ExecuteResult)
        with client.start_execute("c", ["1"], stream=True) as job:
            assert (job.language, job.version) == ("c", "12.2.0")
            assert list(job) == [("stdout", b"a")]
            assert job.stage == "compile"
            assert job.wait().language == "c"


async def test_the_trio_client(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        peer.answer(msgid, {"runtimes": [INFO]})
        msgid, method, _ = peer.request()
        assert method == "runtime.start"
        peer.answer(msgid, {"job": "j1", "language": "c", "version": "12.2.0"})
        msgid, method, params = peer.request()
        assert (method, params) == ("job.wait", {"job": "j1"})
        peer.answer(msgid, ANSWER)

    async with await TrioClient.connect(daemon_with(script)) as client:
        assert await client.runtimes() == [INFO]
        result = await client.execute("c", ["1"])
        assert (result.language, result.last.stdout) == ("c", b"out")


async def test_a_runtime_that_is_looked_at_is_waited_for_longer(
    daemon_with: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client went; the daemon needs some time to say which job that was."""
    monkeypatch.setattr("sandboxd_client._aio_job.CANCEL_TIMEOUT_S", 0.01)
    cancelled = []

    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        time.sleep(0.1)  # Longer than another start may take.
        peer.answer(msgid, {"job": "j1", "language": "c", "version": "12.2.0"})
        msgid, method, params = peer.request()
        cancelled.append((method, params))
        peer.answer(msgid, {})

    async with (
        await TrioClient.connect(daemon_with(script)) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.execute, "c", ["1"])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert cancelled == [("job.cancel", {"job": "j1"})]


async def test_a_daemon_that_never_names_the_job(
    daemon_with: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd_client._aio_job.CANCEL_TIMEOUT_S", 0.01)
    monkeypatch.setattr("sandboxd_client.aio._DETECTION_S", 0.02)

    def script(peer: Peer) -> None:
        peer.request()
        with pytest.raises(EOFError):
            peer.request()

    async with await TrioClient.connect(daemon_with(script)) as client:
        with trio.move_on_after(0.02):
            await client.execute("c", ["1"])
        with pytest.raises(ConnectionLost, match="does not answer"):
            await client.health()
