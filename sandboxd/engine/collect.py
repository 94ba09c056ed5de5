"""The collected stream: what the collecting process wrote, as files.

That process runs in the sandbox where the job ran, so the stream is treated as hostile: every
length is compared with what is there, every name must be a plain relative path.
"""

from typing import Final, NamedTuple

import msgspec

from sandboxd.engine import wire
from sandboxd.engine.pieces import part
from sandboxd.protocol.limits import JobLimits

# Heads and names of the entries come on top of the files' bytes.
OVERHEAD_BYTES: Final = 4 * 1024 * 1024
_CPU_TIME_NS: Final = 10_000_000_000
_WALL_TIME_NS: Final = 20_000_000_000
# The collecting process itself, and the page cache of what it reads.
_MEMORY_BYTES: Final = 32 * 1024 * 1024
_MAX_PATH: Final = 4096
_PARTS_REFUSED: Final = frozenset({b"", b".", b".."})


class Collected(NamedTuple):
    """Files by name (bytes where a name is not UTF-8), and whether any is missing."""

    files: dict[str | bytes, bytes]
    truncated: bool


def limits(job: JobLimits, most: int) -> JobLimits:
    """The limits of the collecting process for at most ``most`` bytes of files.

    The stream is memory of the job's group, next to the files themselves.
    """
    return msgspec.structs.replace(
        job,
        cpu_time_ns=_CPU_TIME_NS,
        wall_time_ns=_WALL_TIME_NS,
        memory_bytes=job.memory_bytes + most + OVERHEAD_BYTES + _MEMORY_BYTES,
        file_size_bytes=most + OVERHEAD_BYTES,
    )


def parse(stream: bytes, most: int) -> Collected:
    """The files in ``stream``, at most ``most`` bytes of them together."""
    files: dict[str | bytes, bytes] = {}
    at, left = 0, most
    truncated = False
    while at + wire.COLLECTED.size <= len(stream):
        data_len, path_len, mode = wire.COLLECTED.unpack_from(stream, at)
        at += wire.COLLECTED.size
        if not path_len:
            return Collected(files, truncated or bool(mode))
        if path_len > _MAX_PATH or path_len + data_len > len(stream) - at:
            break
        path = stream[at : at + path_len]
        at += path_len
        if not _is_plain(path):
            break
        if data_len > left:
            truncated = True
        else:
            files[_name(path)] = part(stream, at, at + data_len)
            left -= data_len
        at += data_len
    return Collected(files, truncated=True)


def _is_plain(path: bytes) -> bool:
    return b"\0" not in path and _PARTS_REFUSED.isdisjoint(path.split(b"/"))


def _name(path: bytes) -> str | bytes:
    try:
        return path.decode()
    except UnicodeDecodeError:
        return path
