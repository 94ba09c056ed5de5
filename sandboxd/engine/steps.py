"""Several programs as one run stage: what each may still use, and what they come to together.

They share the sandbox, one after the other, and the limits of the stage: a limit that one of them
reaches is reached by all. Nothing here does input or output; `stages` runs the programs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from sandboxd.engine import results
from sandboxd.engine.descriptors import close_all
from sandboxd.engine.job import Stdio
from sandboxd.engine.memfd import sealed_memfd
from sandboxd.protocol import status
from sandboxd.protocol.models import Result

if TYPE_CHECKING:
    from sandboxd.protocol.jobs import Stage, Step
    from sandboxd.protocol.limits import JobLimits

# A program that ended in one of these ways leaves the sandbox to the next one.
_ENDED: Final = frozenset({status.OK, status.NONZERO_EXIT, status.SIGNALED})
_LIMITS: Final = frozenset(
    {
        status.CPU_TIME_LIMIT,
        status.WALL_TIME_LIMIT,
        status.MEMORY_LIMIT,
        status.OUTPUT_LIMIT,
    }
)


class Total:
    """The result of a stage, program by program."""

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._result = Result(status.OK, exit_code=0)

    def left(self) -> JobLimits:
        """The limits of the next program. Output is counted when it ends, by `add`."""
        used, limits = self._result, self._limits
        return msgspec.structs.replace(
            limits,
            cpu_time_ns=max(1, limits.cpu_time_ns - used.cpu_time_ns),
            wall_time_ns=max(1, limits.wall_time_ns - used.wall_time_ns),
        )

    def add(self, step: Step, ended: Result) -> bool:
        """Count a program that ended. Returns whether the next one may run."""
        result = self._sum(ended)
        decides = ended.status not in _ENDED or not step.guest
        if decides:
            result = self._judged(result, ended)
        self._result = result = self._within_output(result)
        return result.status == status.OK

    def stop(self, ended: Result) -> Result:
        """The result where the sandbox was lost with this program, whoever ran it."""
        return self._judged(self._result, ended)

    @property
    def result(self) -> Result:
        return self._result

    def _sum(self, ended: Result) -> Result:
        before = self._result
        return msgspec.structs.replace(
            before,
            cpu_time_ns=before.cpu_time_ns + ended.cpu_time_ns,
            wall_time_ns=before.wall_time_ns + ended.wall_time_ns,
            memory_bytes=max(before.memory_bytes, ended.memory_bytes),
            memory_peak_bytes=max(before.memory_peak_bytes, ended.memory_peak_bytes),
            memory_source=ended.memory_source,
            stdout=before.stdout + ended.stdout,
            stderr=before.stderr + ended.stderr,
            stdout_truncated=before.stdout_truncated or ended.stdout_truncated,
            stderr_truncated=before.stderr_truncated or ended.stderr_truncated,
            output=UNSET if ended.output is UNSET else (before.output or b"") + ended.output,
        )

    def _judged(self, result: Result, ended: Result) -> Result:
        """With the verdict of the program that decides; its limits were what was left of ours."""
        limited = ended.status in _LIMITS
        return msgspec.structs.replace(
            result,
            status=ended.status,
            exit_code=ended.exit_code,
            signal=ended.signal,
            message=results.limit_message(ended.status, self._limits) if limited else ended.message,
        )

    def _within_output(self, result: Result) -> Result:
        """Each of them may print as much as all together: cut what is too much in the sum."""
        most = self._limits.output_bytes
        stdout, stderr = result.stdout[:most], result.stderr[:most]
        cut = (len(stdout) < len(result.stdout), len(stderr) < len(result.stderr))
        if not any(cut):
            return result
        result = msgspec.structs.replace(
            result,
            stdout=stdout,
            stderr=stderr,
            stdout_truncated=result.stdout_truncated or cut[0],
            stderr_truncated=result.stderr_truncated or cut[1],
            output=UNSET if result.output is UNSET else result.output[: len(stdout) + len(stderr)],
        )
        return results.over_output(result, self._limits) if result.status in _ENDED else result


class Streams:
    """What the programs of a stage have as standard streams. Owns the descriptors.

    Raises OSError where there are none to be had.
    """

    def __init__(self, stdio: Stdio, stdin: bytes) -> None:
        self._stdio = stdio
        self._stdin: int | None = None
        try:
            # One open file: each program reads on where the one before it has stopped.
            self._stdin = sealed_memfd("sandboxd-stdin", stdin) if stdin else None
            self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            if self._stdin is not None:
                os.close(self._stdin)
            stdio.close()
            raise

    def of(self, step: Step) -> Stdio:
        """Descriptors for one program, which are the caller's. Raises OSError."""
        if step.guest:
            return self._duplicates(None, self._null, self._null)
        stdin = self._stdio.stdin if self._stdin is None else self._stdin
        return self._duplicates(stdin, self._stdio.stdout, self._stdio.stderr)

    def nowhere(self) -> Stdio:
        """For what prints nothing that anybody reads."""
        return self._duplicates(None, self._null, None)

    def close(self) -> None:
        self._stdio.close()
        close_all([fd for fd in (self._stdin, self._null) if fd is not None])

    def _duplicates(self, stdin: int | None, stdout: int | None, stderr: int | None) -> Stdio:
        closer = self._stdio.closer
        made: list[int | None] = []
        try:
            for fd in (stdin, stdout, stderr):
                made.append(None if fd is None else os.dup(fd))  # noqa: PERF401 - closed on failure
        except OSError:
            closer.close([fd for fd in made if fd is not None])
            raise
        return Stdio(made[0], made[1], made[2], closer=closer)


def stage(run: Stage, step: Step) -> Stage:
    """One program of the run stage; its input comes by `Streams`."""
    return msgspec.structs.replace(run, argv=step.argv, stdin=b"", umask=step.umask)
