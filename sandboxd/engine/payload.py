"""What a program printed, as it comes from the helper: in the message, or as memory of its own."""

import errno
import logging
import os
from typing import Final

from sandboxd.engine import wire
from sandboxd.engine.results import StageEnd, in_order
from sandboxd.logs import fields

_log = logging.getLogger("sandboxd.helper")

# More takes the loop longer to read than a thread takes to start.
LARGE_BYTES: Final = 512 * 1024


def from_message(helper: wire.HelperResult, message: memoryview) -> StageEnd:
    """Where there is no memory. ``message`` is not needed afterwards."""
    if not helper.stdout_len and not helper.stderr_len:
        return StageEnd(helper)
    middle = wire.RESULT.size + helper.stdout_len
    end = middle + helper.stderr_len
    return StageEnd(
        helper,
        bytes(message[wire.RESULT.size : middle]),
        bytes(message[middle:end]),
        bytes(message[end : end + 4 * helper.segments]),
    )


def from_memory(helper: wire.HelperResult, fd: int) -> StageEnd:
    """For a thread, too: reading takes 0.3 ms for each MiB, without the interpreter's lock."""
    try:
        stdout = _read(fd, helper.stdout_len, 0)
        stderr = _read(fd, helper.stderr_len, helper.stride)
        segments = _read(fd, 4 * helper.segments, 2 * helper.stride)
        end = StageEnd(helper, stdout, stderr, segments)
        return end._replace(in_order=in_order(end)) if segments else end
    except Exception as exc:  # Whatever it is, this job has to end.
        _log.exception("a job's output could not be read %s", fields(job=helper.job_id))
        return without(helper, exc.errno or errno.EIO if isinstance(exc, OSError) else errno.EIO)


def without(helper: wire.HelperResult, error: int) -> StageEnd:
    """The end of a program of which it is not known what it printed."""
    values = {"reason": wire.REASON_HELPER, "step": wire.STEP_OUTPUT, "error": error, "segments": 0}
    return StageEnd(helper._replace(**values))


def _read(fd: int, size: int, at: int) -> bytes:
    data = os.pread(fd, size, at) if size else b""
    if len(data) != size:
        raise OSError(errno.ENODATA, f"{len(data)} bytes of {size} are there")
    return data
