"""Archives that no honest program makes, byte by byte where tarfile would not."""

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from typing import Final

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)

PACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: _zstd(data),
}


def member(
    name: str | bytes,
    data: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    link: str | bytes = b"",
    *,
    mode: int = 0o644,
    size: int | None = None,
    mtime: int = 0,
) -> bytes:
    """One member with exactly these fields; ``size`` is what the header claims."""
    if isinstance(name, str):
        name = name.encode()
    if isinstance(link, str):
        link = link.encode()
    before = b""
    if len(name) > 100:
        before += _long(tarfile.GNUTYPE_LONGNAME, name)
        name = name[:100]
    if len(link) > 100:
        before += _long(tarfile.GNUTYPE_LONGLINK, link)
        link = link[:100]
    claimed = len(data) if size is None else size
    return before + header(name, claimed, kind, link, mode, mtime) + _padded(data)


def header(
    name: bytes, size: int, kind: bytes, link: bytes = b"", mode: int = 0o644, mtime: int = 0
) -> bytes:
    """A header block with a right checksum."""
    fields = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0%07o\0" % (0, 0),
            _number(size),
            b"%011o\0" % mtime,
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
        )
    ).ljust(BLOCK, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _number(value: int) -> bytes:
    """Octal, or in base 256 what that is too short for."""
    if 0 <= value < 8**11:
        return b"%011o\0" % value
    return (b"\xff" if value < 0 else b"\x80") + value.to_bytes(11, "big", signed=True)


def archive(*members: bytes) -> bytes:
    """The members and the end mark."""
    return b"".join(members) + END


def pax(records: Iterable[tuple[str, str]], then: bytes) -> bytes:
    """An extended header in front of a member."""
    text = b"".join(_record(key.encode() + b"=" + value.encode()) for key, value in records)
    return header(b"pax", len(text), tarfile.XHDTYPE) + _padded(text) + then


def sparse(name: str, size: int) -> bytes:
    """A file of ``size`` bytes that are all hole, as GNU tar writes it."""
    made = tarfile.TarInfo(name)
    made.type = tarfile.GNUTYPE_SPARSE
    made.size = 0
    raw = bytearray(made.tobuf(tarfile.GNU_FORMAT))
    raw[483:495] = b"%011o\0" % size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def zeros(size: int) -> bytes:
    """A gzipped archive with one file of ``size`` zeros, made without holding it."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        file.write(header(b"zeros", size, tarfile.REGTYPE))
        for _ in range(size // (1 << 20)):
            file.write(bytes(1 << 20))
        file.write(END)
    return packed.getvalue()


def _record(pair: bytes) -> bytes:
    length = len(pair) + 2
    while len(str(length)) + 2 + len(pair) != length:
        length = len(str(length)) + 2 + len(pair)
    return b"%d %s\n" % (length, pair)


def _long(kind: bytes, text: bytes) -> bytes:
    return header(b"././@LongLink", len(text) + 1, kind) + _padded(text + b"\0")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout
