"""The trio client against a scripted daemon: many tasks on one connection."""

import random
import threading
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sandboxd.protocol import rpc
from sandboxd_client import ConnectionLost, DaemonUnreachable, RequestError
from sandboxd_client.aio import TrioClient
from support.scripted import RESULT, Peer

Start = Callable[..., str]


async def test_run(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, params) == ("job.start", {"argv": ["cat"], "stdin": b"x"})
        peer.answer(msgid, {"job": "j1"})
        msgid, method, params = peer.request()
        assert (method, params) == ("job.wait", {"job": "j1"})
        peer.answer(msgid, RESULT)

    async with await TrioClient.connect(daemon_with(script)) as client:
        result = await client.run(["cat"], stdin=b"x")
    assert result.stdout == b"out"


async def test_a_job_is_cancelled_with_its_task(daemon_with: Start) -> None:
    methods = []

    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        for _ in range(2):
            msgid, method, params = peer.request()
            assert params == {"job": "j1"}
            methods.append(method)
        peer.answer(msgid, {})

    client = await TrioClient.connect(daemon_with(script))
    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(client.run, ["x"])
        while "j1" not in client._jobs or not client._waits:  # noqa: ASYNC110 - a thread's
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert methods == ["job.wait", "job.cancel"]


async def test_a_job_is_cancelled_even_before_it_has_a_name(daemon_with: Start) -> None:
    go = threading.Event()
    cancelled = []

    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        go.wait(10)
        peer.answer(msgid, {"job": "j1"})
        msgid, method, params = peer.request()
        cancelled.append((method, params))
        peer.answer(msgid, {})

    async with await TrioClient.connect(daemon_with(script)) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run, ["x"])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            go.set()
        assert not client._pending
        assert not client._answers
    assert cancelled == [("job.cancel", {"job": "j1"})]


async def test_a_daemon_that_does_not_name_a_job_in_time(
    daemon_with: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd_client._aio_job.CANCEL_TIMEOUT_S", 0.05)

    def script(peer: Peer) -> None:
        peer.request()
        with pytest.raises(EOFError):
            peer.request()

    async with await TrioClient.connect(daemon_with(script)) as client:
        with trio.move_on_after(0.05):
            await client.run(["x"])
        with pytest.raises(ConnectionLost, match="does not answer"):
            await client.health()


async def test_many_tasks_get_their_own_answers_in_any_order(daemon_with: Start) -> None:
    count = 300

    def script(peer: Peer) -> None:
        requests = [peer.request() for _ in range(count)]
        random.Random(1).shuffle(requests)
        for msgid, _, params in requests:
            peer.answer(msgid, params)

    answers = {}

    async def one(client: TrioClient, number: int) -> None:
        answers[number] = (await client.call("job.run", {"n": number}))["n"]

    async with await TrioClient.connect(daemon_with(script)) as client:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(one, client, number)
        assert not client._answers
        assert not client._pending
        assert not client._parked
    assert answers == {number: number for number in range(count)}


async def test_a_cancelled_task_hands_over_and_loses_only_its_answer(daemon_with: Start) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        first, _, _ = peer.request()
        second, _, _ = peer.request()
        go.wait(10)
        peer.answer(first, {"status": "ok", "stdout": b"late"})
        peer.answer(second, {"status": "ok", "stdout": b"second"})

    results = []

    async def other(client: TrioClient) -> None:
        results.append((await client.call("job.run", {}))["stdout"])

    async with await TrioClient.connect(daemon_with(script)) as client:
        async with trio.open_nursery() as outer:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call, "job.run", {})
                await wait_all_tasks_blocked()  # It reads for both.
                outer.start_soon(other, client)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            go.set()
        assert results == [b"second"]
        assert not client._answers, "a late answer is dropped"


