"""From the daemon's result of a stage to Piston's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sandboxd.protocol import status
from sandboxd_rest.piston.models import ExecuteResponse, StageResult
from sandboxd_rest.piston.signals import NAMES

if TYPE_CHECKING:
    from sandboxd_client.result import Result

_KILLED: Final = "SIGKILL"


def stage_result(result: Result) -> StageResult:
    """Bytes that are no UTF-8 become U+FFFD, as in Piston."""
    letters, message = _verdict(result)
    code, signal = code_and_signal(result)
    return StageResult(
        signal=signal,
        stdout=_text(result.stdout),
        stderr=_text(result.stderr),
        code=code,
        output=_text(result.output or b""),
        memory=result.memory_bytes or None,
        message=message,
        status=letters,
        cpu_time=_ms(result.cpu_time_ns),
        wall_time=_ms(result.wall_time_ns),
    )


def code_and_signal(result: Result) -> tuple[int | None, str | None]:
    """How a stage ended; one that a limit stopped was killed, whatever it did last."""
    if result.status in (status.CPU_TIME_LIMIT, status.WALL_TIME_LIMIT, status.OUTPUT_LIMIT):
        return None, _KILLED
    if result.status == status.MEMORY_LIMIT and result.exit_code is None:
        return None, _KILLED
    number = result.signal
    return result.exit_code, None if number is None else NAMES.get(number, f"SIG{number}")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _ms(ns: int) -> float:
    """To the microsecond: more digits would be noise."""
    return round(ns / 1e6, 3)


def _verdict(result: Result) -> tuple[str | None, str | None]:
    """Piston's two letters, and the words of isolate, which Piston hands on."""
    match result.status:
        case status.OK:
            return None, None
        case status.NONZERO_EXIT:
            return "RE", f"Exited with error status {result.exit_code}"
        case status.SIGNALED:
            return "SG", f"Caught fatal signal {result.signal}"
        case status.CPU_TIME_LIMIT:
            return "TO", "Time limit exceeded"
        case status.WALL_TIME_LIMIT:
            return "TO", "Time limit exceeded (wall clock)"
        case status.MEMORY_LIMIT:
            letters = "RE" if result.exit_code is not None else "SG"
            return letters, "Memory limit exceeded"
        case status.OUTPUT_LIMIT:
            if result.stderr_truncated and not result.stdout_truncated:
                return "EL", "stderr length exceeded"
            return "OL", "stdout length exceeded"
    return "XX", result.message or "internal error"


def execute_response(
    language: str, version: str, compile: Result | None, run: Result | None
) -> ExecuteResponse:
    """`run` is None when the compile stage failed; Piston then shows that one twice."""
    compiled = stage_result(compile) if compile is not None else None
    ran = stage_result(run) if run is not None else compiled
    if ran is None:
        raise ValueError("an execution without any stage")
    shown = msgspec.UNSET if compiled is None else compiled
    return ExecuteResponse(run=ran, language=language, version=version, compile=shown)
