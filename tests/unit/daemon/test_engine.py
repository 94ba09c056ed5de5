"""The engine against a helper that the test plays: what is sent, what becomes of every end."""

import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from engine_peer import DEADLINE_S, PATIENT_NS, Peer, helper_result, spec, stage

from sandboxd.config import Config, Mount
from sandboxd.engine import payload, wire
from sandboxd.engine.aside import Closer
from sandboxd.engine.descriptors import close_all
from sandboxd.engine.job import Job, Outcome, Stdio
from sandboxd.engine.jobs import Engine
from sandboxd.engine.results import StageEnd
from sandboxd.engine.stages import StagedJob
from sandboxd.passed import PassedFds, stdio_from
from sandboxd.protocol import status
from sandboxd.protocol.errors import BUSY, INVALID_ARGUMENT, LIMIT_EXCEEDED, NOT_FOUND, RequestError
from sandboxd.protocol.jobs import InputFile, JobSpec
from sandboxd.protocol.models import FdIndices, Limits, Result


class Submitted:
    """A job on its way, and what came of it."""

    def __init__(
        self,
        engine: Engine,
        what: JobSpec,
        tenant: int = 7,
        stdio: Stdio | None = None,
        *,
        start: bool = True,
    ):
        self.outcomes: list[Outcome] = []
        self._ended = trio.Event()
        self.job: Job = engine.admit(what, tenant)
        if stdio is not None:
            self.job.stdio = stdio
        self.job.done = self._done
        if start:
            engine.submit(self.job)

    def _done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._ended.set()

    async def result(self) -> Result:
        with trio.fail_after(DEADLINE_S):
            await self._ended.wait()
        (outcome,) = self.outcomes
        assert isinstance(outcome, Result)
        return outcome


def passed_pipe() -> Stdio:
    """As a client passes it."""
    reader, writer = os.pipe()
    return Stdio(stdin=reader, stdout=writer, closer=Closer(), passed=(reader, writer))


async def test_a_job_is_sent_complete(engine: Engine, peer: Peer) -> None:
    limits = Limits(memory_bytes=1 << 20, processes=3)
    what = spec("prog", "arg", loopback=True, output=True, mode="fresh", files=(
        InputFile(b"in", 0o600, b"data"),
    ))  # fmt: skip
    what = JobSpec(**{name: getattr(what, name) for name in what.__struct_fields__} | {
        "run": stage("prog", "arg", env=(b"K=V",), cwd=b"/tmp", stdin=b"text", limits=limits),
    })  # fmt: skip
    Submitted(engine, what)
    message = await peer.receive()
    fields = message.fields
    assert fields["flags"] == wire.JOB_LOOPBACK | wire.JOB_ORDER
    assert (fields["tenant"], fields["mode"], fields["after"]) == (7, wire.MODE_FRESH, 0)
    assert (fields["memory_bytes"], fields["processes"]) == (1 << 20, 3)
    assert fields["cpu_time_ns"] == Config().limits.cpu_time_ns
    assert (fields["fd_mask"], message.fds) == (0, [])
    assert fields["blob_len"] == len(message.blob)
    assert message.blob == b"".join(
        wire.blob_parts((b"prog", b"arg"), (b"K=V",), b"/tmp", what.files, b"text")
    )


async def test_a_result_on_descriptor_3(engine: Engine, peer: Peer, open_descriptors: None) -> None:
    what = msgspec.structs.replace(spec("x"), result_bytes=4, partition=9, warm=True)
    submitted = Submitted(engine, what)
    message = await peer.receive()
    assert (message.fields["tenant"], message.fields["partition"]) == (7, 9)
    assert message.fields["flags"] == wire.JOB_WARM
    assert message.fields["fd_mask"] == wire.FD_RESULT
    (fd,) = message.fds
    os.write(fd, b"12345")
    os.close(fd)
    peer.result(message.fields["job_id"])
    result = await submitted.result()
    assert (result.result, result.result_truncated) == (b"1234", True)


async def test_the_configured_environment_is_the_default(engine: Engine, peer: Peer) -> None:
    Submitted(engine, spec("x"))
    assert b"PATH=/usr/local/bin:/usr/bin:/bin\0HOME=/work\0" in (await peer.receive()).blob


async def test_result_and_the_next_job(engine: Engine, peer: Peer) -> None:
    jobs = [Submitted(engine, spec("x")) for _ in range(4)]
    ids = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    assert peer.nothing_sent()
    peer.result(ids[1], b"second")
    assert (await jobs[1].result()).stdout == b"second"
    third = await peer.receive()
    assert third.fields["job_id"] not in ids
    peer.result(ids[0], b"first", b"error")
    result = await jobs[0].result()
    assert (result.stdout, result.stderr) == (b"first", b"error")


