"""Jobs of several steps: the slot is held, handed on and given up in every way they can end."""

import errno
import os

import pytest
import trio.testing
from engine_peer import Message, Peer
from rpc_client import Client
from test_collect import END, entry

from sandboxd.connection import Connection
from sandboxd.engine import wire
from sandboxd.engine.jobs import Engine

TWO = {"argv": ["run"], "compile": {"argv": ["compile"]}, "files": {"a.c": "x"}}


async def stage(peer: Peer) -> tuple[int, Message]:
    message = await peer.receive()
    assert message.kind == wire.MSG_JOB
    return message.fields["job_id"], message


async def test_compile_then_run_in_the_same_slot(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", TWO)
    first, message = await stage(peer)
    assert message.fields["flags"] & wire.JOB_HOLD
    assert b"a.c\0x" in message.blob
    peer.result(first, b"compiled", flags=wire.RESULT_HELD)
    second, message = await stage(peer)
    assert message.fields["after"] == first
    assert not message.fields["flags"] & wire.JOB_HOLD
    assert b"a.c" not in message.blob
    peer.result(second, b"ran")
    result = await client.answer(msgid)
    assert (result["compile"]["stdout"], result["run"]["stdout"]) == (b"compiled", b"ran")
    assert peer.nothing_sent()


async def test_no_run_after_a_failed_compile_and_the_slot_is_released(
    client: Client, peer: Peer
) -> None:
    msgid = client.send("job.run", TWO)
    first, _ = await stage(peer)
    peer.result(first, exit_code=1, flags=wire.RESULT_HELD)
    result = await client.answer(msgid)
    assert (result["compile"]["status"], result["run"]) == ("nonzero_exit", None)
    release = await peer.receive()
    assert (release.kind, release.fields["job_id"]) == (wire.MSG_RELEASE, first)


async def test_a_killed_compile_holds_nothing(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", TWO)
    first, _ = await stage(peer)
    peer.result(first, reason=wire.REASON_WALL_TIME)
    assert (await client.answer(msgid))["compile"]["status"] == "wall_time_limit"
    assert peer.nothing_sent()


async def collecting(
    client: Client, peer: Peer, *, code: int = 2, **fields: object
) -> tuple[int, int, Message]:
    """A job that has run and whose files are being collected: msgid, id, message."""
    msgid = client.send("job.run", {"argv": ["x"], "collect": ["*.txt", "d/**"]} | fields)
    first, message = await stage(peer)
    assert message.fields["flags"] & wire.JOB_HOLD
    peer.result(first, b"out", exit_code=code, flags=wire.RESULT_HELD)
    job_id, message = await stage(peer)
    assert message.fields["after"] == first
    assert message.fields["flags"] & wire.JOB_COLLECT
    assert message.fields["fd_mask"] == wire.FD_STDOUT
    assert message.blob == b"".join(wire.blob_parts((b"*.txt", b"d/**")))
    return msgid, job_id, message


async def test_collected_files(client: Client, peer: Peer) -> None:
    msgid, job_id, message = await collecting(client, peer)
    os.write(message.fds[0], entry(b"a.txt", b"A") + entry(b"d/\xff", b"B") + END)
    os.close(message.fds[0])
    peer.result(job_id)
    result = await client.answer(msgid)
    assert (result["status"], result["exit_code"], result["stdout"]) == ("nonzero_exit", 2, b"out")
    assert result["files"] == {"a.txt": b"A", b"d/\xff": b"B"}
    assert result["files_truncated"] is False
    assert peer.nothing_sent()


async def test_a_large_collection(client: Client, peer: Peer) -> None:
    msgid, job_id, message = await collecting(client, peer, collect_bytes=4 << 20)
    data = os.urandom(3 << 20)
    stream = entry(b"a.txt", data) + END
    assert os.write(message.fds[0], stream) == len(stream)
    os.close(message.fds[0])
    peer.result(job_id)
    assert (await client.answer(msgid))["files"] == {"a.txt": data}


async def test_a_collector_that_was_killed(client: Client, peer: Peer) -> None:
    msgid, job_id, message = await collecting(client, peer)
    os.close(message.fds[0])
    peer.result(job_id, reason=wire.REASON_CPU_TIME)
    result = await client.answer(msgid)
    assert (result["files"], result["files_truncated"]) == ({}, True)
    assert result["status"] == "nonzero_exit"


async def test_a_killed_program_leaves_no_files(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", {"argv": ["x"], "collect": ["*"]})
    first, _ = await stage(peer)
    peer.result(first, reason=wire.REASON_MEMORY)
    result = await client.answer(msgid)
    assert (result["status"], result["files"]) == ("memory_limit", {})
    assert result["files_truncated"] is True


async def test_files_of_a_compile_that_failed_are_collected(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", TWO | {"collect": ["*"]})
    first, _ = await stage(peer)
    peer.result(first, exit_code=1, flags=wire.RESULT_HELD)
    job_id, message = await stage(peer)
    os.write(message.fds[0], entry(b"log", b"L") + END)
    os.close(message.fds[0])
    peer.result(job_id)
    result = await client.answer(msgid)
    assert (result["compile"]["files"], result["run"]) == ({"log": b"L"}, None)


async def test_cancelled_between_the_stages(client: Client, peer: Peer) -> None:
    token = (await client.call("job.start", TWO))["job"]
    first, _ = await stage(peer)
    await client.call("job.cancel", {"job": token})
    assert (await peer.receive()).kind == wire.MSG_KILL
    peer.result(first, flags=wire.RESULT_HELD)  # It had ended just before.
    result = await client.call("job.wait", {"job": token})
    assert (result["compile"]["status"], result["run"]["status"]) == ("ok", "cancelled")
    assert (await peer.receive()).kind == wire.MSG_RELEASE


async def test_stopped_as_the_first_stage_ends(
    client: Client, peer: Peer, engine: Engine, connection: Connection
) -> None:
    """The kill comes too late for it, and the second stage is not to run for that."""
    token = (await client.call("job.start", TWO))["job"]
    first, _ = await stage(peer)
    engine.stop(connection.jobs.find(token).job)
    assert (await peer.receive()).kind == wire.MSG_KILL
    peer.result(first, flags=wire.RESULT_HELD)
    result = await client.call("job.wait", {"job": token})
    assert (result["compile"]["status"], result["run"]["status"]) == ("ok", "cancelled")
    await released(peer, first)


async def released(peer: Peer, job_id: int) -> None:
    release = await peer.receive()
    assert (release.kind, release.fields["job_id"]) == (wire.MSG_RELEASE, job_id)


async def test_a_second_stage_cancelled_before_it_has_its_slot(client: Client, peer: Peer) -> None:
    """The helper had not started it, so the slot of the first stage is held still."""
    token = (await client.call("job.start", TWO))["job"]
    first, _ = await stage(peer)
    peer.result(first, flags=wire.RESULT_HELD)
    second, _ = await stage(peer)
    await client.call("job.cancel", {"job": token})
    assert (await peer.receive()).kind == wire.MSG_KILL
    peer.result(second, reason=wire.REASON_CANCELLED)
    assert (await client.call("job.wait", {"job": token}))["run"]["status"] == "cancelled"
    await released(peer, first)


async def test_the_client_goes_before_the_second_stage_has_its_slot(
    client: Client, peer: Peer
) -> None:
    client.send("job.run", TWO)
    first, _ = await stage(peer)
    peer.result(first, flags=wire.RESULT_HELD)
    second, _ = await stage(peer)
    client.sock.close()
    assert (await peer.receive()).kind == wire.MSG_KILL
    peer.result(second, reason=wire.REASON_CANCELLED)
    await released(peer, first)


async def test_a_second_stage_that_could_not_be_sent(
    client: Client, engine: Engine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    msgid = client.send("job.run", TWO)
    first, _ = await stage(peer)
    launch = engine.launch

    def fail(*args: object, **fields: object) -> int:
        monkeypatch.setattr(engine, "launch", launch)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(engine, "launch", fail)
    peer.result(first, flags=wire.RESULT_HELD)
    await released(peer, first)
    result = await client.answer(msgid)
    assert result["compile"]["status"] == "ok"
    assert "Too many open files" in result["run"]["message"]


async def test_a_collector_that_could_not_be_sent(
    client: Client, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("sandboxd.engine.stages.open_memfd", fail)
    msgid = client.send("job.run", {"argv": ["x"], "collect": ["*"]})
    first, _ = await stage(peer)
    peer.result(first, b"out", flags=wire.RESULT_HELD)
    await released(peer, first)
    result = await client.answer(msgid)
    assert (result["status"], result["stdout"]) == ("internal_error", b"out")
    assert (result["files"], result["files_truncated"]) == ({}, True)


async def test_files_are_collected_though_the_job_is_stopped_meanwhile(
    client: Client, peer: Peer, connection: Connection, engine: Engine
) -> None:
    msgid, job_id, message = await collecting(client, peer, code=0)
    (job,) = connection.jobs.live
    engine.stop(job)
    assert peer.nothing_sent()
    os.write(message.fds[0], entry(b"a", b"x") + END)
    os.close(message.fds[0])
    peer.result(job_id)
    result = await client.answer(msgid)
    assert (result["status"], result["files"]) == ("ok", {"a": b"x"})


@pytest.mark.parametrize("how", ["worker", "sandbox"])
async def test_files_that_are_lost_are_not_left_out(client: Client, peer: Peer, how: str) -> None:
    """Something died between the program and its files: it is not as if it had left none."""
    msgid, job_id, message = await collecting(client, peer, code=0)
    os.close(message.fds[0])
    if how == "worker":
        peer.die()
    else:
        peer.result(job_id, reason=wire.REASON_HELPER)
    result = await client.answer(msgid)
    assert (result["status"], result["exit_code"]) == ("internal_error", None)
    assert "run it again" in result["message"]
    assert (result["files"], result["files_truncated"]) == ({}, True)


async def test_a_job_of_two_stages_that_never_starts_has_the_shape_of_one(
    client: Client, peer: Peer
) -> None:
    for _ in range(2):
        await client.call("job.start", {"argv": ["x"]})
    token = (await client.call("job.start", TWO))["job"]
    await client.call("job.cancel", {"job": token})
    result = await client.call("job.wait", {"job": token})
    assert (result["compile"]["status"], result["run"]) == ("cancelled", None)


async def test_the_helper_dies_in_the_second_stage(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", TWO)
    first, _ = await stage(peer)
    peer.result(first, flags=wire.RESULT_HELD)
    await stage(peer)
    peer.die()
    result = await client.answer(msgid)
    assert (result["compile"]["status"], result["run"]["status"]) == ("ok", "internal_error")


async def test_the_helper_dies_between_the_stages(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", TWO)
    first, _ = await stage(peer)
    peer.result(first, flags=wire.RESULT_HELD)
    peer.die()
    result = await client.answer(msgid)
    statuses = [result.get("status"), (result.get("run") or {}).get("status")]
    assert "internal_error" in statuses


async def test_the_client_goes_in_each_stage(client: Client, peer: Peer) -> None:
    client.send("job.run", TWO | {"collect": ["*"]})
    first, _ = await stage(peer)
    client.sock.close()
    assert (await peer.receive()).kind == wire.MSG_KILL
    peer.result(first, flags=wire.RESULT_HELD)
    assert (await peer.receive()) == (wire.MSG_RELEASE, {"job_id": first, "value": 0}, b"", [])
    await trio.testing.wait_all_tasks_blocked()
    assert peer.nothing_sent()


async def test_input_files_that_do_not_fit(client: Client, peer: Peer) -> None:
    msgid = client.send("job.run", TWO)
    first, _ = await stage(peer)
    peer.result(first, reason=wire.REASON_SETUP, step=wire.STEP_FILE, error=errno.ENOSPC)
    assert (await client.error(msgid))["code"] == "limit_exceeded"


async def test_the_place_is_kept_between_stages(client: Client, peer: Peer) -> None:
    staged = client.send("job.run", TWO)
    first, _ = await stage(peer)
    plain = client.send("job.run", {"argv": ["x"]})
    other, _ = await stage(peer)
    waiting = client.send("job.run", {"argv": ["x"]})
    peer.result(first, flags=wire.RESULT_HELD)
    second, message = await stage(peer)
    assert message.fields["after"] == first
    peer.result(second)
    await client.answer(staged)
    third, _ = await stage(peer)
    peer.result(other)
    await client.answer(plain)
    peer.result(third)
    await client.answer(waiting)
