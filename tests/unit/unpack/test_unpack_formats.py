"""Zip archives and squashfs images: what is taken, and what is refused, by the real child."""

import contextlib
import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unpack_place import MIB, Place

from sandboxd.protocol.errors import RequestError
from sandboxd.unpack import lz
from sandboxd.unpack.bounds import Bounds, Options
from sandboxd.unpack.refused import Refused
from sandboxd.unpack.source import DAMAGED
from sandboxd.unpack.squashed import SquashExtraction
from sandboxd.unpack.zipped import ZipExtraction
from support import squashfs_images as images
from support.archives import archive, member

TREE = {
    "control": "/task/hello.sh\n",
    "hello.sh": '#!/bin/sh\necho "Hello World!"\n',
    "sub": "/",
    "sub/hard": '#!/bin/sh\necho "Hello World!"\n',
    "sub/link": "->../hello.sh",
    "sub/zeros": "\0" * 9000,
    "text": "".join(
        f"{n} bottles of beer on the wall, {n} bottles of beer\n" for n in range(400, 0, -1)
    ),
}


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive whose members have these names, whatever they are."""
    return packed(*((named(name), data) for name, data in members), how=how)


def named(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6))
    made.filename = name  # As it is: also with a NUL.
    made.external_attr = mode << 16
    made.create_system = 3 if mode else 0
    return made


def packed(*members: tuple[zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w") as made:
        for info, data in members:
            made.writestr(info, data, how)
    return file.getvalue()


# -- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize("compressor", images.TREES)
async def test_every_compressor_of_squashfs(place: Place, compressor: str) -> None:
    done = await place.unpack(images.TREES[compressor], any_format=True)
    assert place.tree() == TREE
    assert (done.files, done.entries) == (6, 7)
    script = (place.root / "hello.sh").stat()
    assert stat.S_IMODE(script.st_mode) == 0o755
    assert script.st_mtime == 1600000000
    assert script.st_nlink == 2


@pytest.mark.parametrize(
    "how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
async def test_zip(place: Place, how: int) -> None:
    data = packed(
        (named("d/", 0o40750), b""),
        (named("d/hello.sh", 0o100755), b"text"),
        (named("made/on/the/way"), b"too"),
        (named("link", 0o120777), b"d/hello.sh"),
        (named("dos", 0), b"x"),
        how=how,
    )
    done = await place.unpack(data, any_format=True)
    assert place.tree() == {
        "d": "/",
        "d/hello.sh": "text",
        "dos": "x",
        "link": "->d/hello.sh",
        "made": "/",
        "made/on": "/",
        "made/on/the": "/",
        "made/on/the/way": "too",
    }
    assert (done.files, done.bytes) == (4, 8)
    modes = {name: stat.S_IMODE((place.root / name).stat().st_mode) for name in ("d", "d/hello.sh")}
    assert modes == {"d": 0o750, "d/hello.sh": 0o755}
    assert stat.S_IMODE((place.root / "dos").stat().st_mode) == 0o644
    assert (place.root / "dos").stat().st_mtime == 1577934246


async def test_tar_as_ever(place: Place) -> None:
    await place.unpack(archive(member("f", b"x")), any_format=True)
    assert place.tree() == {"f": "x"}


async def test_only_where_it_is_asked_for(place: Place) -> None:
    for data in (zipped(("f", b"x")), images.TREES["gzip"]):
        assert "damaged" in await place.refusal(data)


async def test_an_empty_zip(place: Place) -> None:
    assert (await place.unpack(packed(), any_format=True)).entries == 0


# -- zip: what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(("/etc/passwd", b"x")), "'/etc/passwd' is an absolute name"),
        (zipped(("../../precious", b"gone")), "'../../precious' has '..'"),
        (zipped(("a/../../precious", b"gone")), "has '..'"),
        (zipped(("f\0../../precious", b"x")), "NUL"),
        (zipped(("f", b"1"), ("f", b"2")), "'f' comes twice"),
        (zipped(("f", b"1"), ("f/x", b"2")), "beneath 'f'"),
        (zipped(("", b"x")), "no name"),
        (zipped((".", b"x")), "no name"),
        (zipped(("x" * 256, b"")), "more than 255 bytes"),
        (zipped(("/".join(["d"] * 33), b"")), "more than 32 levels"),
        (zipped(*((f"{n}", b"") for n in range(1001))), "more than 1000 members"),
        (packed((named("l", 0o120777), b"/etc/passwd")), "'l' is a link to '/etc/passwd'"),
        (packed((named("l", 0o120777), b"..")), "which leads out"),
        (packed((named("l", 0o120777), b"d"), (named("l/x"), b"x")), "beneath 'l'"),
        (packed((named("l", 0o120777), b"x" * 5000)), "impossible target"),
        (packed((named("l", 0o120777), b"")), "impossible target"),
        (packed((named("n", 0o020666), b"")), "'n' is a device"),
        (packed((named("n", 0o060666), b"")), "'n' is a device"),
        (packed((named("n", 0o010666), b"")), "'n' is a FIFO"),
        (packed((named("n", 0o140666), b"")), "'n' is of the unknown type"),
        (b"PK\3\4" * 300, "damaged"),
        (b"PK\5\6" + bytes(18), None),
    ],
)  # fmt: skip
async def test_a_member_of_a_zip(place: Place, data: bytes, words: str | None) -> None:
    if words is None:
        assert (await place.unpack(data, any_format=True)).entries == 0
        return
    refusal = await place.refusal(data, any_format=True)
    assert words in refusal, refusal
    assert "\n" not in refusal


async def test_bombs(place: Place) -> None:
    # 200 MiB of zeros in 200 KiB: more than all files may have together.
    bomb = zipped(*((f"{n}", bytes(50 * MIB)) for n in range(4)))
    assert "are larger than" in await place.refusal(bomb, any_format=True)
    # One file that is larger than it may be.
    assert "'big' is larger than" in await place.refusal(
        zipped(("big", bytes(2 * MIB))), any_format=True, file_bytes=MIB
    )
    # Members that share their bytes: small for its directory, endless for who believes it.
    assert "damaged" in await place.refusal(overlapping(200), any_format=True)


def overlapping(members: int) -> bytes:
    """Each entry of the directory at the end leads to the same bytes, which say one name."""
    once = zipped(("0", bytes(100_000)))
    start = once.index(b"PK\1\2")
    entry = once[start : once.index(b"PK\5\6")]
    directory = b"".join(
        entry[:28] + struct.pack("<H", 3) + entry[30:46] + b"%03d" % n for n in range(members)
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, members, members, len(directory), start, 0)
    return once[:start] + directory + end


async def test_a_zip_that_lies_about_a_size(place: Place) -> None:
    whole = zipped(("f", b"x" * 1000))
    directory = whole.index(b"PK\1\2")
    for at in (22, directory + 24):  # The plain size, in front of the member and in the directory.
        whole = whole[:at] + struct.pack("<I", 10) + whole[at + 4 :]
    assert "damaged" in await place.refusal(whole, any_format=True)


async def test_an_encrypted_zip(place: Place) -> None:
    whole = bytearray(zipped(("f", b"secret")))
    whole[6] |= 1
    whole[whole.index(b"PK\1\2") + 8] |= 1
    assert "'f' is encrypted" in await place.refusal(bytes(whole), any_format=True)


async def test_an_unknown_method(place: Place) -> None:
    whole = bytearray(zipped(("f", b"x")))
    for at in (8, whole.index(b"PK\1\2") + 10):
        whole[at : at + 2] = struct.pack("<H", 97)
    assert "not taken" in await place.refusal(bytes(whole), any_format=True)


# -- squashfs: what is refused -------------------------------------------------------------------


def _changed(old: bytes, new: bytes) -> bytes:
    assert images.PLAIN.count(old) == 1
    return images.PLAIN.replace(old, new)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (images.PLAIN, "'ll' is a link to '../../precious', which leads out"),
        (_changed(b"xx", b".."), "'..' is no name of a file"),
        (_changed(b"aXb", b"a/b"), "'a/b' is no name of a file"),
        (_changed(b"aXb", b"a\0b"), "NUL"),
        (_changed(b"aXb", b"\0\0\0"), "NUL"),
        (images.CHARACTER_DEVICE, "'null' is a device"),
        (images.BLOCK_DEVICE, "'disk' is a device"),
        (images.FIFO, "'fifo' is a FIFO"),
        (images.ZSTD, "packed with zstd; pack it with mksquashfs -comp gzip"),
        (b"hsqs", "it ends too early"),
        (b"hsqs" + bytes(92), "no squashfs image of version 4.0"),
        (images.TREES["gzip"][:500], "ends too early"),
    ],
)
async def test_an_image(place: Place, data: bytes, words: str) -> None:
    refusal = await place.refusal(data, any_format=True)
    assert words in refusal, refusal


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"members": 3}, "more than 3 members"),
        ({"file_bytes": 8000}, "is larger than 8000 bytes"),
        ({"total_bytes": 20000}, "are larger than 20000 bytes"),
        ({"depth": 1}, "more than 1 levels deep"),
    ],
)
async def test_bounds_of_an_image(place: Place, bound: dict[str, int], words: str) -> None:
    assert words in await place.refusal(images.TREES["xz"], any_format=True, **bound)


async def test_a_directory_that_is_in_itself(place: Place) -> None:
    """Found by following the first entry's inode: an image of one directory in another."""
    root = struct.unpack_from("<Q", images.PLAIN, 32)[0]
    table = struct.unpack_from("<Q", images.PLAIN, 64)[0]
    entries = images.PLAIN.index(b"aXb") - 8
    assert (root >> 16, images.PLAIN[entries + 4 : entries + 6]) == (0, b"\2\0")
    looped = bytearray(images.PLAIN)
    looped[entries : entries + 2] = struct.pack("<H", root & 0xFFFF)
    assert table < len(looped)
    assert "levels deep" in await place.refusal(bytes(looped), any_format=True)


