"""What is taken: every packing, modes, times, links, layers."""

import hashlib
import os
import stat
import tarfile

import pytest
import trio
from unpack_place import SMALL, Place

from sandboxd.protocol.errors import RequestError
from sandboxd.unpack.bounds import Options
from sandboxd.unpack.process import ChecksumMismatch, unpack
from support.archives import END, PACKERS, archive, member, pax


def _directory(name: str, mode: int = 0o755) -> bytes:
    return member(name, kind=tarfile.DIRTYPE, mode=mode)


def _symlink(name: str, target: str) -> bytes:
    return member(name, kind=tarfile.SYMTYPE, link=target)


def _hardlink(name: str, target: str) -> bytes:
    return member(name, kind=tarfile.LNKTYPE, link=target)


@pytest.mark.parametrize("packing", PACKERS)
async def test_every_packing(place: Place, packing: str) -> None:
    plain = archive(
        _directory("./"),
        _directory("./a/"),
        member("./a/file", b"text"),
        member("made/on/the/way", b"too"),
        _symlink("a/link", "../made"),
        _hardlink("hard", "a/file"),
    )
    data = PACKERS[packing](plain)
    done = await place.unpack(data)
    assert place.tree() == {
        "a": "/",
        "a/file": "text",
        "a/link": "->../made",
        "hard": "text",
        "made": "/",
        "made/on": "/",
        "made/on/the": "/",
        "made/on/the/way": "too",
    }
    assert (done.files, done.bytes, done.archive_bytes) == (4, 7, len(data))
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    assert [phase for phase, _, _ in place.progress][:1] == ["download"]
    assert ("unpack", 0, len(data)) in place.progress


async def test_modes_and_times(place: Place) -> None:
    await place.unpack(
        archive(
            member("set-id", mode=0o6777, mtime=1_000_000_000),
            member("nothing", mode=0o000),
            _directory("shut", mode=0o000),
            member("shut/in", b"x", mode=0o755),
            _directory("sticky", mode=0o3777),
        )
    )
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in place.root.rglob("*")}
    assert modes == {
        "set-id": 0o755,
        "nothing": 0o400,
        "shut": 0o700,
        "in": 0o755,
        "sticky": 0o755,
    }
    assert (place.root / "set-id").stat().st_mtime == 1_000_000_000
    assert (place.root / "shut").stat().st_mtime == 0


async def test_long_and_strange_names(place: Place) -> None:
    long = "/".join(["d" * 200] * 5)
    await place.unpack(
        archive(
            member(long, b"far"),
            member(b"\xff\xfe", b"bytes"),
            member("new\nline", b"2"),
            pax([("path", "ünï/\u00e9"), ("mtime", "12.5")], member("x", b"pax")),
        )
    )
    assert (place.root / long).read_bytes() == b"far"
    assert os.fsencode(place.root) + b"/\xff\xfe" in [
        os.path.join(os.fsencode(place.root), name) for name in os.listdir(os.fsencode(place.root))
    ]
    assert (place.root / "ünï" / "\u00e9").stat().st_mtime == 12


async def test_links_that_stay_inside(place: Place) -> None:
    await place.unpack(
        archive(
            _symlink("a/b/up", "../../c"),
            _symlink("dangling", "nowhere"),
            _symlink("absolute", "/piston/packages/x/1.0.0/a"),
            _symlink("loop", "loop"),
            member("c/d", b"1"),
        ),
        prefix="/piston/packages/x/1.0.0",
    )
    assert place.tree()["absolute"] == "->/piston/packages/x/1.0.0/a"


async def test_a_root_file_system(place: Place) -> None:
    await place.unpack(
        archive(
            _symlink("bin", "/usr/bin"),
            _symlink("etc/mtab", "../../../proc/mounts"),
            member("dev/null", kind=tarfile.CHRTYPE),
            member("run/fifo", kind=tarfile.FIFOTYPE),
        ),
        any_links=True,
        skip_devices=True,
    )
    assert place.tree() == {"bin": "->/usr/bin", "etc": "/", "etc/mtab": "->../../../proc/mounts"}


async def test_layers(place: Place) -> None:
    await place.unpack(
        archive(
            member("gone", b"1"),
            member("kept", b"1"),
            member("dir/old", b"1"),
            member("dir/sub/old", b"1"),
            member("becomes-directory", b"1"),
            member("becomes-file/x", b"1"),
            _symlink("becomes-real", "kept"),
        )
    )
    await place.unpack(
        archive(
            member(".wh.gone"),
            member("kept", b"22"),
            member("dir/sub/new", b"2"),
            member("dir/new", b"2"),
            member("dir/.wh..wh..opq"),
            _directory("becomes-directory"),
            member("becomes-directory/x", b"2"),
            member("becomes-file", b"2"),
            member("becomes-real", b"2"),
            member("other/.wh.never-there"),
            member(".wh..wh.plnk", b"aufs"),
        ),
        layer=True,
    )
    assert place.tree() == {
        "kept": "22",
        "dir": "/",
        "dir/new": "2",
        "dir/sub": "/",
        "dir/sub/new": "2",
        "becomes-directory": "/",
        "becomes-directory/x": "2",
        "becomes-file": "2",
        "becomes-real": "2",
        "other": "/",
    }
    assert not (place.root / "becomes-real").is_symlink()


async def test_a_checksum(place: Place) -> None:
    data = archive(member("file", b"text"))
    right = hashlib.sha256(data).hexdigest()
    with pytest.raises(ChecksumMismatch) as error:
        await place.unpack(data, sha256="0" * 64)
    assert error.value.got == right
    assert place.tree() == {}, "nothing is unpacked before the checksum is right"
    await place.unpack(data, sha256=right)


async def test_through_a_pipe(place: Place) -> None:
    reader, writer = os.pipe()
    data = archive(member("file", b"text" * 100_000))
    root, spool = (
        os.open(place.root, os.O_RDONLY),
        os.open(place.base / "spool", os.O_RDWR | os.O_CREAT),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, _write_all, writer, data)
        done = await unpack(
            reader, root, spool=spool, bounds=SMALL, options=Options(), progress=lambda *_: None
        )
    assert done.bytes == 400_000
    for fd in (reader, root, spool):
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    with open(fd, "wb") as file:
        file.write(data)


async def test_a_pipe_that_stalls_and_one_that_is_cancelled(place: Place) -> None:
    reader, writer = os.pipe()
    root, spool = (
        os.open(place.root, os.O_RDONLY),
        os.open(place.base / "spool", os.O_RDWR | os.O_CREAT),
    )
    try:
        with pytest.raises(RequestError, match="nothing of the archive came for 1 s"):
            await unpack(
                reader, root, spool=spool, bounds=SMALL, options=Options(), progress=lambda *_: None
            )
        with trio.move_on_after(0.2) as scope:
            await unpack(
                reader, root, spool=spool, bounds=SMALL, options=Options(), progress=lambda *_: None
            )
        assert scope.cancelled_caught
    finally:
        for fd in (reader, writer, root, spool):
            os.close(fd)


async def test_only_a_file_goes_without_spooling(place: Place) -> None:
    reader, writer = os.pipe()
    root = os.open(place.root, os.O_RDONLY)
    try:
        with pytest.raises(RequestError, match="it is not a regular file"):
            await unpack(
                reader, root, spool=None, bounds=SMALL, options=Options(), progress=lambda *_: None
            )
    finally:
        for fd in (reader, writer, root):
            os.close(fd)


async def test_an_empty_archive(place: Place) -> None:
    assert (await place.unpack(END)).files == 0
