"""Types of a job's fields, for type checkers. What the fields mean: docs/protocol.md.

Importing this module costs as much as all the rest of the blocking client, so the client itself
does so only for type checking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Required, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Progress = Callable[[str, int, int | None], object]

Text = str | bytes


class Limits(TypedDict, total=False):
    """Absent, 0 and None mean the limit that the daemon is configured with."""

    cpu_time_ns: int | None
    wall_time_ns: int | None
    memory_bytes: int | None
    output_bytes: int | None
    file_size_bytes: int | None
    disk_bytes: int | None
    disk_inodes: int | None
    processes: int | None
    open_files: int | None
    stack_bytes: int | None


class File(TypedDict, total=False):
    """An input file with a mode other than 0o644."""

    data: Required[Text]
    mode: int


class WindowSize(TypedDict):
    """Size of a terminal in characters."""

    rows: int
    columns: int


class Descriptors(TypedDict, total=False):
    """Descriptors of this process that the job gets copies of."""

    stdin: int
    stdout: int
    stderr: int


class Stage(TypedDict, total=False):
    """A stage to run first in the same work directory."""

    argv: Required[Sequence[Text]]
    env: Mapping[str, Text]
    cwd: str
    stdin: Text
    limits: Limits


class RunOptions(TypedDict, total=False):
    """Fields of a job besides `argv`."""

    env: Mapping[str, Text]
    cwd: str
    stdin: Text
    files: Mapping[str, Text | File]
    collect: Sequence[str]
    collect_bytes: int
    limits: Limits
    network: Literal["none", "loopback"]
    mode: Literal["recycled", "fresh"]
    file_locks: bool
    mounts: Sequence[str]
    output: bool
    fds: Descriptors


class StartOptions(RunOptions, total=False):
    """Fields of a started job besides `argv`."""

    stdin_stream: bool
    stream: bool
    tty: bool | WindowSize
    compile: Stage


class SourceFile(TypedDict, total=False):
    """One file of a program; `source: False` for one that is there and not given to the tools."""

    data: Required[Text]
    name: str
    source: bool
    mode: int


class StageLimits(TypedDict, total=False):
    """What may be asked of one stage of a runtime."""

    limits: Limits


class ExecuteOptions(TypedDict, total=False):
    """Fields of an execution besides the language and the files."""

    version: str
    args: Sequence[Text]
    stdin: Text
    env: Mapping[str, Text]
    compile: StageLimits
    run: StageLimits
    collect: Sequence[str]
    collect_bytes: int
    network: Literal["none", "loopback"]
    mode: Literal["recycled", "fresh"]
    file_locks: bool
    output: bool
    client: str
    fds: Descriptors


class StartExecuteOptions(ExecuteOptions, total=False):
    """Fields of a started execution besides the language and the files."""

    stdin_stream: bool
    stream: bool
    tty: bool | WindowSize


class RuntimeLimits(TypedDict, total=False):
    """The limits of a runtime that are not the configured ones."""

    compile: Limits
    run: Limits


class RuntimeInfo(TypedDict, total=False):
    """One runtime there is."""

    language: Required[str]
    version: Required[str]
    aliases: Required[Sequence[str]]
    compiled: Required[bool]
    package: Required[bool]
    limits: Required[RuntimeLimits]
    extensions: Required[Sequence[str]]
    file_name: str
    runtime: str
    environment: str


class Job(RunOptions, total=False):
    """One job of a batch."""

    argv: Required[Sequence[Text]]
    compile: Stage


class CallerOptions(TypedDict, total=False):
    """Who asks: the secret of a key, and for administrators whose functions are meant."""

    key: str
    tenant: int


class FunctionFile(TypedDict, total=False):
    """A file that comes with a function."""

    path: Required[str]
    data: Required[Text]
    mode: int


class FunctionInput(TypedDict, total=False):
    """A file that an execution is given."""

    id: Required[str]
    path: Required[str]
    name: str
    required: bool


class FunctionOutput(TypedDict, total=False):
    """A file that an execution leaves."""

    id: Required[str]
    path: Required[str]
    name: str


class FunctionFields(CallerOptions, total=False):
    """What a function is made of."""

    space: str
    code: str
    language: str
    version: str
    command: Sequence[Text]
    environment: str
    env: Mapping[str, str]
    files: Sequence[FunctionFile]
    archive: bytes
    template: Mapping[str, object]
    inputs: Sequence[FunctionInput]
    outputs: Sequence[FunctionOutput]
    context: Mapping[str, object]
    limits: Limits
    metadata: Mapping[str, object]
    check: bool


class FunctionChanges(FunctionFields, total=False):
    """What to change of a function."""

    new_name: str
    kind: str


class FunctionsOptions(CallerOptions, total=False):
    """Which functions to list."""

    space: str
    kind: str
    after: str
    limit: int


class CallOptions(CallerOptions, total=False):
    """How to call a function."""

    space: str
    stdin: Text
    limits: Limits
    log: bool
    client: str


class RunFunctionOptions(CallerOptions, total=False):
    """How to run a function."""

    space: str
    stdin: Text
    inputs: Mapping[str, Text]
    limits: Limits
    wait: bool
    log: bool
    client: str


class ExecutionsOptions(CallerOptions, total=False):
    """Which executions to list."""

    space: str
    name: str
    status: str
    after: str
    limit: int


class KeyFields(CallerOptions, total=False):
    """What a key is for."""

    space: str
    function: str
    max_memory_bytes: int
    max_time_ns: int
    max_executions: int
