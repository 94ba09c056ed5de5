"""From an archive to an environment, with bounds that are small enough to be reached."""

import dataclasses
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from sandboxd.environments import beneath, description, importing
from sandboxd.environments.description import Description
from sandboxd.protocol.errors import RequestError
from sandboxd.unpack.bounds import Bounds
from support.images import Image, Member, directory, hardlink, memfd, symlink, tar

KIB = 1024


@pytest.fixture
def at(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, beneath.DIRECTORY)
    yield fd
    os.close(fd)


async def make(at: int, archive: bytes) -> Description:
    fd = memfd(archive)
    try:
        return await importing.make(at, "name", fd)
    finally:
        os.close(fd)


def bound(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    monkeypatch.setattr(importing, "BOUNDS", dataclasses.replace(Bounds(), **bounds))


async def test_what_is_made(at: int, tmp_path: Path) -> None:
    members = [directory("./", 0o700), Member("a", b"12345"), hardlink("b", "a"),
               symlink("c", "/usr"), directory("d"), Member("d/e", b"123", 0o7777)]  # fmt: skip
    made = await make(at, tar(members))
    assert (made.source, made.size_bytes, made.files) == ("tar", 8, 4)
    assert sorted(os.listdir(tmp_path)) == ["environment.json", "rootfs"]
    assert description.read(at) == made
    root = tmp_path / "rootfs"
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0o755
    assert (root / "a").samefile(root / "b")
    names = {"a", "b", "c", "d", "proc", "dev", "task", "tmp", "work", "piston"}
    assert set(os.listdir(root)) == names
    assert (root / "task").readlink() == Path("work/task")


async def test_what_an_image_has_in_place_of_the_link_is_its_own(at: int, tmp_path: Path) -> None:
    await make(at, tar([directory("task"), Member("task/a", b"1")]))
    assert (tmp_path / "rootfs/task/a").read_text() == "1"


async def test_an_image_leaves_its_archive_out(at: int, tmp_path: Path) -> None:
    layers = [tar([Member("a", b"1" * 100)]), tar([Member("a", b"2"), Member("b", b"3")])]
    made = await make(at, Image(layers, working_dir="/x").oci().tar())
    assert (made.source, made.size_bytes, made.files) == ("oci", 2, 2)
    assert made.defaults.working_directory == "/x"
    assert sorted(os.listdir(tmp_path)) == ["environment.json", "rootfs"]
    assert (tmp_path / "rootfs/a").read_text() == "2"


async def test_bytes_of_all_layers_together(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each replaces what the one before wrote."""
    bound(monkeypatch, total_bytes=100 * KIB)
    image = Image([tar([Member("same", os.urandom(30 * KIB))]) for _ in range(4)])
    with pytest.raises(RequestError, match=r"larger than \d+ bytes together"):
        await make(at, image.oci().tar())


async def test_entries_of_all_layers_together(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(monkeypatch, members=30)
    image = Image([tar([Member(f"{layer}-{n}") for n in range(10)]) for layer in range(4)])
    with pytest.raises(RequestError, match=r"more than \d+ members"):
        await make(at, image.oci().tar())


async def test_directories_of_all_layers_together(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(monkeypatch, members=30)
    members = [[directory(f"{layer}-{n}") for n in range(9)] for layer in range(4)]
    image = Image([tar([Member(f"{layer}"), *made]) for layer, made in enumerate(members)])
    with pytest.raises(RequestError, match=r"more than \d+ members"):
        await make(at, image.oci().tar())


async def test_archive_through_a_pipe(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(monkeypatch, archive_bytes=100 * KIB)
    zeros = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(RequestError, match="larger than 102400 bytes"):
        await importing.make(at, "name", zeros)
    os.close(zeros)


async def test_archive_that_does_not_come(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(monkeypatch, idle_s=1)
    reader, writer = os.pipe()
    try:
        with pytest.raises(RequestError, match="nothing of the archive came for 1 s"):
            await importing.make(at, "name", reader)
    finally:
        os.close(reader)
        os.close(writer)


async def test_cancelled(at: int) -> None:
    """Ends at once, with nobody writing any more."""
    reader, writer = os.pipe()
    archive = tar([Member("a")])
    threading.Thread(target=os.write, args=(writer, archive[:600])).start()
    with trio.move_on_after(0.5) as scope:
        await importing.make(at, "name", reader)
    assert scope.cancelled_caught
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


async def test_trouble_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Is said, and not the client's fault."""
    (tmp_path / "rootfs").write_text("in the way")
    with pytest.raises(RequestError, match="cannot import name: ") as caught:
        await make(at, tar([Member("a")]))
    assert caught.value.code == "internal"
