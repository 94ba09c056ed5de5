"""A reader of squashfs images, version 4.0, that never lets the kernel near one.

An image is a superblock, the blocks of the files, and tables of *metadata*: inodes, directories,
where fragments (ends of files that share a block) lie. Metadata comes in blocks of 8 KiB, each
compressed alone; a position in it is (place of the block in the image, offset in the plain bytes).

Everything read here may be lies. Every read is of a stated size, at most one block at a time is
unpacked, and never to more than a block; how many inodes, names and bytes there may be is for the
caller to bound.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections import OrderedDict

from sandboxd.unpack import lz

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, NamedTuple
else:
    from typing import NamedTuple

MAGIC = b"hsqs"

_SUPERBLOCK = struct.Struct("<4s4I6H8Q")
_INODE = struct.Struct("<4H2I")
_DIRECTORY = struct.Struct("<2I2HI")
_LONG_DIRECTORY = struct.Struct("<4I2HI")
_FILE = struct.Struct("<4I")
_LONG_FILE = struct.Struct("<3Q4I")
_SYMLINK = struct.Struct("<2I")
_HEADER = struct.Struct("<3I")
_ENTRY = struct.Struct("<HhHH")
_FRAGMENT = struct.Struct("<Q2I")

_METADATA = 8192
_FRAGMENTS_EACH = _METADATA // _FRAGMENT.size
_NO_FRAGMENT = 0xFFFFFFFF
_PLAIN = 1 << 24  # A block of a file that is not compressed.
_PLAIN_METADATA = 1 << 15
_MAX_BLOCK = 1 << 20
_MAX_NAMES = 256  # Of one header in a directory.
_CACHED = 64
_MEMORY = 1 << 28  # `xz -9` needs 65 MiB.

DIRECTORY, FILE, SYMLINK = "directory", "file", "link"
_KINDS = {1: DIRECTORY, 2: FILE, 3: SYMLINK, 8: DIRECTORY, 9: FILE, 10: SYMLINK}
_OTHERS = {4: "a device", 5: "a device", 6: "a FIFO", 7: "a socket"}
_BASIC = 7  # A type above it is the longer form of the type that much below.


class BadImage(ValueError):
    """It is no image, or one that cannot be read here; the text says why."""


class Inode(NamedTuple):
    """One file, directory or link."""

    kind: str
    number: int
    mode: int
    mtime: int
    size: int
    """Of a file: bytes. Of a directory: of its list. Of a link: of its target."""
    block: int
    offset: int
    fragment: int = _NO_FRAGMENT
    after: tuple[int, int] = (0, 0)
    """The position behind the inode: a file's block sizes, a link's target."""


class Image:
    """One image; ``file`` can seek and stays the caller's."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises BadImage."""
        self._file = file
        self._cache: OrderedDict[int, tuple[bytes, int]] = OrderedDict()
        self._last_fragment: tuple[int, bytes] = (-1, b"")
        raw = self._read(0, _SUPERBLOCK.size)
        (magic, _, _, self._block, self._fragments, compressor, log, _, _, major, minor,
         self._root, _, _, _, self._inodes, self._directories, self._fragment_table, _,
        ) = _SUPERBLOCK.unpack(raw)  # fmt: skip
        if magic != MAGIC or (major, minor) != (4, 0):
            raise BadImage("it is no squashfs image of version 4.0")
        if not 4096 <= self._block <= _MAX_BLOCK or self._block != 1 << min(log, 32):
            raise BadImage(f"its blocks cannot have {self._block} bytes")
        self._unpack = _decompressor(compressor)

    def root(self) -> Inode:
        """The directory of everything. Raises BadImage."""
        found = self._inode(self._root >> 16, self._root & 0xFFFF)
        if found.kind != DIRECTORY:
            raise BadImage("its root is no directory")
        return found

    def entries(self, directory: Inode) -> Iterator[tuple[bytes, Inode]]:
        """(name, inode) of everything in a directory, names as they are. Raises BadImage."""
        left = directory.size - 3  # "." and ".." count as three bytes, and are not there.
        position = (self._directories + directory.block, directory.offset)
        while left > 0:
            raw, position = self._metadata(position, _HEADER.size)
            more, block, _ = _HEADER.unpack(raw)
            if more >= _MAX_NAMES:
                raise BadImage("a directory is damaged")
            left -= _HEADER.size
            for _ in range(more + 1):
                raw, position = self._metadata(position, _ENTRY.size)
                offset, _, _, length = _ENTRY.unpack(raw)
                name, position = self._metadata(position, length + 1)
                left -= _ENTRY.size + length + 1
                yield name, self._inode(block, offset)

    def target(self, link: Inode) -> bytes:
        """Where a symbolic link leads. Raises BadImage."""
        return self._metadata(link.after, link.size)[0]

    def blocks(self, file: Inode) -> Iterator[bytes]:
        """A file's bytes, a block at a time. Raises BadImage."""
        whole, rest = divmod(file.size, self._block)
        if file.fragment == _NO_FRAGMENT and rest:
            whole, rest = whole + 1, 0
        place, position = file.block, file.after
        for index in range(whole):
            raw, position = self._metadata(position, 4)
            stored = int.from_bytes(raw, "little")
            wanted = min(self._block, file.size - index * self._block)
            yield self._data(place, stored, wanted)
            place += stored & ~_PLAIN
        if rest:
            yield self._end(file, rest)

    def _end(self, file: Inode, size: int) -> bytes:
        if self._last_fragment[0] != file.fragment:
            self._last_fragment = (file.fragment, self._fragment(file.fragment))
        data = self._last_fragment[1][file.offset : file.offset + size]
        if len(data) != size:
            raise BadImage("a file's end is not where it should be")
        return data

    def _fragment(self, index: int) -> bytes:
        if index >= self._fragments:
            raise BadImage("a file's end is not where it should be")
        table = self._fragment_table + 8 * (index // _FRAGMENTS_EACH)
        block = int.from_bytes(self._read(table, 8), "little")
        offset = index % _FRAGMENTS_EACH * _FRAGMENT.size
        raw, _ = self._metadata((block, offset), _FRAGMENT.size)
        place, stored, _ = _FRAGMENT.unpack(raw)
        return self._data(place, stored, None)

    def _data(self, place: int, stored: int, wanted: int | None) -> bytes:
        """A block of files; `wanted` is its size where that is known."""
        if not stored:
            return bytes(wanted or 0)  # A hole.
        size = stored & ~_PLAIN
        if size > _MAX_BLOCK:
            raise BadImage("a block is too large")
        data = self._read(place, size)
        if not stored & _PLAIN:
            data = self._unpack(data, self._block)
        if len(data) > self._block or (wanted is not None and len(data) != wanted):
            raise BadImage("a block has not the size that it should have")
        return data

    # -- metadata ----------------------------------------------------------------------------

    def _inode(self, block: int, offset: int) -> Inode:
        position = (self._inodes + block, offset)
        raw, position = self._metadata(position, _INODE.size)
        type_, mode, _, _, mtime, number = _INODE.unpack(raw)
        kind = _KINDS.get(type_)
        if kind is None:
            other = _OTHERS.get(type_ - _BASIC if type_ > _BASIC else type_, "of no known type")
            return Inode(other, number, mode, mtime, 0, 0, 0)
        long = type_ > _BASIC
        if kind == DIRECTORY:
            size, start, offset = self._directory(position, long=long)
            return Inode(kind, number, mode, mtime, size, start, offset)
        if kind == SYMLINK:
            raw, position = self._metadata(position, _SYMLINK.size)
            return Inode(kind, number, mode, mtime, _SYMLINK.unpack(raw)[1], 0, 0, after=position)
        if long:
            raw, position = self._metadata(position, _LONG_FILE.size)
            start, size, _, _, fragment, offset, _ = _LONG_FILE.unpack(raw)
        else:
            raw, position = self._metadata(position, _FILE.size)
            start, fragment, offset, size = _FILE.unpack(raw)
        return Inode(kind, number, mode, mtime, size, start, offset, fragment, position)

    def _directory(self, position: tuple[int, int], *, long: bool) -> tuple[int, int, int]:
        """(size of its list, where that begins)."""
        if long:
            raw, _ = self._metadata(position, _LONG_DIRECTORY.size)
            _, size, start, _, _, offset, _ = _LONG_DIRECTORY.unpack(raw)
        else:
            raw, _ = self._metadata(position, _DIRECTORY.size)
            start, _, size, offset, _ = _DIRECTORY.unpack(raw)
        return size, start, offset

    def _metadata(self, position: tuple[int, int], size: int) -> tuple[bytes, tuple[int, int]]:
        """``size`` plain bytes from a position, and the position behind them."""
        place, offset = position
        found = b""
        while True:
            data, following = self._metadata_block(place)
            if offset > len(data) or (not data and size):
                raise BadImage("a table ends too early")
            piece = data[offset : offset + size - len(found)]
            found += piece
            if len(found) == size:
                return found, (place, offset + len(piece))
            place, offset = following, 0

    def _metadata_block(self, place: int) -> tuple[bytes, int]:
        """A block's plain bytes, and where the next one is."""
        if place in self._cache:
            self._cache.move_to_end(place)
            return self._cache[place]
        header = int.from_bytes(self._read(place, 2), "little")
        size = header & ~_PLAIN_METADATA
        if not 0 < size <= _METADATA:
            raise BadImage("a table is damaged")
        data = self._read(place + 2, size)
        if not header & _PLAIN_METADATA:
            data = self._unpack(data, _METADATA)
        self._cache[place] = (data, place + 2 + size)
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return self._cache[place]

    def _read(self, place: int, size: int) -> bytes:
        if place >= 1 << 63:
            raise BadImage("it ends too early")
        self._file.seek(place)
        data = self._file.read(size)
        if len(data) != size:
            raise BadImage("it ends too early")
        return data


def _decompressor(number: int) -> Callable[[bytes, int], bytes]:
    """The function for a compressor's number. Raises BadImage."""
    known: dict[int, Callable[[bytes, int], bytes]] = {
        1: _gzip, 2: _lzma, 3: lz.lzo, 4: _xz, 5: lz.lz4,
    }  # fmt: skip
    if number == 6:
        raise BadImage("it is packed with zstd; pack it with mksquashfs -comp gzip")
    if number not in known:
        raise BadImage(f"it is packed with the unknown compressor {number}")
    return known[number]


def _gzip(data: bytes, most: int) -> bytes:
    found = zlib.decompressobj()
    plain = found.decompress(data, most)
    if not found.eof:
        raise BadImage("a block is damaged")
    return plain


def _xz(data: bytes, most: int) -> bytes:
    return _of_lzma(data, most, lzma.FORMAT_XZ)


def _lzma(data: bytes, most: int) -> bytes:
    return _of_lzma(data, most, lzma.FORMAT_ALONE)


def _of_lzma(data: bytes, most: int, kind: int) -> bytes:
    found = lzma.LZMADecompressor(kind, memlimit=_MEMORY)
    plain = found.decompress(data, most)
    if not found.eof:
        # What says its size ends with it, and only then says that it has ended.
        plain += found.decompress(b"", 1)
    if not found.eof or len(plain) > most:
        raise BadImage("a block is damaged")
    return plain
