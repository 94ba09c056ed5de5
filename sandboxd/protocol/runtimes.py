"""Params and results of `runtime.*`: a program given as source files and a language.

What a field means is said in docs/protocol.md.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from sandboxd.protocol import names, ranges
from sandboxd.protocol.errors import NOT_FOUND, RequestError, invalid
from sandboxd.protocol.explain import show
from sandboxd.protocol.jobs import (
    DEFAULT_FILE_MODE,
    MAX_FILES,
    InputFile,
    check_together,
    text_or_bytes,
)
from sandboxd.protocol.models import Count, FdIndices, Limits, Result, Token, WindowSize

# Names of runtimes and ranges of versions are a few characters long; a range is parsed by regular
# expressions, and a long one could be made to take them long.
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Range = Annotated[str, Meta(max_length=ranges.MAX_CHARS)]
Permissions = Annotated[int, Meta(ge=0, le=0o777)]

ANY_VERSION: Final = "*"


class SourceFile(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One file of the program, as sent."""

    data: Any
    name: str | None = None
    source: bool | None = None
    mode: Permissions | None = None


class StageLimits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may be asked of one stage of a runtime."""

    limits: Limits | None = None


class ExecuteParams(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Params of `runtime.execute` and `runtime.start`, as sent."""

    language: Name
    files: list[SourceFile]
    version: Range | None = None
    args: list[Any] | None = None
    stdin: Any = None
    stdin_stream: bool | None = None
    env: dict[str, Any] | None = None
    compile: StageLimits | None = None
    run: StageLimits | None = None
    collect: list[str] | None = None
    collect_bytes: Count | None = None
    network: Literal["none", "loopback"] | None = None
    mode: Literal["recycled", "fresh"] | None = None
    file_locks: bool | None = None
    output: bool | None = None
    tty: bool | WindowSize | None = None
    stream: bool | None = None
    fds: FdIndices | None = None
    client: Token | None = None


class ExecuteResult(Struct, frozen=True):
    """What became of an execution; `run` is None when `compile` did not end `ok`."""

    language: str
    version: str
    run: Result | None = None
    compile: Result | UnsetType = UNSET


class StageInfo(Struct, frozen=True):
    """What differs from the configured limits, stage by stage."""

    compile: Limits = Limits()
    run: Limits = Limits()


class RuntimeInfo(Struct, frozen=True):
    """One runtime in `runtime.list`."""

    language: str
    version: str
    aliases: tuple[str, ...]
    compiled: bool
    package: bool
    limits: StageInfo
    extensions: tuple[str, ...] = ()
    file_name: str | UnsetType = UNSET
    runtime: str | UnsetType = UNSET
    environment: str | UnsetType = UNSET


class RuntimesResult(Struct, frozen=True):
    """Answer of `runtime.list`."""

    runtimes: list[RuntimeInfo]


class Program(Struct, frozen=True):
    """The checked files of a request."""

    files: tuple[InputFile, ...]
    sources: tuple[int, ...]
    """Indices into `files`; the first one is the main source."""
    named: tuple[bool, ...]
    """For each of `files`: whether its name came with it."""


def check_program(params: ExecuteParams, *, started: bool) -> Program:
    """The files of a request, each with a name. Raises RequestError for what is wrong with them,
    and for fields that contradict each other."""
    check_together(params, started, "")
    given = params.files
    if len(given) > MAX_FILES:
        raise invalid("files", f"must be at most {MAX_FILES} files, not {len(given)}")
    files = tuple([_file(file, index) for index, file in enumerate(given)])
    if len(files) > 1:
        check_distinct(files)
    sources = tuple([index for index, file in enumerate(given) if file.source is not False])
    if not sources:
        raise invalid("files", "must have at least one source file")
    return Program(files, sources, tuple([file.name is not None for file in given]))


def _file(file: SourceFile, index: int) -> InputFile:
    if file.name is None:
        path = b"file%d.code" % index
    else:
        try:
            path = names.check_name(file.name)
        except names.BadName as exc:
            raise invalid(f"files[{index}].name", str(exc)) from None
    mode = DEFAULT_FILE_MODE if file.mode is None else file.mode
    data = file.data
    if type(data) is not bytes:
        data = text_or_bytes(data, f"files[{index}].data")
    return InputFile(path, mode, data)


def check_distinct(files: tuple[InputFile, ...]) -> None:
    """Raises RequestError when two files cannot both be there."""
    texts = [file.path.decode() for file in files]
    if len(set(texts)) != len(texts):
        # By counting: to look back at each of ten thousand names takes a second.
        twice = Counter(texts).most_common(1)[0][0]
        raise invalid("files", f"{show(twice)} is the name of two files")
    both = names.file_and_directory(texts)
    if both is not None:
        raise invalid("files", f"{show(both)} is both a file and a directory")


def unknown_runtime(language: str, version: str) -> RequestError:
    """The error for a language that is not there, or not in such a version."""
    return RequestError(NOT_FOUND, f"{language}-{version} runtime is unknown")
