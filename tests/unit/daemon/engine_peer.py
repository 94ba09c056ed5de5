"""The helper's side of the link, played by a test; and short ways to make specs and results."""

import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

from sandboxd.engine import wire
from sandboxd.engine.descriptors import ancillary_space, received, rights
from sandboxd.engine.results import StageEnd
from sandboxd.protocol.jobs import JobSpec, Stage

DEADLINE_S = 5.0
# For helper_timeout_ns: a worker played by a test answers nothing but jobs.
PATIENT_NS = 3600 * 10**9


async def until(condition: Callable[[], object]) -> None:
    """For what threads do: nothing in trio knows when they are done."""
    with trio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(0.001)


class Message(NamedTuple):
    """What the engine sent."""

    kind: int
    fields: dict[str, int]
    blob: bytes
    fds: list[int]


_JOB_FIELDS = (
    "kind", "flags", "job_id", "after", "tenant", "partition", "mode", "mounts", "fd_mask",
    "blob_len", "root", "umask", "next_memory", *wire.LIMIT_NAMES, "reserved_limit",
)  # fmt: skip


class Peer:
    """The helper's side of the link."""

    def __init__(self, ctl: socket.socket) -> None:
        ctl.setblocking(False)
        self.ctl = ctl
        self.work: socket.socket | None = None
        self._starts = 0

    def start_worker(self, *, abi: int = wire.ABI, hello: bool = True) -> None:
        """As the keeper does: a new socket for the daemon, and the worker's first words."""
        theirs, self.work = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.work.setblocking(False)
        self._starts += 1
        with theirs:
            self.ctl.sendmsg([struct.pack("=I", self._starts)], rights([theirs.fileno()]))
        if hello:
            self.send(wire.HELLO.pack(wire.MSG_HELLO, abi, 2, 1, 1, 4711))

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        assert self.work is not None
        if fds:
            self.work.sendmsg([data], rights(fds))
        else:
            self.work.send(data)

    async def receive(self) -> Message:
        assert self.work is not None
        with trio.fail_after(DEADLINE_S):
            await trio.lowlevel.wait_readable(self.work)
        data, ancillary, _, _ = self.work.recvmsg(200_000, ancillary_space(4))
        kind = struct.unpack_from("=I", data)[0]
        if kind != wire.MSG_JOB:
            _, value, job_id = wire.CONTROL.unpack(data)
            return Message(kind, {"value": value, "job_id": job_id}, b"", [])
        fields = dict(zip(_JOB_FIELDS, wire.JOB.unpack_from(data), strict=True))
        return Message(kind, fields, data[wire.JOB.size :], received(ancillary))

    def nothing_sent(self) -> bool:
        assert self.work is not None
        try:
            self.work.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    def result(self, job_id: int, stdout: bytes = b"", stderr: bytes = b"", **fields: int) -> None:
        """Report a job's end; plain success unless ``fields`` say otherwise."""
        self.send(
            wire.RESULT.pack(*helper_result(job_id, stdout, stderr, **fields)) + stdout + stderr
        )

    def die(self) -> None:
        """The worker's end of the socket is closed, as by its death."""
        assert self.work is not None
        self.work.close()
        self.work = None

    def close(self) -> None:
        if self.work is not None:
            self.work.close()


def helper_result(
    job_id: int, stdout: bytes = b"", stderr: bytes = b"", **fields: int
) -> wire.HelperResult:
    plain = wire.HelperResult(
        type=wire.MSG_RESULT, reason=wire.REASON_EXITED, job_id=job_id, cpu_time_ns=1000,
        wall_time_ns=2000, memory_bytes=4096, memory_peak_bytes=8192, stdout_len=len(stdout),
        stderr_len=len(stderr), stride=0, exit_code=0, signal=0, step=0, error=0, flags=0,
        memory_source=wire.MEMORY_V1_MAX, segments=0, process_limit_hits=0,
    )  # fmt: skip
    return plain._replace(**fields)


def stage_end(**fields: Any) -> StageEnd:
    stdout, stderr = fields.pop("stdout", b""), fields.pop("stderr", b"")
    segments = fields.pop("segments_data", b"")
    return StageEnd(helper_result(1, stdout, stderr, **fields), stdout, stderr, segments)


def stage(*argv: str, **fields: Any) -> Stage:
    values = {"env": None, "cwd": b"", "stdin": b"", "limits": None} | fields
    return Stage(argv=tuple(part.encode() for part in argv), **values)


def spec(*argv: str, **fields: Any) -> JobSpec:
    return JobSpec(run=stage(*(argv or ("true",))), **fields)