@pytest.mark.parametrize("damage", range(6))
async def test_garbage(place: Place, damage: int) -> None:
    whole = bytearray(images.TREES["lzo"])
    at = 96 + damage * 100
    whole[at : at + 50] = os.urandom(50)
    assert await _refused_or_done(place, bytes(whole))
    assert place.outside.read_text() == "untouched"


async def _refused_or_done(place: Place, data: bytes) -> bool:
    try:
        await place.unpack(data, any_format=True)
    except RequestError as error:
        return error.code == "invalid_argument"
    return True


# -- every image and every archive: taken, or refused with words ---------------------------------

_SMALL = Bounds(total_bytes=MIB, file_bytes=MIB, members=50, depth=8)


def _mutations(data: bytes) -> st.SearchStrategy[bytes]:
    def change(edits: list[tuple[int, int]]) -> bytes:
        changed = bytearray(data)
        for at, byte in edits:
            changed[at % len(changed)] = byte
        return bytes(changed)

    edit = st.tuples(st.integers(0, len(data.rstrip(b"\0"))), st.integers(0, 255))
    return st.lists(edit, min_size=1, max_size=8).map(change)


def _extract(
    kind: Callable[[int, Bounds, Options], SquashExtraction | ZipExtraction],
    data: bytes,
    root: Path,
) -> None:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        kind(fd, _SMALL, Options()).run(io.BytesIO(data))
    finally:
        os.close(fd)


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(*(_mutations(image) for image in (*images.TREES.values(), images.PLAIN))))
def test_changed_images(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = tmp_path_factory.mktemp("root") / "in" / "it"
    root.mkdir(parents=True)
    with contextlib.suppress(Refused, *DAMAGED):
        _extract(SquashExtraction, data, root)
    assert [path.name for path in root.parent.parent.iterdir()] == ["in"]


@settings(max_examples=300, deadline=None)
@given(data=_mutations(zipped(("a", b"x" * 50), ("d/b", b"y"), ("c", b"zz"))))
@pytest.mark.filterwarnings("ignore")
def test_changed_zips(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = tmp_path_factory.mktemp("root") / "in" / "it"
    root.mkdir(parents=True)
    with contextlib.suppress(Refused, *DAMAGED):
        _extract(ZipExtraction, data, root)
    assert [path.name for path in root.parent.parent.iterdir()] == ["in"]


@given(st.binary(max_size=200))
def test_decompressors_end(data: bytes) -> None:
    for unpack in (lz.lzo, lz.lz4):
        with contextlib.suppress(lz.BadData):
            assert len(unpack(data, 1000)) <= 1000
