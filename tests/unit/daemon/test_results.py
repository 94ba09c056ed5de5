"""Each reason of the helper becomes one status, and the exit code is never the judge."""

import errno
import struct

import msgspec
import pytest
from engine_peer import helper_result, stage, stage_end

from sandboxd.engine import results, wire
from sandboxd.engine.results import StageEnd, build
from sandboxd.protocol import status
from sandboxd.protocol.errors import LIMIT_EXCEEDED, RequestError
from sandboxd.protocol.limits import JobLimits

LIMITS = JobLimits(
    cpu_time_ns=1_000_000_000, wall_time_ns=1_500_000_000, memory_bytes=64 << 20,
    output_bytes=1 << 20, file_size_bytes=1, disk_bytes=1, stack_bytes=1, disk_inodes=1,
    processes=8, open_files=16,
)  # fmt: skip
STAGE = stage("./prog", cwd=b"sub")


def setup(step: int, error: int) -> StageEnd:
    return stage_end(reason=wire.REASON_SETUP, step=step, error=error, memory_source=0)


def test_success() -> None:
    result = build(stage_end(stdout=b"out", stderr=b"err"), STAGE, LIMITS)
    assert (result.status, result.exit_code, result.signal, result.message) == ("ok", 0, None, "")
    assert (result.stdout, result.stderr) == (b"out", b"err")
    assert (result.cpu_time_ns, result.wall_time_ns) == (1000, 2000)
    assert (result.memory_bytes, result.memory_peak_bytes) == (4096, 8192)
    assert result.memory_source == "memory.max_usage_in_bytes"
    assert result.output is msgspec.UNSET


@pytest.mark.parametrize("code", [1, 2, 124, 126, 127, 137, 143, 255])
def test_an_exit_code_is_only_an_exit_code(code: int) -> None:
    result = build(stage_end(exit_code=code), STAGE, LIMITS)
    assert (result.status, result.exit_code) == (status.NONZERO_EXIT, code)
    assert str(code) in result.message


def test_signal() -> None:
    result = build(stage_end(reason=wire.REASON_SIGNALED, signal=11), STAGE, LIMITS)
    assert (result.status, result.exit_code, result.signal) == (status.SIGNALED, None, 11)
    assert "signal 11 (SIGSEGV)" in result.message


def test_signal_without_a_name() -> None:
    assert results.signal_name(63) == "signal 63"


@pytest.mark.parametrize(
    ("reason", "expected", "words"),
    [
        (wire.REASON_CPU_TIME, status.CPU_TIME_LIMIT, "limit of 1 s"),
        (wire.REASON_WALL_TIME, status.WALL_TIME_LIMIT, "limit of 1.5 s"),
        (wire.REASON_MEMORY, status.MEMORY_LIMIT, "limit of 64 MiB"),
        (wire.REASON_OUTPUT, status.OUTPUT_LIMIT, "limit of 1 MiB"),
        (wire.REASON_CANCELLED, status.CANCELLED, "cancelled"),
        (wire.REASON_HELPER, status.INTERNAL_ERROR, "the sandbox died"),
    ],
)
def test_reasons(reason: int, expected: str, words: str) -> None:
    result = build(stage_end(reason=reason, signal=9, exit_code=0), STAGE, LIMITS)
    assert result.status == expected
    assert (result.exit_code, result.signal) == (None, None)
    assert words in result.message


@pytest.mark.parametrize(
    "fields", [{}, {"exit_code": 3}, {"reason": wire.REASON_SIGNALED, "signal": 6}]
)
def test_more_cpu_than_allowed_is_a_limit_however_it_ended(fields: dict[str, int]) -> None:
    result = build(stage_end(cpu_time_ns=1_000_000_001, **fields), STAGE, LIMITS)
    assert result.status == status.CPU_TIME_LIMIT
    assert build(stage_end(cpu_time_ns=1_000_000_000), STAGE, LIMITS).status == status.OK