def _send_memory(peer: Peer, job_id: int, stdout: bytes, stderr: bytes, order: bytes = b"") -> None:
    """As the worker does with what does not fit into a message."""
    stride = 1 << 20
    fd = os.memfd_create("output")
    os.pwrite(fd, stdout, 0)
    os.pwrite(fd, stderr, stride)
    os.pwrite(fd, order, 2 * stride)
    values = {"flags": wire.RESULT_MEMFD, "stride": stride, "segments": len(order) // 4}
    peer.send(wire.RESULT.pack(*helper_result(job_id, stdout, stderr, **values)), (fd,))
    os.close(fd)


# One is read on the loop, the other in a thread.
@pytest.mark.parametrize("size", [100_000, 700_000])
@pytest.mark.usefixtures("open_descriptors")
async def test_a_large_output_comes_as_memory(engine: Engine, peer: Peer, size: int) -> None:
    job = Submitted(engine, JobSpec(run=stage("x"), output=True))
    stdout, stderr = os.urandom(size), os.urandom(size // 2)
    order = struct.pack("=III", 10, 0x80000000 | 5, size - 20)
    _send_memory(peer, (await peer.receive()).fields["job_id"], stdout, stderr, order)
    result = await job.result()
    assert (result.stdout, result.stderr) == (stdout, stderr)
    ordered = (stdout[:10], stderr[:5], stdout[10:-10], stdout[-10:], stderr[5:])
    assert result.output == b"".join(ordered)


@pytest.fixture
def slow_reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Large outputs are not read before it is set."""
    go, read = threading.Event(), payload.from_memory

    def from_memory(helper: wire.HelperResult, fd: int) -> StageEnd:
        assert go.wait(DEADLINE_S)
        return read(helper, fd)

    monkeypatch.setattr(payload, "from_memory", from_memory)
    yield go
    go.set()


async def test_a_large_output_survives_the_worker_that_sent_it(
    engine: Engine, peer: Peer, slow_reading: threading.Event
) -> None:
    """It is being read when the worker dies; the other job is lost."""
    large, lost = Submitted(engine, spec("x")), Submitted(engine, spec("x"))
    ids = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    data = os.urandom(1 << 20)
    _send_memory(peer, ids[0], data, b"")
    peer.die()
    assert (await lost.result()).status == status.INTERNAL_ERROR
    assert not large.outcomes
    slow_reading.set()
    assert (await large.result()).stdout == data
    assert not engine.expecting()


async def test_the_task_of_a_job_ends_while_its_output_is_read(
    engine: Engine, peer: Peer, slow_reading: threading.Event
) -> None:
    """With its connection. The helper does not know the job any more; its place is free then."""
    job = Submitted(engine, JobSpec(run=stage("x"), collect=(b"*",)), start=False)
    async with trio.open_nursery() as nursery:
        staged = StagedJob(engine, job.job, None)
        job.job.run_in_task = partial(nursery.start_soon, staged.run)
        engine.submit(job.job)
        _send_memory(peer, (await peer.receive()).fields["job_id"], bytes(1 << 20), b"")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert engine.expecting()
    slow_reading.set()
    await job.result()
    assert not engine.expecting()
    assert not engine.scheduler.running


async def test_large_outputs_are_read_one_after_the_other(
    engine: Engine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may be a large part of the memory there is; others have their turn in between."""
    read, reading = payload.from_memory, []

    def from_memory(helper: wire.HelperResult, fd: int) -> StageEnd:
        reading.append(sum(len(job.outcomes) for job in jobs))
        return read(helper, fd)

    monkeypatch.setattr(payload, "from_memory", from_memory)
    jobs = [Submitted(engine, spec("x")) for _ in range(2)]
    for job_id in [(await peer.receive()).fields["job_id"] for _ in jobs]:
        _send_memory(peer, job_id, bytes(1 << 20), b"")
    for job in jobs:
        await job.result()
    assert reading == [0, 1]


@pytest.mark.parametrize("config", [Config(jobs=2, helper_timeout_ns=PATIENT_NS)])
async def test_the_smallest_large_output_is_read_next(
    engine: Engine, peer: Peer, slow_reading: threading.Event
) -> None:
    jobs = [Submitted(engine, spec("x")) for _ in range(4)]
    order: list[int] = []
    for mib, job in zip((1, 4, 3, 2), jobs, strict=True):
        job.job.done = lambda outcome, job=job, mib=mib: (order.append(mib), job._done(outcome))
        _send_memory(peer, (await peer.receive()).fields["job_id"], bytes(mib << 20), b"")
        await trio.testing.wait_all_tasks_blocked()
    slow_reading.set()
    for job in jobs:
        await job.result()
    assert order == [1, 2, 3, 4]


@pytest.mark.usefixtures("open_descriptors")
async def test_a_large_output_where_there_is_no_thread(
    engine: Engine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", none)
    job = Submitted(engine, spec("x"))
    data = os.urandom(1 << 20)
    _send_memory(peer, (await peer.receive()).fields["job_id"], data, b"")
    assert (await job.result()).stdout == data


async def test_whatever_goes_wrong_with_a_large_output_ends_its_job(
    engine: Engine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "in_order", lambda end: 1 // 0)
    job = Submitted(engine, spec("x"))
    job_id = (await peer.receive()).fields["job_id"]
    _send_memory(peer, job_id, bytes(1 << 20), b"", struct.pack("=I", 10))
    assert (await job.result()).status == status.INTERNAL_ERROR
    assert not engine.expecting()


async def test_memory_that_is_too_short_is_one_jobs_error(engine: Engine, peer: Peer) -> None:
    for size in (100_000, 700_000):
        job = Submitted(engine, spec("x"))
        job_id = (await peer.receive()).fields["job_id"]
        fd = os.memfd_create("output")
        values = {"flags": wire.RESULT_MEMFD, "stdout_len": size, "stride": 1 << 20}
        peer.send(wire.RESULT.pack(*helper_result(job_id, **values)), (fd,))
        os.close(fd)
        assert (await job.result()).status == status.INTERNAL_ERROR
    assert engine.link.up


@pytest.mark.usefixtures("open_descriptors")
async def test_large_input_and_blob_go_as_sealed_memory(engine: Engine, peer: Peer) -> None:
    data = os.urandom(100_000)
    what = JobSpec(run=stage("x", stdin=data), files=(InputFile(b"f", 0o644, data),))
    Submitted(engine, what)
    message = await peer.receive()
    assert message.fields["fd_mask"] == wire.FD_BLOB | wire.FD_STDIN
    assert (message.blob, message.fields["blob_len"]) == (b"", 0)
    blob, stdin = message.fds
    assert os.read(stdin, 200_000) == data
    env = tuple(f"{k}={v}".encode() for k, v in Config().env.items())
    assert os.read(blob, 200_000) == b"".join(wire.blob_parts((b"x",), env, b"", what.files))
    os.close(blob)
    os.close(stdin)


@pytest.mark.usefixtures("open_descriptors")
async def test_passed_descriptors_are_sent_in_order_and_closed(engine: Engine, peer: Peer) -> None:
    reader, writer = os.pipe()
    Submitted(engine, spec("x"), stdio=Stdio(stdin=reader, stderr=writer))
    message = await peer.receive()
    assert message.fields["fd_mask"] == wire.FD_STDIN | wire.FD_STDERR
    os.write(message.fds[1], b"through")
    assert os.read(message.fds[0], 10) == b"through"
    for fd in message.fds:
        os.close(fd)


@pytest.mark.usefixtures("open_descriptors")
@pytest.mark.parametrize("end", ["result", "cancelled", "lost"])
async def test_what_clients_passed_is_kept_until_the_end(
    engine: Engine, peer: Peer, end: str
) -> None:
    """So that the last of it is closed here, where it is counted, and not by the helper."""
    job = Submitted(engine, spec("x"), stdio=(stdio := passed_pipe()))
    message = await peer.receive()
    close_all(message.fds)
    await trio.testing.wait_all_tasks_blocked()
    reader, writer = stdio.passed
    os.write(writer, b"still")
    assert os.read(reader, 10) == b"still"
    if end == "lost":
        peer.die()
    else:
        if end == "cancelled":
            engine.cancel(job.job, "test")
            await peer.receive()
        peer.result(message.fields["job_id"])
    await job.result()


@pytest.mark.usefixtures("open_descriptors")
@pytest.mark.parametrize("end", ["gone", "lost"])
async def test_who_keeps_a_program_from_ending_passes_nothing_more(
    engine: Engine, peer: Peer, end: str
) -> None:
    passed = PassedFds()
    job = Submitted(engine, spec("x"), stdio=replace(passed_pipe(), closer=passed.closer))
    message = await peer.receive()
    close_all(message.fds)
    assert message.fields["flags"] & wire.JOB_PASSED
    job_id = message.fields["job_id"]
    peer.result(job_id, reason=wire.REASON_WALL_TIME, flags=wire.RESULT_LOST)
    result = await job.result()
    assert result.status == "wall_time_limit"
    assert "does not end" in result.message
    assert result.stdout_truncated
    assert result.stderr_truncated
    passed.received([os.open(os.devnull, os.O_RDONLY)])
    with pytest.raises(RequestError, match="waits in the kernel") as caught:
        stdio_from(passed, FdIndices(stdin=0))
    assert caught.value.code == BUSY
    if end == "lost":
        peer.die()
    else:
        peer.send(wire.CONTROL.pack(wire.MSG_GONE, 0, job_id))
    await trio.testing.wait_all_tasks_blocked()
    stdio_from(passed, FdIndices(stdin=0)).close()


@pytest.mark.usefixtures("open_descriptors")
async def test_what_clients_passed_to_jobs_that_are_never_sent(engine: Engine, peer: Peer) -> None:
    jobs = [Submitted(engine, spec("x"), stdio=passed_pipe()) for _ in range(3)]
    engine.cancel(jobs[2].job, "test")
    for _ in range(2):
        close_all((await peer.receive()).fds)
    peer.die()
    for job in jobs:
        await job.result()


@pytest.mark.usefixtures("open_descriptors")
async def test_what_clients_passed_to_a_job_that_the_kernel_does_not_take(
    engine: Engine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "INLINE_BLOB", 1 << 30)
    what = JobSpec(run=stage("x"), files=(InputFile(b"f", 0o644, bytes(8 << 20)),))
    job = Submitted(engine, what, stdio=passed_pipe())
    assert (await job.result()).message.startswith("the job could not be started: Message too long")


@pytest.mark.usefixtures("open_descriptors")
async def test_descriptors_of_a_refused_job_are_closed(engine: Engine, peer: Peer) -> None:
    for _ in range(8):
        Submitted(engine, spec("x"))
    with pytest.raises(RequestError) as caught:
        Submitted(engine, spec("x"), stdio=Stdio(stdin=os.open(os.devnull, os.O_RDONLY)))
    assert caught.value.code == BUSY


async def test_an_environment_that_goes_before_the_job_is_submitted(
    engine: Engine, peer: Peer
) -> None:
    engine.roots.add("e", os.open("/", os.O_PATH))
    job = engine.admit(spec("x", environment="e"), 7)
    engine.roots.remove("e")
    with pytest.raises(RequestError) as caught:
        engine.submit(job)
    assert caught.value.code == NOT_FOUND
    assert not engine.scheduler.running


async def test_cancel_while_it_waits(engine: Engine, peer: Peer) -> None:
    running = [Submitted(engine, spec("x")) for _ in range(2)]
    waiting = Submitted(engine, spec("x"))
    engine.cancel(waiting.job, "test")
    engine.cancel(waiting.job, "test")
    assert (await waiting.result()).status == "cancelled"
    assert len(waiting.outcomes) == 1
    ids = [(await peer.receive()).fields["job_id"] for _ in running]
    for job_id in ids:
        peer.result(job_id)
    assert (await running[1].result()).status == "ok"
    assert peer.nothing_sent()


async def test_cancel_while_it_runs(engine: Engine, peer: Peer) -> None:
    job = Submitted(engine, spec("x"))
    job_id = (await peer.receive()).fields["job_id"]
    engine.cancel(job.job, "test")
    kill = await peer.receive()
    assert kill.kind == wire.MSG_KILL
    assert kill.fields == {"job_id": job_id, "value": wire.REASON_CANCELLED}
    assert job.outcomes == []
    peer.result(job_id, reason=wire.REASON_CANCELLED)
    assert (await job.result()).status == "cancelled"
    engine.cancel(job.job, "once more")
    assert peer.nothing_sent()


async def test_cancel_that_comes_too_late_changes_nothing(engine: Engine, peer: Peer) -> None:
    job = Submitted(engine, spec("x"))
    job_id = (await peer.receive()).fields["job_id"]
    engine.cancel(job.job, "test")
    peer.result(job_id)  # It had ended before the helper saw the message.
    assert (await job.result()).status == "ok"


async def test_abandoned_jobs_free_their_place(engine: Engine, peer: Peer) -> None:
    first, second, third = (Submitted(engine, spec("x")) for _ in range(3))
    ids = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    engine.abandon(first.job)
    await peer.receive()
    peer.result(ids[0], reason=wire.REASON_CANCELLED)
    assert (await peer.receive()).kind == wire.MSG_JOB
    assert first.outcomes == []
    assert engine.scheduler.running == 2
    assert second.outcomes == third.outcomes == []


async def test_a_dead_worker_takes_its_jobs_and_no_others(engine: Engine, peer: Peer) -> None:
    jobs = [Submitted(engine, spec("x")) for _ in range(4)]
    for _ in range(2):
        await peer.receive()
    peer.die()
    for job in jobs[:2]:
        result = await job.result()
        assert result.status == "internal_error"
        assert "the helper died" in result.message
    assert not engine.link.up
    assert engine.scheduler.waiting == 2
    peer.start_worker()
    for job in jobs[2:]:
        peer.result((await peer.receive()).fields["job_id"])
        assert (await job.result()).status == "ok"
    assert engine.link.starts == 2


async def test_the_end_of_a_job_nobody_knows_is_ignored(engine: Engine, peer: Peer) -> None:
    peer.result(12345)
    job = Submitted(engine, spec("x"))
    peer.result((await peer.receive()).fields["job_id"])
    assert (await job.result()).status == "ok"


async def test_wait_idle(engine: Engine, peer: Peer, nursery: trio.Nursery) -> None:
    await engine.wait_idle()
    job = Submitted(engine, spec("x"))
    job_id = (await peer.receive()).fields["job_id"]
    done = trio.Event()

    async def wait() -> None:
        await engine.wait_idle()
        done.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not done.is_set()
    peer.result(job_id)
    await job.result()
    with trio.fail_after(DEADLINE_S):
        await done.wait()


async def test_statuses_are_counted(engine: Engine, peer: Peer) -> None:
    for fields in ({}, {"exit_code": 1}, {}):
        job = Submitted(engine, spec("x"))
        peer.result((await peer.receive()).fields["job_id"], **fields)
        await job.result()
    assert engine.counts == {"ok": 2, "nonzero_exit": 1}


# -- admission ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        (spec("x", mounts=("nope",)), INVALID_ARGUMENT, "'nope' is not configured; there is: none"),
        (JobSpec(run=stage("x", limits=Limits(processes=5000))), LIMIT_EXCEEDED,
         "limits.processes"),
        (JobSpec(run=stage("x", limits=Limits(open_files=2))), INVALID_ARGUMENT,
         "limits.open_files: must be 3 at least"),
        (spec("x", compile=stage("c", limits=Limits(memory_bytes=1 << 60))), LIMIT_EXCEEDED,
         "compile.limits.memory_bytes"),
        (spec("x", collect=(b"*",), collect_bytes=1 << 40), LIMIT_EXCEEDED, "collect_bytes"),
        (JobSpec(run=stage("x", limits=Limits(file_size_bytes=3)),
                 files=(InputFile(b"f", 0o644, b"four"),)), LIMIT_EXCEEDED, "files['f']"),
        (JobSpec(run=stage("x", limits=Limits(disk_bytes=7)),
                 files=(InputFile(b"f", 0o644, b"four"), InputFile(b"g", 0o644, b"four"))),
         LIMIT_EXCEEDED, "files: 8 bytes"),
        (JobSpec(run=stage("x", limits=Limits(disk_inodes=1)),
                 files=(InputFile(b"f", 0o644, b""), InputFile(b"g", 0o644, b""))),
         LIMIT_EXCEEDED, "disk_inodes"),
    ],
)  # fmt: skip
async def test_what_the_configuration_forbids(
    engine: Engine, what: JobSpec, code: str, words: str
) -> None:
    with pytest.raises(RequestError) as caught:
        engine.admit(what, 0)
    assert caught.value.code == code
    assert words in str(caught.value)


async def test_fields_of_a_batch_are_named_with_their_place(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"^jobs\[3\]\.limits\.processes: "):
        engine.admit(JobSpec(run=stage("x", limits=Limits(processes=5000))), 0, "jobs[3]")


@pytest.fixture
def mounted(config: Config) -> Config:
    mounts = {name: Mount("/usr", f"/{name}") for name in ("a", "b", "c")}
    return msgspec.structs.replace(config, mounts=mounts)


async def test_mounts_become_bits(mounted: Config, keeper: Any) -> None:
    engine = Engine(mounted, keeper[0])
    assert engine.admit(spec("x", mounts=("c", "a")), 0).mounts == 0b101


async def test_the_mode_of_the_request_wins(config: Config, keeper: Any) -> None:
    engine = Engine(msgspec.structs.replace(config, mode="fresh"), keeper[0])
    assert engine.admit(spec("x"), 0).mode == wire.MODE_FRESH
    assert engine.admit(spec("x", mode="recycled"), 0).mode == wire.MODE_RECYCLED
