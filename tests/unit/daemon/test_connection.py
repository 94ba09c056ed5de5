"""One connection against a real socket: requests, refusals, slowness, disappearance."""

import contextlib
import os
import socket
import time

import msgspec
import pytest
import trio
import trio.testing
from engine_peer import DEADLINE_S, PATIENT_NS, Peer, spec
from rpc_client import ANYBODY, Client, Connect
from trio.testing import MockClock

from sandboxd.config import Config
from sandboxd.connection import Connection
from sandboxd.engine import wire
from sandboxd.engine.jobs import Engine
from sandboxd.peer import Peer as Who
from sandboxd.server import Server

RUN = {"argv": ["prog"]}


@pytest.fixture
def config() -> Config:
    return Config(
        jobs=1, queue_length=4, queue_per_tenant=4, max_requests_per_connection=6,
        max_message_bytes=100_000, max_write_buffer_bytes=4 << 20,
        helper_timeout_ns=PATIENT_NS,
    )  # fmt: skip


async def test_run(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", RUN)
    message = await peer.receive()
    assert message.fields["tenant"] == ANYBODY.uid
    peer.result(message.fields["job_id"], b"hello")
    result = await client.answer(msgid)
    assert (result["status"], result["stdout"], result["exit_code"]) == ("ok", b"hello", 0)
    assert "output" not in result
    assert "files" not in result


async def test_answers_come_as_jobs_end(client: Client, peer: Peer) -> None:
    first, second = client.send("job.run", RUN), client.send("job.run", RUN)
    ids = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    peer.result(ids[1], b"2")
    assert (await client.answer(second))["stdout"] == b"2"
    peer.result(ids[0], b"1")
    assert (await client.answer(first))["stdout"] == b"1"


async def test_byte_by_byte(client: Client, peer: Peer) -> None:
    for byte in client.encode(9, "server.health", {}):
        client.send_bytes(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    assert (await client.answer(9))["status"] == "ok"


async def test_many_requests_in_one_piece(client: Client, peer: Peer) -> None:
    pieces = [client.encode(number, "server.health", {}) for number in range(500)]
    client.send_bytes(b"".join(pieces))
    for number in range(500):
        await client.answer(number)


@pytest.mark.parametrize(
    ("method", "params", "code", "field"),
    [
        ("nope", {}, "not_found", None),
        ("job.run", {}, "invalid_argument", "argv"),
        ("job.run", {"argv": ["x"], "limits": {"memory_bytes": -1}}, "invalid_argument",
         "limits.memory_bytes"),
        ("job.run", {"argv": ["x"], "stream": True}, "invalid_argument", "stream"),
        ("job.run", {"argv": ["x"], "mounts": ["nope"]}, "invalid_argument", "mounts"),
        ("job.wait", {"job": "j1"}, "not_found", None),
        ("job.cancel", {"job": "j1"}, "not_found", None),
        ("job.write", {"job": "j1", "data": b""}, "not_found", None),
        ("job.resize", {"job": "j1", "rows": 1, "columns": 1}, "not_found", None),
        ("job.signal", {"job": "j1", "signal": 2}, "not_found", None),
        ("job.close_stdin", {"job": "j1"}, "not_found", None),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_answered_and_the_next_one_too(
    client: Client, peer: Peer, method: str, params: dict[str, object], code: str, field: str | None
) -> None:
    error = await client.refused(method, params)
    assert error["code"] == code
    assert error["data"].get("field") == field
    assert (await client.call("server.health"))["status"] == "ok"


@pytest.mark.parametrize(
    "data",
    [b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x94\x02\x01\xa1x\x91\x80", b"\x93\x00\x01\xa1x",
     b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100, b"\x80"],
)  # fmt: skip
async def test_what_is_no_request_closes_the_connection(
    client: Client, connection: Connection, data: bytes
) -> None:
    client.send_bytes(data)
    kind, method, (error,) = await client.message()
    assert (kind, method, error["code"]) == (2, "error", "invalid_argument")
    assert await client.message() is None
    assert connection.closed


async def test_a_message_that_is_too_long(client: Client) -> None:
    client.send_bytes(b"\x94\x00\x01\xa1x\x91\xc6" + (200_000).to_bytes(4, "big"))
    assert "at most 100000" in (await client.message())[2][0]["message"]
    assert await client.message() is None


async def test_half_a_message_has_ten_seconds(client: Client, autojump_clock: MockClock) -> None:
    client.send_bytes(client.encode(1, "server.health", {})[:-1])
    start = trio.current_time()
    kind, method, (error,) = await client.message()
    assert (kind, method) == (2, "error")
    assert "did not come in time" in error["message"]
    assert trio.current_time() - start == pytest.approx(10, abs=0.5)
    assert await client.message() is None


async def test_dribbling_does_not_buy_time(client: Client, autojump_clock: MockClock) -> None:
    data = client.encode(1, "job.run", {"argv": ["x" * 100]})
    for byte in data[:12]:
        await trio.sleep(0.9)
        client.send_bytes(bytes([byte]))
    kind, method, _ = await client.message()
    assert (kind, method) == (2, "error")


async def test_silence_between_messages_is_fine(
    client: Client, peer: Peer, autojump_clock: MockClock
) -> None:
    await client.call("server.health")
    await trio.sleep(1000)
    await client.call("server.health")


async def test_the_same_msgid_twice_at_once(client: Client, peer: Peer) -> None:
    client.send_bytes(client.encode(5, "job.run", RUN))
    client.send_bytes(client.encode(5, "server.health", {}))
    error = await client.error(5)
    assert (error["code"], error["data"]) == ("invalid_argument", {"field": "msgid"})
    peer.result((await peer.receive()).fields["job_id"])
    assert (await client.answer(5))["status"] == "ok"
    client.send_bytes(client.encode(5, "server.health", {}))
    await client.answer(5)


async def test_requests_in_flight_are_bounded(client: Client, peer: Peer) -> None:
    sent = [client.send("job.run", RUN) for _ in range(6)]
    error = await client.refused("server.health")
    assert error["code"] == "busy"
    assert error["data"]["retry_after_ns"] > 0
    for msgid in sent:
        peer.result((await peer.receive()).fields["job_id"])
        await client.answer(msgid)
    await client.call("server.health")


async def test_a_full_queue_is_busy(server: Server, client: Client, peer: Peer) -> None:
    server.config = msgspec.structs.replace(server.config, max_requests_per_connection=100)
    for _ in range(6):
        client.send("job.run", RUN)
    error = await client.refused("job.run", RUN)
    assert (error["code"], list(error["data"])) == ("busy", ["retry_after_ns"])


async def test_jobs_die_with_their_connection(
    client: Client, connection: Connection, peer: Peer
) -> None:
    for _ in range(4):
        client.send("job.run", RUN)
    ids = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    client.sock.close()
    kills = [await peer.receive() for _ in range(2)]
    assert [kill.kind for kill in kills] == [wire.MSG_KILL] * 2
    assert {kill.fields["job_id"] for kill in kills} == set(ids)
    for job_id in ids:
        peer.result(job_id, reason=wire.REASON_CANCELLED)
    await trio.testing.wait_all_tasks_blocked()
    scheduler = connection.server.engine.scheduler
    assert (scheduler.running, scheduler.waiting) == (0, 0)
    assert peer.nothing_sent()


async def test_a_client_that_does_not_read_is_dropped_and_its_jobs_too(
    client: Client, connection: Connection, peer: Peer, autojump_clock: MockClock
) -> None:
    client.send("job.run", RUN)
    client.send("job.run", RUN)
    ids = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    start = trio.current_time()
    for number in range(100):
        connection.notify("job.output", {"job": "x", "data": bytes(20_000), "number": number})
    assert not connection.closed
    assert peer.work is not None
    await trio.lowlevel.wait_readable(peer.work)
    kill = await peer.receive()
    assert kill.fields["job_id"] in ids
    assert trio.current_time() - start == pytest.approx(30, abs=1)
    assert connection.closed
    await trio.testing.wait_all_tasks_blocked()
    assert connection.server.untaken.bytes == 0


async def test_the_write_buffer_is_bounded(client: Client, connection: Connection) -> None:
    for _ in range(1000):
        connection.notify("job.output", {"data": bytes(20_000)})
    assert connection.closed
    await trio.testing.wait_all_tasks_blocked()
    assert connection.server.untaken.bytes == 0


async def test_who_leaves_much_unread_is_dropped_and_nobody_else(
    server: Server, connect: Connect
) -> None:
    """Whoever is sent something next."""
    greedy = [connect(1000)[0] for _ in range(4)]
    other, another = connect(1001)[0], connect(1000)[0]
    other.notify("n", {"data": bytes(2 << 20)})
    another.notify("n", {"data": bytes(2 << 20)})
    for connection in greedy:  # The first message may be of any size.
        connection.notify("n", {"data": bytes(20 << 20)})
    for connection in (other, another):
        connection.notify("n", {})
        assert not connection.closed
    assert [connection.closed for connection in greedy] == [True, True, True, False]
    assert server.untaken.bytes < 25 << 20


async def test_what_is_read_in_part_is_all_in_memory(
    client: Client, connection: Connection, server: Server
) -> None:
    size = 4 << 20
    connection.notify("n", {"data": bytes(size)})
    left = size
    while left > 1000:
        await trio.lowlevel.wait_readable(client.sock)
        left -= len(client.sock.recv(min(left - 1000, 65536)))
        await trio.testing.wait_all_tasks_blocked()
        if connection._buffered:
            assert server.untaken.bytes > size
    await trio.testing.wait_all_tasks_blocked()
    assert server.untaken.bytes == 0


async def test_slow_but_steady_readers_get_everything(
    client: Client, connection: Connection, autojump_clock: MockClock
) -> None:
    for number in range(150):
        connection.notify("n", {"number": number, "data": bytes(20_000)})
    for number in range(150):
        if number % 50 == 0:
            await trio.sleep(5)
        assert (await client.message())[2][0]["number"] == number


async def test_nothing_is_read_while_the_client_does_not(
    client: Client, connection: Connection, peer: Peer
) -> None:
    while connection._buffered <= 1 << 20:
        connection.notify("n", {"data": bytes(20_000)})
    request = client.encode(1, "server.health", {})
    with contextlib.suppress(BlockingIOError):
        for _ in range(100_000):
            client.send_bytes(request)
            await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(BlockingIOError):
        client.send_bytes(request)
    assert not connection.closed


async def test_descriptors(client: Client, peer: Peer) -> None:
    reader, writer = os.pipe()
    params = RUN | {"fds": {"stdin": 0, "stderr": 1}}
    msgid = client.send("job.run", params, [reader, writer])
    message = await peer.receive()
    assert message.fields["fd_mask"] == wire.FD_STDIN | wire.FD_STDERR
    os.write(message.fds[1], b"x")
    assert os.read(message.fds[0], 1) == b"x"
    peer.result(message.fields["job_id"])
    await client.answer(msgid)
    for fd in (reader, writer, *message.fds):
        os.close(fd)


async def test_descriptors_that_are_not_there(client: Client, peer: Peer) -> None:
    error = await client.refused("job.run", RUN | {"fds": {"stdin": 0}})
    assert (error["code"], error["data"]["field"]) == ("invalid_argument", "fds")


async def test_unwanted_descriptors_are_closed(client: Client, peer: Peer) -> None:
    await client.call("server.health")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        await client.call("server.health", {}, [client.sock.fileno()] * 3)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_more_descriptors_than_are_taken(client: Client) -> None:
    client.send("server.health", {}, [client.sock.fileno()] * 100)
    assert (await client.message())[1] == "error"
    assert await client.message() is None


async def test_a_mistake_of_ours_fails_one_request_or_one_connection(
    server: Server, client: Client, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setitem(server.methods, "job.run", mistake)
    error = await client.refused("job.run", RUN)
    assert (error["code"], "see its log" in error["message"]) == ("internal", True)
    await client.call("server.health")


# -- started jobs -----------------------------------------------------------------------------


async def test_start_and_wait(client: Client, peer: Peer) -> None:
    token = (await client.call("job.start", RUN))["job"]
    job_id = (await peer.receive()).fields["job_id"]
    wait = client.send("job.wait", {"job": token})
    peer.result(job_id, b"out")
    assert (await client.answer(wait))["stdout"] == b"out"
    assert (await client.refused("job.wait", {"job": token}))["code"] == "not_found"


async def test_wait_after_the_end(client: Client, peer: Peer) -> None:
    token = (await client.call("job.start", RUN))["job"]
    peer.result((await peer.receive()).fields["job_id"], exit_code=4)
    await trio.testing.wait_all_tasks_blocked()
    assert (await client.call("job.wait", {"job": token}))["exit_code"] == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_an_end_that_cannot_be_told(
    client: Client,
    connection: Connection,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
    stream: bool,
) -> None:
    """Its client waits for it and reads no more: the connection ends with the job."""
    token = (await client.call("job.start", RUN | {"stream": stream}))["job"]
    job_id = (await peer.receive()).fields["job_id"]
    client.send("job.wait", {"job": token})
    await trio.testing.wait_all_tasks_blocked()
    client.sock.shutdown(socket.SHUT_RD)
    peer.result(job_id)
    with trio.fail_after(DEADLINE_S):
        await connection.server.engine.wait_idle()
    await trio.testing.wait_all_tasks_blocked()
    assert connection.closed
    assert (connection.jobs._started, connection.jobs._ended) == ({}, {})
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_lost_job_that_cannot_be_told(client: Client, peer: Peer, connect: Connect) -> None:
    """The others the worker had are told, and the next worker serves."""
    token = (await client.call("job.start", RUN))["job"]
    client.send("job.wait", {"job": token})
    _, second = connect(ANYBODY.uid)
    msgid = second.send("job.run", RUN)
    for _ in range(2):
        await peer.receive()
    client.sock.shutdown(socket.SHUT_RD)
    peer.die()
    assert (await second.answer(msgid))["status"] == "internal_error"
    peer.start_worker()
    msgid = second.send("job.run", RUN)
    peer.result((await peer.receive()).fields["job_id"])
    assert (await second.answer(msgid))["status"] == "ok"


async def test_a_mistake_of_ours_spoils_one_lost_job(engine: Engine, peer: Peer) -> None:
    """Whatever it is about: the other is told, and the daemon lives."""

    def mistake(_: object) -> None:
        raise ZeroDivisionError

    outcomes: list[object] = []
    for done in (mistake, outcomes.append):
        job = engine.admit(spec("x"), 7)
        job.done = done
        engine.submit(job)
    peer.die()
    with trio.fail_after(DEADLINE_S):
        await engine.wait_idle()
    assert [getattr(outcome, "status", None) for outcome in outcomes] == ["internal_error"]


async def test_cancel(client: Client, peer: Peer) -> None:
    token = (await client.call("job.start", RUN))["job"]
    job_id = (await peer.receive()).fields["job_id"]
    wait = client.send("job.wait", {"job": token})
    assert await client.call("job.cancel", {"job": token}) == {}
    assert (await peer.receive()).kind == wire.MSG_KILL
    peer.result(job_id, reason=wire.REASON_CANCELLED)
    assert (await client.answer(wait))["status"] == "cancelled"


async def test_cancel_before_start(client: Client, peer: Peer) -> None:
    tokens = [(await client.call("job.start", RUN))["job"] for _ in range(3)]
    await client.call("job.cancel", {"job": tokens[2]})
    assert (await client.call("job.wait", {"job": tokens[2]}))["status"] == "cancelled"


async def test_signal(client: Client, peer: Peer) -> None:
    token = (await client.call("job.start", RUN))["job"]
    job_id = (await peer.receive()).fields["job_id"]
    for name, number in (("SIGINT", 2), ("INT", 2), (15, 15)):
        await client.call("job.signal", {"job": token, "signal": name})
        message = await peer.receive()
        assert message == (wire.MSG_SIGNAL, {"job_id": job_id, "value": number}, b"", [])
    for wrong in (0, 65, -1, "SIGNOPE", ""):
        error = await client.refused("job.signal", {"job": token, "signal": wrong})
        assert error["data"]["field"] == "signal"


async def test_tokens_are_worth_nothing_on_another_connection(
    client: Client, peer: Peer, connect: Connect
) -> None:
    token = (await client.call("job.start", RUN))["job"]
    _, stranger = connect(ANYBODY.uid)
    for method in ("job.wait", "job.cancel", "job.close_stdin"):
        assert (await stranger.refused(method, {"job": token}))["code"] == "not_found"


async def test_outcomes_nobody_fetches_are_not_kept_for_ever(
    client: Client, connection: Connection, peer: Peer
) -> None:
    for _ in range(40):
        await client.call("job.start", RUN)
        peer.result((await peer.receive()).fields["job_id"], bytes(60_000), bytes(5_000))
        await trio.testing.wait_all_tasks_blocked()
    connection.server.untaken.most = 65536
    await client.call("job.start", RUN)
    peer.result((await peer.receive()).fields["job_id"])
    await trio.testing.wait_all_tasks_blocked()
    assert len(connection.jobs._started) <= 4


# -- batch ------------------------------------------------------------------------------------


async def test_batch_keeps_the_order_and_outgrows_the_queue(client: Client, peer: Peer) -> None:
    count = 30
    msgid = client.send("job.batch", {"jobs": [RUN] * count})
    for number in range(count):
        peer.result((await peer.receive()).fields["job_id"], str(number).encode())
    results = (await client.answer(msgid))["results"]
    assert [result["stdout"] for result in results] == [b"%d" % number for number in range(count)]


async def test_one_mistake_spoils_one_job(client: Client, peer: Peer) -> None:
    jobs = [RUN, {"argv": []}, RUN, {"argv": ["x"], "fds": {"stdin": 0}}, 7]
    msgid = client.send("job.batch", {"jobs": jobs})
    for _ in range(2):
        peer.result((await peer.receive()).fields["job_id"])
    results = (await client.answer(msgid))["results"]
    assert [result.get("status") for result in results] == ["ok", None, "ok", None, None]
    assert results[1]["error"]["data"]["field"] == "jobs[1].argv"
    assert results[3]["error"]["data"]["field"] == "jobs[3].fds"


async def test_a_batch_waits_for_room_in_the_queue(
    client: Client, peer: Peer, nursery: trio.Nursery
) -> None:
    for _ in range(5):
        client.send("job.run", RUN)
    batch = client.send("job.batch", {"jobs": [RUN, RUN, RUN]})

    async def serve() -> None:
        for _ in range(8):
            peer.result((await peer.receive()).fields["job_id"])

    nursery.start_soon(serve)
    answers = {}
    for _ in range(6):
        _, msgid, _, result = await client.message()
        answers[msgid] = result
    assert [result["status"] for result in answers[batch]["results"]] == ["ok"] * 3


async def test_a_batch_that_finds_the_queue_full_is_busy(client: Client, peer: Peer) -> None:
    token = None
    for _ in range(6):
        token = (await client.call("job.start", RUN))["job"]
    assert token is not None
    assert (await client.refused("job.batch", {"jobs": [RUN]}))["code"] == "busy"


async def test_a_batch_has_a_largest_answer(client: Client, peer: Peer) -> None:
    msgid = client.send("job.batch", {"jobs": [RUN] * 3})
    for _ in range(3):
        peer.result((await peer.receive()).fields["job_id"], bytes(50_000))
    results = (await client.answer(msgid))["results"]
    assert [result.get("status") for result in results] == ["ok", "ok", None]
    assert results[2]["error"]["code"] == "limit_exceeded"


async def test_a_batch_dies_with_its_connection(
    client: Client, connection: Connection, peer: Peer
) -> None:
    client.send("job.batch", {"jobs": [RUN] * 10})
    ids = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    client.sock.close()
    for job_id in ids:
        assert (await peer.receive()).kind == wire.MSG_KILL
        peer.result(job_id, reason=wire.REASON_CANCELLED)
    await trio.testing.wait_all_tasks_blocked()
    assert peer.nothing_sent()
    assert connection.server.engine.scheduler.running == 0


# -- the server's own methods -----------------------------------------------------------------


async def test_info(client: Client, peer: Peer) -> None:
    info = await client.call("server.info")
    assert (info["name"], info["tenant"], info["cgroup"]) == ("sandboxd", 1000, 1)
    assert info["helper"] == {"abi": wire.ABI, "pid": 4711, "starts": 1}
    assert info["limits"]["memory_bytes"] == 512 << 20
    assert info["modes"] == ["recycled", "fresh"]


async def test_health_while_the_helper_is_down(client: Client, peer: Peer) -> None:
    assert (await client.call("server.health"))["status"] == "ok"
    peer.die()
    await trio.testing.wait_all_tasks_blocked()
    assert (await client.refused("server.health"))["code"] == "internal"


async def test_stats(client: Client, peer: Peer) -> None:
    msgid = client.send("server.stats")
    await peer.receive()
    peer.send(wire.STATS.pack(wire.MSG_STATS_IS, *range(1, 12)))
    stats = await client.answer(msgid)
    assert stats["queue"] == {"running": 0, "waiting": 0, "capacity": 4}
    assert (stats["slots"]["ready"], stats["connections"]) == (1, 1)


async def test_who_may_not_run_jobs_may_ask_how_things_are(
    client: Client, connection: Connection, peer: Peer
) -> None:
    connection.peer = Who(1001, can_run=False, can_admin=False)
    for method, params in (("job.run", RUN), ("job.start", RUN), ("job.batch", {"jobs": [RUN]}),
                           ("server.check", {})):  # fmt: skip
        assert (await client.refused(method, params))["code"] == "permission_denied"
    await client.call("server.health")
    await client.call("server.info")


async def test_no_new_jobs_while_stopping(server: Server, client: Client, peer: Peer) -> None:
    server.stopping = True
    assert (await client.refused("job.run", RUN))["code"] == "cancelled"


async def test_finish_waits_then_cancels_then_sees_answers_off(
    server: Server, client: Client, peer: Peer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    msgid = client.send("job.run", RUN)
    job_id = (await peer.receive()).fields["job_id"]
    nursery.start_soon(server.finish, 3.0)
    start = trio.current_time()
    assert (await peer.receive()).kind == wire.MSG_KILL
    assert trio.current_time() - start == pytest.approx(3, abs=0.2)
    peer.result(job_id, reason=wire.REASON_CANCELLED)
    assert (await client.answer(msgid))["status"] == "cancelled"


async def test_slow_requests_of_one_client_leave_others_their_turn(
    client: Client, server: Server, connection: Connection
) -> None:
    seen = []

    def slow(*_: object) -> object:
        begun = time.monotonic()
        while time.monotonic() < begun + 0.003:
            pass
        seen.append("slow")
        return {}

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            seen.append("other")

    server.methods["server.health"] = slow
    client.send_bytes(b"".join(client.encode(n, "server.health", {}) for n in range(6)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for n in range(6):
            await client.answer(n)
        nursery.cancel_scope.cancel()
    order = "".join(what[0] for what in seen)
    assert order.count("s") == 6
    assert "sss" not in order  # trio shuffles those whose turn it is.
