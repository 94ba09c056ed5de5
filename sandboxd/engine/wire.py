"""The helper's structs as bytes: the only module that touches the cffi extension.

The layouts are written down once more here, for `struct`, because packing through cffi objects
takes ten times as long; at import each is compared with what the C compiler made of the header,
field by field.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sandboxd._native import ffi as _ffi
from sandboxd._native import lib as _lib
from sandboxd.protocol.jobs import InputFile

ffi: Any = _ffi
lib: Any = _lib

ABI: Final[int] = lib.SBX_ABI
INLINE_BLOB: Final[int] = lib.SBX_INLINE_BLOB
INLINE_OUTPUT: Final[int] = lib.SBX_INLINE_OUTPUT
MAX_MOUNTS: Final[int] = lib.SBX_MAX_MOUNTS
MAX_SLOTS: Final[int] = lib.SBX_MAX_SLOTS
SLOT_UIDS: Final[int] = lib.SBX_SLOT_UIDS
MAX_ROOTS: Final[int] = lib.SBX_MAX_ROOTS

MSG_JOB: Final[int] = lib.SBX_MSG_JOB
MSG_KILL: Final[int] = lib.SBX_MSG_KILL
MSG_SIGNAL: Final[int] = lib.SBX_MSG_SIGNAL
MSG_RELEASE: Final[int] = lib.SBX_MSG_RELEASE
MSG_STATS: Final[int] = lib.SBX_MSG_STATS
MSG_ROOT: Final[int] = lib.SBX_MSG_ROOT
MSG_UNROOT: Final[int] = lib.SBX_MSG_UNROOT
MSG_HELLO: Final[int] = lib.SBX_MSG_HELLO
MSG_RESULT: Final[int] = lib.SBX_MSG_RESULT
MSG_STATS_IS: Final[int] = lib.SBX_MSG_STATS_IS
MSG_SLOT_ERROR: Final[int] = lib.SBX_MSG_SLOT_ERROR
MSG_GONE: Final[int] = lib.SBX_MSG_GONE

REASON_EXITED: Final[int] = lib.SBX_REASON_EXITED
REASON_SIGNALED: Final[int] = lib.SBX_REASON_SIGNALED
REASON_CPU_TIME: Final[int] = lib.SBX_REASON_CPU_TIME
REASON_WALL_TIME: Final[int] = lib.SBX_REASON_WALL_TIME
REASON_MEMORY: Final[int] = lib.SBX_REASON_MEMORY
REASON_OUTPUT: Final[int] = lib.SBX_REASON_OUTPUT
REASON_CANCELLED: Final[int] = lib.SBX_REASON_CANCELLED
REASON_SETUP: Final[int] = lib.SBX_REASON_SETUP
REASON_HELPER: Final[int] = lib.SBX_REASON_HELPER

# After these it cannot be told whether the job ever had its slot.
MAY_NOT_HAVE_STARTED: Final = frozenset({REASON_CANCELLED, REASON_SETUP, REASON_HELPER})

MODE_RECYCLED: Final[int] = lib.SBX_MODE_RECYCLED
MODE_FRESH: Final[int] = lib.SBX_MODE_FRESH

JOB_LOOPBACK: Final[int] = lib.SBX_JOB_LOOPBACK
JOB_TTY: Final[int] = lib.SBX_JOB_TTY
JOB_ORDER: Final[int] = lib.SBX_JOB_ORDER
JOB_HOLD: Final[int] = lib.SBX_JOB_HOLD
JOB_COLLECT: Final[int] = lib.SBX_JOB_COLLECT
JOB_WARM: Final[int] = lib.SBX_JOB_WARM
JOB_NEXT_GUEST: Final[int] = lib.SBX_JOB_NEXT_GUEST
JOB_NO_LOCKS: Final[int] = lib.SBX_JOB_NO_LOCKS
JOB_PASSED: Final[int] = lib.SBX_JOB_PASSED

FD_BLOB: Final[int] = lib.SBX_FD_BLOB
FD_STDIN: Final[int] = lib.SBX_FD_STDIN
FD_STDOUT: Final[int] = lib.SBX_FD_STDOUT
FD_STDERR: Final[int] = lib.SBX_FD_STDERR
FD_RESULT: Final[int] = lib.SBX_FD_RESULT

MEMORY_V2_PEAK: Final[int] = lib.SBX_MEMORY_V2_PEAK
MEMORY_V1_MAX: Final[int] = lib.SBX_MEMORY_V1_MAX

RESULT_STDOUT_TRUNCATED: Final[int] = lib.SBX_RESULT_STDOUT_TRUNCATED
RESULT_STDERR_TRUNCATED: Final[int] = lib.SBX_RESULT_STDERR_TRUNCATED
RESULT_MEMFD: Final[int] = lib.SBX_RESULT_MEMFD
RESULT_HELD: Final[int] = lib.SBX_RESULT_HELD
RESULT_LOST: Final[int] = lib.SBX_RESULT_LOST

STEP_BLOB: Final[int] = lib.SBX_STEP_BLOB
STEP_FILE: Final[int] = lib.SBX_STEP_FILE
STEP_STDIN: Final[int] = lib.SBX_STEP_STDIN
STEP_CWD: Final[int] = lib.SBX_STEP_CWD
STEP_TTY: Final[int] = lib.SBX_STEP_TTY
STEP_EXEC: Final[int] = lib.SBX_STEP_EXEC
STEP_OUTPUT: Final[int] = lib.SBX_STEP_OUTPUT
STEP_INTERPRETER: Final[int] = lib.SBX_STEP_INTERPRETER
STEP_LIMITS: Final[int] = lib.SBX_STEP_LIMITS
STEP_COLLECT: Final[int] = lib.SBX_STEP_COLLECT

_SEGMENT_STDERR: Final = 1 << 31

_LIMITS: Final = (
    ("cpu_time_ns", "Q"),
    ("wall_time_ns", "Q"),
    ("memory_bytes", "Q"),
    ("output_bytes", "Q"),
    ("file_size_bytes", "Q"),
    ("disk_bytes", "Q"),
    ("stack_bytes", "Q"),
    ("disk_inodes", "I"),
    ("processes", "I"),
    ("open_files", "I"),
    ("cpu", "I"),
)
LIMIT_NAMES: Final = tuple(name for name, _ in _LIMITS[:-1])

_JOB: Final = (
    ("type", "I"),
    ("flags", "I"),
    ("job_id", "Q"),
    ("after", "Q"),
    ("tenant", "I"),
    ("partition", "I"),
    ("mode", "I"),
    ("mounts", "I"),
    ("fd_mask", "I"),
    ("blob_len", "I"),
    ("root", "I"),
    ("umask", "I"),
    ("next_memory", "Q"),
)


def _layout(name: str, fields: Sequence[tuple[str, str]], extra: str = "") -> struct.Struct:
    """A `struct.Struct` for a C struct, proved to have the compiler's offsets and size."""
    codes = ""
    for field, code in fields:
        offset = struct.calcsize("=" + codes)
        if ffi.offsetof(f"struct {name}", field) != offset:
            raise ImportError(f"sandboxd._native has another layout of {name}.{field}; rebuild it")
        codes += code
    layout = struct.Struct("=" + codes + extra)
    if ffi.sizeof(f"struct {name}") != layout.size:
        raise ImportError(f"sandboxd._native has another size of {name}; rebuild it")
    return layout


