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
