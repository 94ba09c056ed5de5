"""Archives made to do harm. Each is refused by name, or does none."""

import os
import select
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from unpack_place import MIB, Place

from sandboxd.protocol.errors import RequestError
from support.archives import BLOCK, PACKERS, archive, header, member, pax, sparse, zeros


def _symlink(name: str, target: str) -> bytes:
    return member(name, kind=tarfile.SYMTYPE, link=target)


def _hardlink(name: str, target: str) -> bytes:
    return member(name, kind=tarfile.LNKTYPE, link=target)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("/etc/passwd")], "'/etc/passwd' is an absolute name"),
        ([member("//x")], "'//x' is an absolute name"),
        ([member("../../precious", b"gone")], "'../../precious' has '..'"),
        ([member("a/../../precious", b"gone")], "has '..'"),
        ([member("..", kind=tarfile.DIRTYPE)], "has '..'"),
        ([pax([("path", "../../precious")], member("good", b"x"))], "has '..'"),
        ([pax([("path", "/etc/x")], member("good", b"x"))], "absolute"),
        # Through links, in any order and disguise.
        ([_symlink("l", "/etc"), member("l/passwd", b"x")], "beneath 'l'"),
        ([_symlink("l", "../.."), member("l/precious", b"x")], "beneath 'l'"),
        ([_symlink("l", "."), member("l/x", b"x")], "beneath 'l'"),
        ([_symlink("l", "../../precious"), member("l", b"x")], "'l' comes twice"),
        ([member("f", b"1"), member("f/x", b"x")], "beneath 'f'"),
        ([_symlink("d", ".."), member("d", kind=tarfile.DIRTYPE)], "'d' comes twice"),
        ([member("f", b"1"), member("./f", b"2")], "'f' comes twice"),
        ([member("f", b"1"), _symlink("f", "x")], "'f' comes twice"),
        ([_symlink("l", "/etc/passwd")], "'l' is a link to '/etc/passwd', which leads out"),
        ([_symlink("l", "..")], "which leads out"),
        ([_symlink("a/b", "../../x")], "which leads out"),
        ([_symlink("a/b", "c/../../../x")], "which leads out"),
        (
            # By name it stays inside; by way of the first link it does not.
            [_symlink("d/e/up", "../.."), _symlink("l", "d/e/up/../precious")],
            "'l' is a link to 'd/e/up/../precious', which leads out",
        ),
        (
            [_symlink("l", "s/../../x"), member("s", kind=tarfile.DIRTYPE)],
            "which leads out",
        ),
        ([_symlink("l", "later/.."), _symlink("later", "..")], "which leads out"),
        ([_symlink("l", "/piston/packages/x/1.0.0/../2.0.0")], "which leads out"),
        ([_symlink("l", "/piston/packages/x/1.0.00")], "which leads out"),
        ([_symlink("l", "")], "impossible target"),
        # Hard links.
        ([_hardlink("h", "../../precious")], "has '..'"),
        ([_hardlink("h", "/etc/passwd")], "absolute name"),
        ([_hardlink("h", "nothing")], "'h' is a link to 'nothing', which is no earlier file"),
        ([_symlink("l", "d"), _hardlink("h", "l/x")], "'l', which is not a directory"),
        ([member("d", kind=tarfile.DIRTYPE), _hardlink("h", "d")], "no earlier file"),
        ([_hardlink("h", "h")], "link to itself"),
        ([_hardlink("h", ".")], "link to the root"),
        ([_symlink("a/l", "../x"), _hardlink("l", "a/l")], "'l' is a link to '../x', which leads"),
        # What is no file.
        ([member("n", kind=tarfile.CHRTYPE)], "'n' is a device"),
        ([member("n", kind=tarfile.BLKTYPE)], "'n' is a device"),
        ([member("n", kind=tarfile.FIFOTYPE)], "'n' is a FIFO"),
        ([member("n", kind=b"Z")], "'n' is of the unknown type"),
        ([member("", b"x")], "no name"),
        ([member(".", b"x")], "no name"),
        # Too much of something.
        ([sparse("hole", 2**40)], "'hole' is a sparse file"),
        ([member("big", size=2**40)], "'big' is larger than"),
        ([member("x" * 256)], "a part of more than 255 bytes"),
        ([member("/".join(["d"] * 33))], "more than 32 levels deep"),
        ([member("/".join(["d" * 100] * 50))], "too long for a name"),
        ([pax([("path", "a\0b")], member("x"))], None),
        ([member(f"{n}") for n in range(1001)], "more than 1000 members"),
        ([header(b"x", 2 * MIB, tarfile.GNUTYPE_LONGNAME)], "a header of"),
        ([header(b"x", 2**33, tarfile.XHDTYPE)], "a header of"),
        ([header(b"x", -512, tarfile.REGTYPE)], "damaged"),
        ([pax([("size", "-1")], member("x", b"data"))], "damaged"),
        ([pax([("size", str(2**70))], member("x", b"data"))], "larger than"),
        ([pax([("GNU.sparse.map", "0,-1,5"), ("GNU.sparse.size", "9")], member("x"))], None),
        ([pax([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")], member("x", b"z"))], None),
    ],
)
async def test_a_member(place: Place, members: list[bytes], words: str | None) -> None:
    refusal = await place.refusal(archive(*members), prefix="/piston/packages/x/1.0.0")
    assert words is None or words in refusal, refusal
    assert refusal.startswith("archive: ")
    assert "\n" not in refusal


@pytest.mark.parametrize("packing", PACKERS)
async def test_damage(place: Place, packing: str) -> None:
    whole = PACKERS[packing](archive(member("file", os.urandom(100_000)), member("other", b"x")))
    for cut in (1, 7, 300, 40_000, len(whole) - 2000):
        assert await place.refusal(whole[:cut])
        (place.root / "file").unlink(missing_ok=True)


async def test_garbage(place: Place) -> None:
    for data in (
        b"",
        b"hello",
        os.urandom(5000),
        b"\x1f\x8b" + os.urandom(100),
        b"PK\x03\x04" * 300,
    ):
        assert "damaged" in await place.refusal(data)
    good = member("good", b"x")
    broken = bytearray(member("broken", b"x"))
    broken[150] ^= 1
    assert "damaged" in await place.refusal(archive(good, bytes(broken), good))


@pytest.mark.parametrize("size", [80 * MIB, 127 * MIB])
async def test_a_bomb_of_one_file(place: Place, size: int) -> None:
    data = zeros(size)
    assert len(data) < MIB
    refusal = await place.refusal(data, file_bytes=1 << 40, total_bytes=1 << 40)
    assert "more than 100 times its size" in refusal
    written = (place.root / "zeros").stat().st_size
    assert written <= 66 * MIB


async def test_a_bomb_behind_the_end(place: Place) -> None:
    """Nothing of it is a member; it is only read to the checksum."""
    data = PACKERS["gzip"](archive(member("x")) + bytes(100 * MIB))
    assert "more than 100 times" in await place.refusal(data)


async def test_a_bomb_of_many_files(place: Place) -> None:
    data = PACKERS["gzip"](archive(*(member(str(n), bytes(MIB)) for n in range(60))))
    refusal = await place.refusal(data, total_bytes=20 * MIB)
    assert "larger than 20971520 bytes together" in refusal
    assert sum(path.stat().st_size for path in place.root.iterdir()) <= 20 * MIB


async def test_a_bomb_of_directories_that_are_only_in_names(place: Place) -> None:
    data = archive(*(member("/".join([str(n), *"a" * 30])) for n in range(100)))
    assert "more than 1000 members" in await place.refusal(data)
    assert len(place.tree()) < 1050


async def test_too_large_as_it_comes(place: Place) -> None:
    data = archive(member("x", os.urandom(2 * MIB)))
    assert "larger than 1048576 bytes" in await place.refusal(data, archive_bytes=MIB)
    assert place.tree() == {}
    assert (place.base / "spool").stat().st_size <= MIB


async def test_headers_upon_headers(place: Place) -> None:
    """tarfile calls itself for each."""
    chain = b"".join(
        header(b"l", 2, tarfile.GNUTYPE_LONGNAME) + b"x\0".ljust(BLOCK, b"\0") for _ in range(5000)
    )
    assert "damaged" in await place.refusal(archive(chain + member("x")))


async def test_memory(place: Place) -> None:
    """xz may ask for a dictionary of 4 GiB."""
    import lzma

    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    data = lzma.compress(archive(member("x")), filters=filters)
    refusal = await place.refusal(data, memory_bytes=300 * MIB)
    assert "needs more than 314572800 bytes of memory" in refusal


async def test_time(place: Place) -> None:
    """Links through links, each of which leads through forty others."""
    hops = [_symlink(f"{n}", f"{n + 1}/../" * 400 + f"{n + 1}") for n in range(900)]
    started = time.monotonic()
    with pytest.raises(RequestError, match="takes more than 1 s of CPU time"):
        await place.unpack(archive(*hops), cpu_s=1)
    assert time.monotonic() - started < 20


async def test_in_a_layer_no_whiteout_leads_out(place: Place) -> None:
    for bad in (".wh...", ".wh..", "../.wh.x"):
        data = archive(member(bad))
        with pytest.raises(RequestError):
            await place.unpack(data, layer=True)
    await place.unpack(archive(_symlink("l", "../..")), any_links=True)
    refusal = await place.refusal(archive(member("l/.wh.precious")), layer=True, any_links=True)
    assert "beneath 'l'" in refusal
    refusal = await place.refusal(archive(member("l/.wh..wh..opq")), layer=True, any_links=True)
    assert "beneath 'l'" in refusal
    await place.unpack(archive(member("l", b"instead")), layer=True, any_links=True)
    assert (place.root / "l").read_text() == "instead"


async def test_in_a_layer_a_whiteout_is_no_larger_than_a_file(place: Place) -> None:
    """tarfile steps over what it claims to hold, mebibyte by mebibyte, also beyond the end."""
    data = archive(pax([("size", str(2**62))], member("d/.wh.a")))
    refusal = await place.refusal(data, layer=True, cpu_s=5)
    assert "'d/.wh.a' is larger than" in refusal


async def test_in_a_layer_no_link_takes_the_place_of_its_file(place: Place) -> None:
    await place.unpack(archive(member("d/f", b"kept")))
    refusal = await place.refusal(archive(_hardlink("d", "d/f")), layer=True)
    assert "'d' is a link to 'd/f', which is no earlier file" in refusal
    assert place.tree() == {"d": "/", "d/f": "kept"}


def test_it_ends_with_the_daemon(tmp_path: Path) -> None:
    """The child is killed by the kernel when who started it is."""
    script = """
import os, sys, trio
from sandboxd.unpack import process
from sandboxd.unpack.bounds import Bounds, Options
async def main():
    reader, writer = os.pipe()
    root = os.open(sys.argv[1], os.O_RDONLY)
    spool = os.open(sys.argv[1] + "/s", os.O_RDWR | os.O_CREAT)
    start = os.posix_spawn
    def spawn(*args, **kwargs):
        pid = start(*args, **kwargs)
        print(pid, flush=True)
        return pid
    os.posix_spawn = spawn
    await process.unpack(reader, root, spool=spool, bounds=Bounds(), options=Options(),
                         progress=lambda *what: print("progress", flush=True))
trio.run(main)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        assert parent.stdout.readline() == "progress\n", (
            "by now it has asked to die with its parent"
        )
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert select.select([pidfd], [], [], 5)[0], "it lives on"
    os.close(pidfd)