_LIMIT_CODES: Final = "".join(code for _, code in _LIMITS)
_layout("sbx_limits", _LIMITS)
JOB: Final = _layout("sbx_job", _JOB, _LIMIT_CODES)
CONTROL: Final = _layout("sbx_control", (("type", "I"), ("value", "I"), ("job_id", "Q")))
BLOB: Final = _layout(
    "sbx_blob", (("argc", "I"), ("envc", "I"), ("nfiles", "I"), ("stdin_len", "I"))
)
BLOB_FILE: Final = _layout("sbx_blob_file", (("data_len", "Q"), ("path_len", "I"), ("mode", "I")))
COLLECTED: Final = _layout("sbx_collected", (("data_len", "Q"), ("path_len", "I"), ("mode", "I")))


class HelperResult(NamedTuple):
    """struct sbx_result."""

    type: int
    reason: int
    job_id: int
    cpu_time_ns: int
    wall_time_ns: int
    memory_bytes: int
    memory_peak_bytes: int
    stdout_len: int
    stderr_len: int
    stride: int
    exit_code: int
    signal: int
    step: int
    error: int
    flags: int
    memory_source: int
    segments: int
    process_limit_hits: int


class Hello(NamedTuple):
    """struct sbx_hello."""

    type: int
    abi: int
    slots: int
    cgroup_version: int
    recycles: int
    pid: int