@pytest.mark.parametrize(("hits", "words"), [(1, "once"), (5, "5 times")])
def test_the_process_limit_is_given_as_a_hint(hits: int, words: str) -> None:
    for fields in ({"exit_code": 1}, {"reason": wire.REASON_WALL_TIME}):
        message = build(stage_end(process_limit_hits=hits, **fields), STAGE, LIMITS).message
        assert "process limit of 8" in message
        assert words in message
    assert build(stage_end(process_limit_hits=hits), STAGE, LIMITS).message == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [(errno.ENOENT, 127), (errno.EACCES, 126), (errno.ENOEXEC, 126), (errno.E2BIG, 126),
     (errno.ENOTDIR, 126), (errno.ELOOP, 126)],
)  # fmt: skip
def test_a_program_that_cannot_be_executed(error: int, code: int) -> None:
    result = build(setup(wire.STEP_EXEC, error), STAGE, LIMITS)
    assert (result.status, result.exit_code) == (status.NONZERO_EXIT, code)
    assert result.message.startswith("./prog cannot be executed: ")


@pytest.mark.parametrize(
    ("step", "error"),
    [(wire.STEP_EXEC, errno.ENOMEM), (wire.STEP_FILE, errno.ENOMEM),
     (wire.STEP_BLOB, errno.ENOMEM), (wire.STEP_LIMITS, errno.EBUSY)],
)  # fmt: skip
def test_too_little_memory_to_start_is_the_memory_limit(step: int, error: int) -> None:
    assert build(setup(step, error), STAGE, LIMITS).status == status.MEMORY_LIMIT


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_input_files_that_do_not_fit_are_the_requests_fault(error: int) -> None:
    with pytest.raises(RequestError) as caught:
        build(setup(wire.STEP_FILE, error), STAGE, LIMITS)
    assert (caught.value.code, caught.value.data) == (LIMIT_EXCEEDED, {"field": "files"})


def test_a_working_directory_that_is_not_there() -> None:
    result = build(setup(wire.STEP_CWD, errno.ENOENT), STAGE, LIMITS)
    assert (result.status, result.exit_code) == (status.NONZERO_EXIT, 126)
    assert "working directory sub cannot be entered: No such file" in result.message


def test_any_other_set_up_error_is_ours_with_step_errno_and_hint() -> None:
    result = build(setup(2, errno.EPERM), STAGE, LIMITS)
    assert result.status == status.INTERNAL_ERROR
    assert result.message.startswith("creating namespaces failed: Operation not permitted; check")


def test_set_up_that_took_too_long() -> None:
    result = build(setup(0, 0), STAGE, LIMITS)
    assert result.status == status.INTERNAL_ERROR
    assert "not ready in time" in result.message


def test_a_clients_text_in_a_message_is_tamed() -> None:
    nasty = stage("\x1b[31m" + "x" * 500 + "\n")
    message = build(setup(wire.STEP_EXEC, errno.ENOENT), nasty, LIMITS).message
    assert message.isprintable()
    assert len(message) < 400


def test_truncation_flags() -> None:
    end = stage_end(reason=wire.REASON_OUTPUT, flags=wire.RESULT_STDERR_TRUNCATED)
    result = build(end, STAGE, LIMITS)
    assert (result.stdout_truncated, result.stderr_truncated) == (False, True)


def test_output_in_order_of_arrival() -> None:
    segments = struct.pack("=III", 2, 0x80000000 | 1, 1)
    end = stage_end(stdout=b"abcd", stderr=b"XYZ", segments_data=segments)
    # What came after the last recorded change follows stream by stream.
    assert build(end, STAGE, LIMITS, ordered=True).output == b"abXc" + b"d" + b"YZ"


def test_over_output_overrules_a_normal_end() -> None:
    result = results.over_output(build(stage_end(), STAGE, LIMITS), LIMITS)
    assert (result.status, result.exit_code) == (status.OUTPUT_LIMIT, None)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(1, "1e-06 ms"), (250_000_000, "250 ms"), (10**9, "1 s"), (1_500_000_000, "1.5 s")],
)
def test_seconds(ns: int, text: str) -> None:
    assert results.seconds(ns) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(500, "500 bytes"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (1 << 30, "1 GiB")],
)
def test_size(count: int, text: str) -> None:
    assert results.size(count) == text


def test_every_reason_has_a_status() -> None:
    for reason in range(1, 10):
        if reason != wire.REASON_SETUP:
            end = StageEnd(helper_result(1, reason=reason))
            assert build(end, STAGE, LIMITS).status in status.STATUSES


def test_output_that_could_not_be_kept() -> None:
    end = stage_end(reason=wire.REASON_HELPER, step=wire.STEP_OUTPUT, error=errno.EFBIG)
    result = build(end, STAGE, LIMITS)
    assert result.status == status.INTERNAL_ERROR
    assert result.message.startswith("keeping what the program printed failed: File too large; ")
