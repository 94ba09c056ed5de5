"""What became of a job, as a client sees it."""

from __future__ import annotations

from sandboxd.protocol import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Result:
    """What became of one job; the fields are those of docs/protocol.md."""

    __slots__ = (
        "cpu_time_ns",
        "exit_code",
        "files",
        "files_truncated",
        "memory_bytes",
        "memory_peak_bytes",
        "memory_source",
        "message",
        "output",
        "raw",
        "signal",
        "status",
        "stderr",
        "stderr_truncated",
        "stdout",
        "stdout_truncated",
        "wall_time_ns",
    )

    status: str
    exit_code: int | None
    signal: int | None
    message: str
    cpu_time_ns: int
    wall_time_ns: int
    memory_bytes: int
    memory_peak_bytes: int
    memory_source: str
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool
    stderr_truncated: bool
    output: bytes | None
    files: Mapping[str | bytes, bytes]
    files_truncated: bool
    raw: Mapping[str, Any]

    def __init__(self, raw: Mapping[str, Any]) -> None:
        """Read a result as the daemon sent it; it is kept whole as `raw`."""
        get = raw.get
        self.raw = raw
        self.status = raw["status"]
        self.exit_code = get("exit_code")
        self.signal = get("signal")
        self.message = get("message", "")
        self.cpu_time_ns = get("cpu_time_ns", 0)
        self.wall_time_ns = get("wall_time_ns", 0)
        self.memory_bytes = get("memory_bytes", 0)
        self.memory_peak_bytes = get("memory_peak_bytes", 0)
        self.memory_source = get("memory_source", "")
        self.stdout = get("stdout", b"")
        self.stderr = get("stderr", b"")
        self.stdout_truncated = get("stdout_truncated", False)
        self.stderr_truncated = get("stderr_truncated", False)
        self.output = get("output")
        self.files = get("files") or {}
        self.files_truncated = get("files_truncated", False)

    @property
    def ok(self) -> bool:
        """Whether the program ran, within its limits, and ended with exit code 0."""
        return self.status == status.OK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        text = f"<Result {self.status}"
        if self.exit_code:
            text += f" exit_code={self.exit_code}"
        if self.signal:
            text += f" signal={self.signal}"
        for name in ("message", "stdout", "stderr"):
            if value := getattr(self, name):
                text += f" {name}={value[:200]!r}"
        return f"{text}>"


class StagesResult:
    """What became of a job with two stages; `run` is None when `compile` did not end `ok`."""

    __slots__ = ("compile", "raw", "run")

    compile: Result
    run: Result | None
    raw: Mapping[str, Any]

    def __init__(self, raw: Mapping[str, Any]) -> None:
        """Read a result as the daemon sent it; it is kept whole as `raw`."""
        self.raw = raw
        self.compile = Result(raw["compile"])
        self.run = Result(raw["run"]) if raw["run"] is not None else None

    @property
    def last(self) -> Result:
        """The result of the last stage that ran."""
        return self.run or self.compile

    @property
    def ok(self) -> bool:
        """Whether both stages ended `ok`."""
        return self.last.ok

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StagesResult) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<StagesResult compile={self.compile!r} run={self.run!r}>"


class ExecuteResult(StagesResult):
    """What became of a program of a runtime, and which runtime that was.

    `compile` is None for a language that is not compiled; `run` is None when `compile` did not end
    `ok`.
    """

    __slots__ = ("language", "version")

    language: str
    version: str
    compile: Result | None  # type: ignore[assignment]

    def __init__(self, raw: Mapping[str, Any]) -> None:
        """Read a result as the daemon sent it; it is kept whole as `raw`."""
        self.raw = raw
        self.language = raw["language"]
        self.version = raw["version"]
        self.compile = Result(raw["compile"]) if "compile" in raw else None
        self.run = Result(raw["run"]) if raw["run"] is not None else None

    def __repr__(self) -> str:
        of = f"{self.language}-{self.version}"
        return f"<ExecuteResult {of} compile={self.compile!r} run={self.run!r}>"


def read_result(raw: Mapping[str, Any]) -> Result | StagesResult:
    """The result in an answer of `job.run`, `job.wait`, `job.batch` or in `job.exit`."""
    if "language" in raw:
        return ExecuteResult(raw)
    return StagesResult(raw) if "compile" in raw else Result(raw)
