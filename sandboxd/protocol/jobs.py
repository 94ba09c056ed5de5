"""A job as the engine takes it: checked, with every text as bytes."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw, Struct

from sandboxd.protocol import names
from sandboxd.protocol.errors import invalid
from sandboxd.protocol.explain import explain, show
from sandboxd.protocol.models import FdIndices, JobParams, Limits, StageParams, WindowSize

# execve(2): one string has at most 32 pages with its NUL (MAX_ARG_STRLEN), all of them with their
# pointers a quarter of the stack limit, that is 2 MiB of the usual 8.
MAX_STRING_BYTES: Final = 128 * 1024 - 1
MAX_STRINGS_BYTES: Final = 2 * 1024 * 1024
POINTER_BYTES: Final = 8

MAX_FILES: Final = 10_000
MAX_PATTERNS: Final = 256
MAX_MOUNTS: Final = 32  # SBX_MAX_MOUNTS
MAX_BATCH_JOBS: Final = 1000
DEFAULT_FILE_MODE: Final = 0o644


class Stage(Struct, frozen=True):
    """One program to run."""

    argv: tuple[bytes, ...]
    env: tuple[bytes, ...] | None  # `NAME=value`; None is the configured environment.
    cwd: bytes  # Empty is the work directory.
    stdin: bytes
    limits: Limits | None  # Not resolved: see limits.LimitPolicy.
    umask: int = 0o022


class InputFile(Struct, frozen=True):
    """A file to write below the work directory before the first stage."""

    path: bytes
    mode: int
    data: bytes


class Step(Struct, frozen=True):
    """One of several programs that are a run stage together: see engine.steps."""

    argv: tuple[bytes, ...]
    umask: int
    guest: bool
    """It runs as the sandbox's second user, with no input and no output, and its exit code does
    not matter."""


class Streams(Protocol):
    """The fields of a request that say how its standard streams are connected."""

    @property
    def stdin(self) -> Any: ...
    @property
    def output(self) -> bool | None: ...
    @property
    def stream(self) -> bool | None: ...
    @property
    def stdin_stream(self) -> bool | None: ...
    @property
    def tty(self) -> bool | WindowSize | None: ...
    @property
    def fds(self) -> FdIndices | None: ...


class JobSpec(Struct, frozen=True):
    """A checked job. `compile` runs before `run` where it is given."""

    run: Stage
    compile: Stage | None = None
    files: tuple[InputFile, ...] = ()
    collect: tuple[bytes, ...] = ()
    collect_bytes: int = 0  # 0 is the configured amount.
    loopback: bool = False
    mode: str | None = None  # None is the configured mode.
    file_locks: bool | None = None  # None is what the configuration says.
    mounts: tuple[str, ...] = ()
    environment: str = ""  # Empty is the host's /usr.
    client: str = ""  # Whom of the tenant's the job is for: see scheduler.
    output: bool = False
    tty: WindowSize | None = None
    stream: bool = False
    stdin_stream: bool = False
    fds: FdIndices | None = None
    # What only the daemon's own parts ask for.
    result_bytes: int = 0  # At most so much is taken of what it writes to descriptor 3; 0: none.
    partition: int = 0  # A slot that served one never serves another, nor a job without.
    warm: bool = False  # argv begins with python3: an interpreter that waits may run it.
    steps: tuple[Step, ...] = ()  # Run in the place of `run.argv`, one after the other.


def job_spec(params: JobParams, *, started: bool = False, field: str = "") -> JobSpec:
    """Check `params` and turn them into a JobSpec.

    `started` says that the job comes by `job.start` and may therefore stream; `field` is where
    the job stands in the request (`jobs[3]`). Raises RequestError.
    """
    at = f"{field}." if field else ""
    check_together(params, started, at)
    return JobSpec(
        run=_stage(params, at),
        compile=_stage(params.compile, f"{at}compile.") if params.compile else None,
        files=_files(params.files, f"{at}files") if memoryview(params.files) else (),
        collect=check_patterns(params.collect, f"{at}collect") if params.collect else (),
        collect_bytes=params.collect_bytes or 0,
        loopback=params.network == "loopback",
        mode=params.mode,
        file_locks=params.file_locks,
        mounts=_mounts(params.mounts, f"{at}mounts") if params.mounts else (),
        environment=params.environment or "",
        client=params.client or "",
        output=params.output or False,
        tty=check_tty(params.tty),
        stream=params.stream or False,
        stdin_stream=params.stdin_stream or False,
        fds=params.fds,
    )


def batch_size(jobs: list[Raw]) -> int:
    """How many jobs a batch has. Raises RequestError for too many."""
    if len(jobs) > MAX_BATCH_JOBS:
        raise invalid("jobs", f"must be at most {MAX_BATCH_JOBS} jobs, not {len(jobs)}")
    return len(jobs)


def check_together(params: Streams, started: bool, at: str) -> None:
    """Refuse fields that contradict each other."""
    if not started:
        for name in ("stream", "stdin_stream", "tty"):
            if getattr(params, name):
                raise invalid(at + name, "is for job.start only")
        if params.fds is None:
            return
    if params.tty and not params.stream:
        raise invalid(f"{at}tty", "needs stream: true")
    if params.output and params.stream:
        raise invalid(f"{at}output", "cannot go with stream, which sends output as it comes")
    if params.stdin_stream and params.stdin:
        raise invalid(f"{at}stdin", "cannot go with stdin_stream; send it by job.write")
    if params.fds is not None:
        _check_fds(params.fds, params, at)


def _check_fds(fds: FdIndices, params: Streams, at: str) -> None:
    if params.tty:
        raise invalid(f"{at}fds", "cannot go with tty, which is stdin, stdout and stderr")
    if fds.stdin is not None and (params.stdin or params.stdin_stream):
        raise invalid(f"{at}fds.stdin", "cannot go with stdin or stdin_stream")
    if params.output and (fds.stdout is not None or fds.stderr is not None):
        raise invalid(f"{at}output", "cannot go with fds.stdout or fds.stderr")


def _stage(params: JobParams | StageParams, at: str) -> Stage:
    argv = check_argv(params.argv, at)
    env = None if params.env is None else check_env(params.env, at)
    check_strings(argv, env or (), f"{at}argv")
    return Stage(
        argv=argv,
        env=env,
        cwd=_cwd(params.cwd, at) if params.cwd else b"",
        stdin=b"" if params.stdin is None else text_or_bytes(params.stdin, f"{at}stdin"),
        limits=params.limits,
    )


def check_strings(argv: tuple[bytes, ...], env: tuple[bytes, ...], field: str) -> None:
    """Refuse what execve does not take, all strings together. Raises RequestError."""
    total = sum(map(len, argv)) + (1 + POINTER_BYTES) * len(argv)
    if env:
        total += sum(map(len, env)) + (1 + POINTER_BYTES) * len(env)
    if total > MAX_STRINGS_BYTES:
        raise invalid(
            field,
            f"and env take {total} bytes together; the kernel takes {MAX_STRINGS_BYTES}."
            " Pass data by stdin or files",
        )


def text_or_bytes(value: object, field: str) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode()
    raise invalid(field, f"must be text or bytes, not {show(value)}")


def _is_string(data: object) -> bool:
    """Whether execve takes `data` as one string."""
    return type(data) is bytes and b"\0" not in data and len(data) <= MAX_STRING_BYTES


def check_string(value: object, field: str) -> bytes:
    """`value` as a string for execve. Raises RequestError."""
    data = text_or_bytes(value, field)
    if b"\0" in data:
        raise invalid(field, "must not hold a NUL character")
    if len(data) > MAX_STRING_BYTES:
        raise invalid(field, f"must be at most {MAX_STRING_BYTES} bytes; pass it by stdin or files")
    return data


def check_argv(argv: list[Any], at: str) -> tuple[bytes, ...]:
    checked = tuple([value.encode() if type(value) is str else value for value in argv])
    for n, data in enumerate(checked):
        if not _is_string(data):  # The usual case pays for no field name.
            check_string(argv[n], f"{at}argv[{n}]")
    if not checked or not checked[0]:
        raise invalid(f"{at}argv", "must name a program first")
    return checked


def check_env(env: dict[str, Any], at: str) -> tuple[bytes, ...]:
    strings = []
    for name, value in env.items():
        if not name or "=" in name or "\0" in name:
            raise invalid(f"{at}env", f"{show(name)} cannot be the name of a variable")
        data = value.encode() if type(value) is str else value
        if not _is_string(data):
            check_string(value, f"{at}env[{show(name)}]")
        strings.append(name.encode() + b"=" + data)
    return tuple(strings)


def _cwd(cwd: str, at: str) -> bytes:
    data = check_string(cwd, f"{at}cwd")
    if len(data) >= names.MAX_PATH_BYTES:
        raise invalid(f"{at}cwd", f"must be shorter than {names.MAX_PATH_BYTES} bytes")
    return data


_files_decoder = msgspec.msgpack.Decoder(dict[str, Any] | None)


def _files(raw: Raw, field: str) -> tuple[InputFile, ...]:
    try:
        files = _files_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise explain(exc, raw, prefix="$", field=field) from exc
    if files is None:
        return ()
    declared = _map_length(raw)
    if declared > MAX_FILES:
        raise invalid(field, f"must be at most {MAX_FILES} files, not {declared}")
    if declared != len(files):
        raise invalid(field, "names one file twice")
    checked = tuple([check_file(name, value, field) for name, value in files.items()])
    both = names.file_and_directory(files) if len(files) > 1 else None
    if both is not None:
        raise invalid(f"{field}[{show(both)}]", "is both a file and a directory")
    return checked


def _map_length(raw: Raw) -> int:
    """Entries of a MessagePack map, doubles included."""
    head = bytes(memoryview(raw)[:5])
    if head[0] < 0x90:
        return head[0] & 0x0F
    return int.from_bytes(head[1:3] if head[0] == 0xDE else head[1:5], "big")


def check_file(name: str, value: object, field: str) -> InputFile:
    try:
        path = names.check_name(name)
    except names.BadName as exc:
        raise invalid(f"{field}[{show(name)}]", str(exc)) from None
    if type(value) is bytes:
        return InputFile(path, DEFAULT_FILE_MODE, value)
    if type(value) is str:
        return InputFile(path, DEFAULT_FILE_MODE, value.encode())
    at = f"{field}[{show(name)}]"
    if type(value) is not dict:
        raise invalid(at, f"must be text, bytes or {{data, mode}}, not {show(value)}")
    unknown = value.keys() - {"data", "mode"}
    if unknown or "data" not in value:
        raise invalid(at, "must have data, may have mode, and nothing else")
    mode = DEFAULT_FILE_MODE if value.get("mode") is None else value["mode"]
    if type(mode) is not int or not 0 <= mode <= 0o777:
        raise invalid(f"{at}.mode", f"must be permission bits, 0 to 0o777, not {show(mode)}")
    return InputFile(path, mode, text_or_bytes(value["data"], f"{at}.data"))


def check_patterns(patterns: list[str], field: str) -> tuple[bytes, ...]:
    if len(patterns) > MAX_PATTERNS:
        raise invalid(field, f"must be at most {MAX_PATTERNS} patterns, not {len(patterns)}")
    checked = []
    for n, pattern in enumerate(patterns):
        try:
            checked.append(names.check_name(pattern))
        except names.BadName as exc:
            raise invalid(f"{field}[{n}]", str(exc)) from None
    return tuple(checked)


def _mounts(mounts: list[str], field: str) -> tuple[str, ...]:
    if len(mounts) > MAX_MOUNTS or len(set(mounts)) != len(mounts):
        raise invalid(field, f"must be at most {MAX_MOUNTS} names, each once")
    return tuple(mounts)


def check_tty(tty: bool | WindowSize | None) -> WindowSize | None:
    if isinstance(tty, WindowSize):
        return tty
    return WindowSize() if tty else None
