"""The shape of every method's params and of every result, as on the wire.

Decoding is strict: no coercion, no unknown fields, whole numbers only. Fields that may be text or
bytes are `object` here, because msgspec has no such union; `jobs` checks them. What a field means
is said in docs/protocol.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

# Sizes and times are unsigned 64-bit for the helper, but keep clear of the sign bit: kernel
# interfaces take them as off_t or long.
MAX_COUNT = 2**63 - 1
MAX_COUNT_32 = 2**31 - 1

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Count32 = Annotated[int, Meta(ge=0, le=MAX_COUNT_32)]
Token = Annotated[str, Meta(max_length=64)]
Rows = Annotated[int, Meta(ge=1, le=65535)]
FdIndex = Annotated[int, Meta(ge=0, le=252)]  # SCM_MAX_FD is 253.


class Limits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one job; 0 and None mean the configured limit. See `limits.resolve`."""

    cpu_time_ns: Count | None = None
    wall_time_ns: Count | None = None
    memory_bytes: Count | None = None
    output_bytes: Count | None = None
    file_size_bytes: Count | None = None
    disk_bytes: Count | None = None
    stack_bytes: Count | None = None
    disk_inodes: Count32 | None = None
    processes: Count32 | None = None
    open_files: Count32 | None = None


class WindowSize(Struct, frozen=True, forbid_unknown_fields=True):
    """Size of a terminal in characters."""

    rows: Rows = 24
    columns: Rows = 80


class FdIndices(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which of the passed descriptors are the job's."""

    stdin: FdIndex | None = None
    stdout: FdIndex | None = None
    stderr: FdIndex | None = None


class StageParams(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`compile` of a job, as sent."""

    argv: list[Any]
    env: dict[str, Any] | None = None
    cwd: str | None = None
    stdin: Any = None
    limits: Limits | None = None


class JobParams(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Params of `job.run` and `job.start`, as sent."""

    argv: list[Any]
    env: dict[str, Any] | None = None
    cwd: str | None = None
    stdin: Any = None
    stdin_stream: bool | None = None
    files: Raw = Raw()  # Decoded by `jobs`, which also wants to see names given twice.
    collect: list[str] | None = None
    collect_bytes: Count | None = None
    limits: Limits | None = None
    network: Literal["none", "loopback"] | None = None
    mode: Literal["recycled", "fresh"] | None = None
    file_locks: bool | None = None
    mounts: list[str] | None = None
    environment: Token | None = None
    client: Token | None = None
    output: bool | None = None
    tty: bool | WindowSize | None = None
    stream: bool | None = None
    fds: FdIndices | None = None
    compile: StageParams | None = None


class BatchParams(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `job.batch`. Each job is decoded alone, so that one mistake spoils one job."""

    jobs: list[Raw]


class NoParams(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of a method that takes none: an empty map."""


class JobRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of a method that acts on a started job."""

    job: Token


class WriteParams(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `job.write`."""

    job: Token
    data: bytes


class SignalParams(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `job.signal`: a number, or a name as in signal(7)."""

    job: Token
    signal: int | str


class ResizeParams(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `job.resize`."""

    job: Token
    rows: Rows
    columns: Rows


class Result(Struct, frozen=True):
    """What became of one job. `status` is one of `status.STATUSES`."""

    status: str
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    cpu_time_ns: int = 0
    wall_time_ns: int = 0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    memory_source: str = ""
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    output: bytes | UnsetType = UNSET
    # A name is bytes where it is not UTF-8.
    files: dict[str | bytes, bytes] | UnsetType = UNSET
    files_truncated: bool | UnsetType = UNSET
    # Of a function's job: what it wrote to descriptor 3.
    result: bytes | UnsetType = UNSET
    result_truncated: bool | UnsetType = UNSET


class StagesResult(Struct, frozen=True):
    """What became of a job with two stages; `run` is None when `compile` did not end `ok`."""

    compile: Result
    run: Result | None = None


class BatchResult(Struct, frozen=True):
    """Answer of `job.batch`: for each job its result, or `{"error": {code, message, data}}`."""

    results: list[Any]
