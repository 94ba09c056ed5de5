"""How many bytes of programs' output there are in an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType

from sandboxd.protocol.functions import CallResult, ExecutionInfo, OutputResult
from sandboxd.protocol.models import BatchResult, Result, StagesResult
from sandboxd.protocol.runtimes import ExecuteResult

if TYPE_CHECKING:
    from collections.abc import Callable


def output_bytes(answer: object) -> int:
    """Outputs, logs and files, with their names. 0 for what has none. Of a plain result this takes
    0.2 us."""
    if type(answer) is Result:  # Nearly always.
        return _result(answer)
    count = _COUNTS.get(type(answer))
    return 0 if count is None else count(answer)


def _result(result: Result) -> int:
    size = len(result.stdout) + len(result.stderr)
    if result.output is not UNSET:
        size += len(result.output)
    if result.result is not UNSET:
        size += len(result.result)
    if result.files is not UNSET:
        size += sum(map(len, result.files)) + sum(map(len, result.files.values()))
    return size


def _of(data: bytes | UnsetType) -> int:
    return 0 if data is UNSET else len(data)


_COUNTS: Final[dict[type, Callable[..., int]]] = {
    Result: _result,
    StagesResult: lambda answer: output_bytes(answer.compile) + output_bytes(answer.run),
    ExecuteResult: lambda answer: output_bytes(answer.compile) + output_bytes(answer.run),
    BatchResult: lambda answer: sum(map(output_bytes, answer.results)),
    CallResult: lambda answer: _of(answer.log),
    ExecutionInfo: lambda answer: _of(answer.log),
    OutputResult: lambda answer: len(answer.data),
}
