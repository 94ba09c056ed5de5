"""From what the helper reports to the result a client gets.

The status comes from the helper's reason alone: which limit fired, which signal, which step of the
set-up failed. No exit code is ever read as a verdict.
"""

import errno
import os
import signal
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET

from sandboxd.engine import wire
from sandboxd.engine.pieces import pieces
from sandboxd.protocol import status
from sandboxd.protocol.errors import LIMIT_EXCEEDED, RequestError
from sandboxd.protocol.jobs import Stage
from sandboxd.protocol.limits import JobLimits
from sandboxd.protocol.models import Result

# The shells' codes for a program that cannot be executed.
EXIT_NOT_FOUND: Final = 127
EXIT_NOT_EXECUTABLE: Final = 126

_LIMIT_STATUS: Final = {
    wire.REASON_CPU_TIME: status.CPU_TIME_LIMIT,
    wire.REASON_WALL_TIME: status.WALL_TIME_LIMIT,
    wire.REASON_MEMORY: status.MEMORY_LIMIT,
    wire.REASON_OUTPUT: status.OUTPUT_LIMIT,
    wire.REASON_CANCELLED: status.CANCELLED,
}

_MEMORY_SOURCE: Final = {
    wire.MEMORY_V2_PEAK: "memory.peak",
    wire.MEMORY_V1_MAX: "memory.max_usage_in_bytes",
}

_TOO_LITTLE_MEMORY: Final = frozenset(
    {
        (wire.STEP_EXEC, errno.ENOMEM),
        (wire.STEP_FILE, errno.ENOMEM),
        (wire.STEP_BLOB, errno.ENOMEM),
        (wire.STEP_LIMITS, errno.EBUSY),  # v1: less than what is in use already
    }
)
_SHOWN_CHARS: Final = 200

# Failures of set-up that come from what the client asked for, not from the host.
_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
_STDOUT_INCOMPLETE: Final = wire.RESULT_STDOUT_TRUNCATED | wire.RESULT_LOST
_STDERR_INCOMPLETE: Final = wire.RESULT_STDERR_TRUNCATED | wire.RESULT_LOST
_LOST: Final = (
    "; it was killed and does not end, as it waits in the kernel for somebody else (a passed"
    " descriptor, or a disk), and what it has printed is not known"
)
_PATH_ERRORS: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG}
)


class StageEnd(NamedTuple):
    """How one program ended, as the helper saw it, with what it printed."""

    helper: wire.HelperResult
    stdout: bytes = b""
    stderr: bytes = b""
    segments: bytes = b""
    in_order: bytes | None = None
    """Both, where that has been made already."""


def build(end: StageEnd, stage: Stage, limits: JobLimits, *, ordered: bool = False) -> Result:
    """The result of one stage.

    Raises RequestError where the program never ran because its input files do not fit.
    """
    helper = end.helper
    if helper.reason == wire.REASON_SETUP:
        return _from_setup(end, stage, limits)
    if helper.reason == wire.REASON_EXITED and not helper.exit_code:
        kind, message = status.OK, ""
        if helper.cpu_time_ns > limits.cpu_time_ns:
            kind, message = status.CPU_TIME_LIMIT, limit_message(status.CPU_TIME_LIMIT, limits)
    else:
        kind, message = _judge(helper, limits)
    exited = helper.reason == wire.REASON_EXITED
    signaled = helper.reason == wire.REASON_SIGNALED
    flags = helper.flags
    # Positional: this runs for every job, and keywords cost msgspec a microsecond.
    return Result(
        kind,
        helper.exit_code if exited else None,
        helper.signal if signaled else None,
        message,
        helper.cpu_time_ns,
        helper.wall_time_ns,
        helper.memory_bytes,
        helper.memory_peak_bytes,
        _MEMORY_SOURCE.get(helper.memory_source, ""),
        end.stdout,
        end.stderr,
        bool(flags & _STDOUT_INCOMPLETE),
        bool(flags & _STDERR_INCOMPLETE),
        _ordered(end) if ordered else UNSET,
    )


def _judge(helper: wire.HelperResult, limits: JobLimits) -> tuple[str, str]:
    """Status and sentence for everything but a plain success and a failed set-up."""
    kind = _LIMIT_STATUS.get(helper.reason)
    lost = _LOST if helper.flags & wire.RESULT_LOST else ""
    if kind is not None:
        return kind, limit_message(kind, limits) + _process_hint(helper, limits) + lost
    if helper.reason == wire.REASON_HELPER and helper.step:
        return status.INTERNAL_ERROR, setup_message(helper.step, helper.error)
    if helper.reason not in (wire.REASON_EXITED, wire.REASON_SIGNALED):
        return status.INTERNAL_ERROR, f"the sandbox died and took the program with it{lost}"
    if helper.cpu_time_ns > limits.cpu_time_ns:
        return status.CPU_TIME_LIMIT, limit_message(status.CPU_TIME_LIMIT, limits)
    hint = _process_hint(helper, limits)
    if helper.reason == wire.REASON_EXITED:
        return status.NONZERO_EXIT, f"the program exited with code {helper.exit_code}{hint}"
    return status.SIGNALED, f"the program was ended by {signal_name(helper.signal)}{hint}"