async def test_an_error_is_raised_to_the_task_that_asked(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        first, _, _ = peer.request()
        second, _, _ = peer.request()
        peer.sock.sendall(rpc.encode_error(first, RequestError("busy", "full")))
        peer.answer(second, {"status": "ok"})

    async with await TrioClient.connect(daemon_with(script)) as client:
        outcomes = []

        async def refused() -> None:
            with pytest.raises(RequestError, match=r"^full$"):
                await client.run(["x"])
            outcomes.append("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused)
            await wait_all_tasks_blocked()
            assert (await client.health()) == {"status": "ok"}
        assert outcomes == ["refused"]


async def test_output_is_iterated_up_to_the_exit(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        peer.notify("job.stage", job="j1", stage="run")
        peer.answer(msgid, {"job": "j1"})
        peer.notify("job.output", job="j1", stream="stdout", data=b"a")
        peer.notify("job.output", job="j1", stream="stderr", data=b"b")
        peer.notify("job.exit", job="j1", result=RESULT)

    async with await TrioClient.connect(daemon_with(script)) as client:
        job = await client.start(["x"], stream=True)
        assert [chunk async for chunk in job] == [("stdout", b"a"), ("stderr", b"b")]
        assert job.stage == "run"
        assert (await job.wait()).ok
        assert [chunk async for chunk in job] == []


async def test_one_task_reads_while_another_waits_for_the_end(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        for n in range(1000):
            peer.notify("job.output", job="j1", stream="stdout", data=str(n).encode())
        peer.notify("job.exit", job="j1", result=RESULT)

    async with await TrioClient.connect(daemon_with(script)) as client:
        job = await client.start(["x"], stream=True)
        chunks = []

        async def read() -> None:
            async for _, data in job:
                chunks.append(int(data))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            assert (await job.wait()).ok
        assert chunks == list(range(1000))


async def test_calls_on_a_job(daemon_with: Start) -> None:
    seen = []

    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        for answer in ({}, {}, {}, {}, {}, {}, RESULT):
            msgid, method, params = peer.request()
            seen.append((method, {k: v for k, v in params.items() if k not in ("job", "data")}))
            peer.answer(msgid, answer)

    async with await TrioClient.connect(daemon_with(script)) as client:
        job = await client.start(["x"], stdin_stream=True)
        await job.write(bytes(65537))
        await job.close_stdin()
        await job.signal(2)
        await job.resize(50, 132)
        await job.cancel()
        assert (await job.wait()).ok
        assert (await job.wait()).ok
    assert seen == [
        ("job.write", {}),
        ("job.write", {}),
        ("job.close_stdin", {}),
        ("job.signal", {"signal": 2}),
        ("job.resize", {"rows": 50, "columns": 132}),
        ("job.cancel", {}),
        ("job.wait", {}),
    ]


async def test_leaving_the_block_cancels_the_job_even_when_cancelled(daemon_with: Start) -> None:
    methods = []

    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        msgid, method, _ = peer.request()
        methods.append(method)
        peer.answer(msgid, {})

    async with await TrioClient.connect(daemon_with(script)) as client:
        with trio.move_on_after(0.05):
            async with await client.start(["x"], stream=True) as job:
                async for _ in job:
                    pass
    assert methods == ["job.cancel"]


async def test_batch(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        error = {"code": "busy", "message": "full", "data": {}}
        peer.answer(peer.request()[0], {"results": [RESULT, {"error": error}]})

    async with await TrioClient.connect(daemon_with(script)) as client:
        first, second = await client.batch([{"argv": ["a"]}, {"argv": ["b"]}])
    assert first.ok  # type: ignore[union-attr]
    assert isinstance(second, RequestError)


async def test_everybody_hears_that_the_daemon_is_gone(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        for _ in range(3):
            peer.request()

    lost = []

    async def one(client: TrioClient) -> None:
        with pytest.raises(ConnectionLost):
            await client.run(["x"])
        lost.append(1)

    async with await TrioClient.connect(daemon_with(script)) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one, client)
        assert len(lost) == 3
        with pytest.raises(ConnectionLost):
            await client.run(["x"])


async def test_closing_wakes_who_waits(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        with pytest.raises(EOFError):
            peer.request()

    client = await TrioClient.connect(daemon_with(script))

    async def waits() -> None:
        with pytest.raises(ConnectionLost, match="was closed"):
            await client.run(["x"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await wait_all_tasks_blocked()
        await client.aclose()


async def test_half_a_request_ends_the_connection(daemon_with: Start) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        go.wait(10)
        with pytest.raises(EOFError):
            peer.request()

    async with await TrioClient.connect(daemon_with(script)) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.run(["x"], stdin=bytes(10**7)))
            await wait_all_tasks_blocked()  # The socket takes no more.
            nursery.cancel_scope.cancel()
        go.set()
        with pytest.raises(ConnectionLost):
            await client.health()


async def test_reads_while_the_daemon_does_not(daemon_with: Start) -> None:
    output = bytes(4 * 1024 * 1024)

    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        peer.notify("job.output", job="j1", stream="stdout", data=output)
        msgid, _, params = peer.request()
        assert len(params["stdin"]) == 10**7
        peer.answer(msgid, RESULT)
        peer.notify("job.exit", job="j1", result=RESULT)

    async with await TrioClient.connect(daemon_with(script)) as client:
        job = await client.start(["x"], stream=True)
        with trio.fail_after(10):
            await client.call("job.run", {"stdin": bytes(10**7)})
            assert [chunk async for chunk in job] == [("stdout", output)]


async def test_no_daemon() -> None:
    with pytest.raises(DaemonUnreachable, match=r"^cannot reach sandboxd at /nowhere: "):
        await TrioClient.connect("/nowhere")
