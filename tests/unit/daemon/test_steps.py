"""Several programs as one run stage: limits that are left, results that add up."""

import os

import msgspec
import pytest
from engine_peer import stage

from sandboxd.engine import steps
from sandboxd.engine.job import NO_STDIO, Stdio
from sandboxd.engine.steps import Streams, Total
from sandboxd.protocol import status
from sandboxd.protocol.jobs import Step
from sandboxd.protocol.limits import JobLimits
from sandboxd.protocol.models import Result

MS = 1_000_000
LIMITS = JobLimits(
    cpu_time_ns=1000 * MS, wall_time_ns=2000 * MS, memory_bytes=64 << 20, output_bytes=10,
    file_size_bytes=1, disk_bytes=1, stack_bytes=1, disk_inodes=1, processes=8, open_files=16,
)  # fmt: skip
OWN = Step((b"own",), 0o077, guest=False)
GUEST = Step((b"guest",), 0, guest=True)


def ended(kind: str = status.OK, code: int | None = 0, **fields: object) -> Result:
    result = Result(kind, code, cpu_time_ns=300 * MS, wall_time_ns=500 * MS, memory_bytes=5)
    return msgspec.structs.replace(result, **fields)


def test_time_is_shared() -> None:
    total = Total(LIMITS)
    assert total.left() == LIMITS
    assert total.add(OWN, ended())
    assert total.add(GUEST, ended(memory_bytes=9))
    left = total.left()
    assert (left.cpu_time_ns, left.wall_time_ns) == (400 * MS, 1000 * MS)
    assert left.memory_bytes == LIMITS.memory_bytes
    result = total.result
    assert (result.status, result.exit_code, result.memory_bytes) == (status.OK, 0, 9)
    assert (result.cpu_time_ns, result.wall_time_ns) == (600 * MS, 1000 * MS)


def test_nothing_left_is_no_unlimited_time() -> None:
    total = Total(LIMITS)
    total.add(OWN, ended(cpu_time_ns=5000 * MS, wall_time_ns=5000 * MS))
    assert (total.left().cpu_time_ns, total.left().wall_time_ns) == (1, 1)


def test_a_failure_ends_it_only_where_it_is_trusted() -> None:
    total = Total(LIMITS)
    assert total.add(GUEST, ended(status.NONZERO_EXIT, 5, message="code 5"))
    assert total.add(GUEST, ended(status.SIGNALED, None, signal=9))
    assert (total.result.status, total.result.exit_code, total.result.message) == ("ok", 0, "")
    assert not total.add(OWN, ended(status.NONZERO_EXIT, 3, message="code 3"))
    assert (total.result.status, total.result.exit_code) == (status.NONZERO_EXIT, 3)
    assert total.result.message == "code 3"


@pytest.mark.parametrize("step", [OWN, GUEST])
def test_a_limit_ends_it_whoever_reaches_it(step: Step) -> None:
    total = Total(LIMITS)
    assert total.add(OWN, ended())
    message = "the program ran longer than its limit of 1.5 s"  # of what was left
    assert not total.add(step, ended(status.WALL_TIME_LIMIT, None, message=message))
    assert total.result.status == status.WALL_TIME_LIMIT
    assert total.result.message == "the program ran longer than its limit of 2 s"
    total = Total(LIMITS)
    assert not total.add(step, ended(status.INTERNAL_ERROR, None, message="lost"))
    assert (total.result.status, total.result.message) == (status.INTERNAL_ERROR, "lost")


def test_output_is_that_of_all_up_to_the_limit() -> None:
    total = Total(LIMITS)
    assert total.add(OWN, ended(stdout=b"12345678", stderr=b"e", output=b"e12345678"))
    assert not total.add(OWN, ended(stdout=b"9abc", stderr=b"f", output=b"9fabc"))
    result = total.result
    assert (result.status, result.exit_code) == (status.OUTPUT_LIMIT, None)
    assert (result.stdout, result.stderr) == (b"123456789a", b"ef")
    assert (result.stdout_truncated, result.stderr_truncated) == (True, False)
    assert result.output == b"e123456789fa"


def test_exactly_the_limit_is_not_too_much() -> None:
    total = Total(LIMITS)
    assert total.add(OWN, ended(stdout=b"12345"))
    assert total.add(OWN, ended(stdout=b"67890"))
    assert (total.result.stdout, total.result.stdout_truncated) == (b"1234567890", False)
    assert total.result.output is msgspec.UNSET


def test_a_sandbox_that_was_lost() -> None:
    total = Total(LIMITS)
    total.add(OWN, ended(stdout=b"x"))
    result = total.stop(ended(status.NONZERO_EXIT, 126, message="cannot be entered"))
    assert (result.status, result.exit_code, result.stdout) == (status.NONZERO_EXIT, 126, b"x")


def test_programs_read_on_where_the_one_before_has_stopped() -> None:
    streams = Streams(NO_STDIO, b"one two")
    read = []
    for _ in range(2):
        stdin = streams.of(OWN).stdin
        assert stdin is not None
        read.append(os.read(stdin, 4))
        os.close(stdin)
    streams.close()
    assert read == [b"one ", b"two"]


def test_a_guest_has_none_of_the_streams() -> None:
    ours, theirs = os.pipe()
    streams = Streams(Stdio(stdout=theirs, stderr=os.dup(theirs)), b"secret")
    own, guest = streams.of(OWN), streams.of(GUEST)
    assert own.stdout is not None
    assert guest.stdout is not None
    assert guest.stdin is None
    assert os.path.samestat(os.fstat(own.stdout), os.fstat(theirs))
    assert os.path.samestat(os.fstat(guest.stdout), os.stat("/dev/null"))
    own.close()
    guest.close()
    streams.close()
    assert os.read(ours, 1) == b""  # Nobody has its other end any more.
    os.close(ours)


def test_one_program_of_a_stage() -> None:
    made = steps.stage(stage("x", stdin=b"in", env=(b"A=1",)), GUEST)
    assert (made.argv, made.stdin, made.umask, made.env) == ((b"guest",), b"", 0, (b"A=1",))