def _process_hint(helper: wire.HelperResult, limits: JobLimits) -> str:
    """Runtimes that cannot start a thread die in puzzling ways; say what may be behind it."""
    hits = helper.process_limit_hits
    if not hits:
        return ""
    times = "once" if hits == 1 else f"{hits} times"
    return f"; the process limit of {limits.processes} refused it a process or thread {times}"


def limit_message(kind: str, limits: JobLimits) -> str:
    """The sentence for a status that names a limit, or `cancelled`."""
    if kind == status.CPU_TIME_LIMIT:
        return f"the program used more CPU time than its limit of {seconds(limits.cpu_time_ns)}"
    if kind == status.WALL_TIME_LIMIT:
        return f"the program ran longer than its limit of {seconds(limits.wall_time_ns)}"
    if kind == status.MEMORY_LIMIT:
        return f"the program used more memory than its limit of {size(limits.memory_bytes)}"
    if kind == status.OUTPUT_LIMIT:
        return f"the program printed more than its limit of {size(limits.output_bytes)}"
    return "the job was cancelled"


def _from_setup(end: StageEnd, stage: Stage, limits: JobLimits) -> Result:
    step, error = end.helper.step, end.helper.error
    if (step, error) in _TOO_LITTLE_MEMORY:
        # The program, its input or the sandbox itself does not fit into the memory limit.
        message = limit_message(status.MEMORY_LIMIT, limits)
        return _with_usage(Result(status.MEMORY_LIMIT, message=message), end.helper)
    if step == wire.STEP_EXEC:
        code = EXIT_NOT_FOUND if error == errno.ENOENT else EXIT_NOT_EXECUTABLE
        why = os.strerror(error)
        if error == errno.ENOENT:
            why += " (the program, or the interpreter named in it, is not in the sandbox)"
        message = f"{_shown(stage.argv[0])} cannot be executed: {why}"
        return _with_usage(Result(status.NONZERO_EXIT, code, None, message), end.helper)
    if step == wire.STEP_FILE and error in _DISK_ERRORS:
        raise RequestError(
            LIMIT_EXCEEDED,
            "files: they do not fit into the job's disk_bytes, disk_inodes or file_size_bytes",
            {"field": "files"},
        )
    if step == wire.STEP_CWD and error in _PATH_ERRORS:
        # An earlier stage may have been meant to make it, so the request itself is not wrong.
        message = f"the working directory {_shown(stage.cwd)} cannot be entered: "
        message += os.strerror(error)
        result = Result(status.NONZERO_EXIT, EXIT_NOT_EXECUTABLE, None, message)
        return _with_usage(result, end.helper)
    return _with_usage(
        Result(status.INTERNAL_ERROR, message=setup_message(step, error)), end.helper
    )


def _shown(name: bytes) -> str:
    """A client's text in a message: on one line, and not too long."""
    text = name.decode("utf-8", "backslashreplace")
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def setup_message(step: int, error: int) -> str:
    """One sentence for a step of the set-up that failed, with the header's hint."""
    if not step:
        return "the sandbox was not ready in time: the host is overloaded"
    text = f"{wire.step_name(step)} failed: {os.strerror(error)}"
    hint = wire.step_hint(step)
    return f"{text}; {hint}" if hint else text


def _with_usage(result: Result, helper: wire.HelperResult) -> Result:
    return Result(
        result.status,
        result.exit_code,
        result.signal,
        result.message,
        helper.cpu_time_ns,
        helper.wall_time_ns,
        helper.memory_bytes,
        helper.memory_peak_bytes,
        _MEMORY_SOURCE.get(helper.memory_source, ""),
    )


def over_output(result: Result, limits: JobLimits) -> Result:
    """``result`` of a program that ended by itself, but had printed too much."""
    message = limit_message(status.OUTPUT_LIMIT, limits)
    return msgspec.structs.replace(
        result, status=status.OUTPUT_LIMIT, exit_code=None, signal=None, message=message
    )


def not_kept(result: Result, message: str) -> Result:
    """``result`` of a program that ended well, but of which something is lost."""
    return msgspec.structs.replace(
        result, status=status.INTERNAL_ERROR, exit_code=None, message=message
    )


def cancelled(why: str = "the job was cancelled before it started") -> Result:
    """The result of a job that never ran."""
    return Result(status.CANCELLED, message=why)


def internal_error(message: str) -> Result:
    return Result(status.INTERNAL_ERROR, message=message)


def _ordered(end: StageEnd) -> bytes:
    return in_order(end) if end.in_order is None else end.in_order


def in_order(end: StageEnd) -> bytes:
    """stdout and stderr in order of arrival.

    The helper records a bounded number of changes between the two; what came after the last of
    them follows stream by stream.
    """
    parts: list[bytes] = []
    at = [0, 0]
    streams = (end.stdout, end.stderr)
    for is_stderr, length in wire.unpack_segments(end.segments):
        start = at[is_stderr]
        at[is_stderr] = start + length
        parts += pieces(streams[is_stderr], start, start + length)
    for stream, start in zip(streams, at, strict=True):
        parts += pieces(stream, start, len(stream))
    return b"".join(parts)


def signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def seconds(ns: int) -> str:
    """``1.5 s`` or ``250 ms``: as people write it."""
    if ns < 1_000_000_000:
        return f"{ns / 1_000_000:g} ms"
    return f"{ns / 1_000_000_000:g} s"


def size(count: int) -> str:
    """``64 MiB``, ``1.5 KiB`` or ``500 bytes``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:g} {unit}"
    return f"{count} bytes"