class SlotError(NamedTuple):
    """struct sbx_slot_error."""

    type: int
    step: int
    error: int
    retry_ms: int


class Stats(NamedTuple):
    """struct sbx_stats."""

    type: int
    ready: int
    running: int
    preparing: int
    held: int
    waiting: int
    warm: int
    lost: int
    jobs: int
    slots_made: int
    slots_recycled: int
    slots_retired: int


_RESULT_CODES: Final = "IIQQQQQQQQiiIiIIII"
RESULT: Final = _layout("sbx_result", tuple(zip(HelperResult._fields, _RESULT_CODES, strict=True)))
HELLO: Final = _layout("sbx_hello", tuple(zip(Hello._fields, "IIIIII", strict=True)))
SLOT_ERROR: Final = _layout("sbx_slot_error", tuple(zip(SlotError._fields, "IIiI", strict=True)))
STATS: Final = _layout("sbx_stats", tuple(zip(Stats._fields, "IIIIIIIIQQQQ", strict=True)))
_TYPE: Final = struct.Struct("=I")

# The largest message of the helper: a result with its output inline.
MAX_MESSAGE: Final[int] = RESULT.size + INLINE_OUTPUT
# Handed over on the control socket with each new work socket: how often the worker was restarted.
RESTARTS: Final = struct.Struct("=I")


def blob_parts(
    argv: Sequence[bytes],
    env: Sequence[bytes] = (),
    cwd: bytes = b"",
    files: Sequence[InputFile] = (),
    stdin: bytes = b"",
) -> list[bytes]:
    """What only the job's own process reads, in parts. The strings must be free of NUL."""
    parts = [BLOB.pack(len(argv), len(env), len(files), len(stdin))]
    parts.append(b"\0".join((*argv, *env, cwd, b"")))
    for file in files:
        parts.append(BLOB_FILE.pack(len(file.data), len(file.path) + 1, file.mode))
        parts += (file.path, b"\0", file.data)
    parts.append(stdin)
    return parts


def pack_control(kind: int, job_id: int, value: int = 0) -> bytes:
    """KILL, SIGNAL, RELEASE, STATS, ROOT or UNROOT."""
    return CONTROL.pack(kind, value, job_id)


def gone_job(message: memoryview) -> int:
    """Of MSG_GONE: the job's number."""
    return int(CONTROL.unpack_from(message)[2])


def message_type(message: memoryview) -> int:
    return int(_TYPE.unpack_from(message)[0])


def unpack_result(message: memoryview) -> HelperResult:
    return HelperResult._make(RESULT.unpack_from(message))


def unpack_hello(message: memoryview) -> Hello:
    return Hello._make(HELLO.unpack_from(message))


def unpack_slot_error(message: memoryview) -> SlotError:
    return SlotError._make(SLOT_ERROR.unpack_from(message))


def unpack_stats(message: memoryview) -> Stats:
    return Stats._make(STATS.unpack_from(message))


def unpack_segments(data: bytes) -> list[tuple[bool, int]]:
    """The order of arrival: (whether it is stderr, how many bytes)."""
    return [
        (bool(word & _SEGMENT_STDERR), word & ~_SEGMENT_STDERR)
        for (word,) in struct.iter_unpack("=I", data)
    ]


def step_name(step: int) -> str:
    return str(ffi.string(lib.sbx_step_name(step)).decode())


def step_hint(step: int) -> str:
    return str(ffi.string(lib.sbx_step_hint(step)).decode())


def unpack_filters() -> tuple[bytes, ...]:
    """The seccomp programs of the child that unpacks, in the order of `sandboxd.unpack.seccomp`."""
    return tuple(
        _filter(which)
        for which in (lib.SBX_FILTER_BASE, lib.SBX_FILTER_NO_PROCESS, lib.SBX_FILTER_NO_PROGRAM)
    )


def _filter(which: int) -> bytes:
    size = ffi.new("uint32_t *")
    program = lib.sbx_unpack_filter(which, size)
    return bytes(ffi.buffer(program, size[0]))
