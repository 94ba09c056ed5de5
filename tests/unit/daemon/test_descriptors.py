"""Descriptors over sockets, sealed memory, and which message a passed descriptor belongs to."""

import ctypes
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from engine_peer import DEADLINE_S, until

from sandboxd import filesystems
from sandboxd.engine.descriptors import ancillary_space, close_all, received, rights
from sandboxd.engine.job import NO_STDIO
from sandboxd.engine.memfd import open_memfd, sealed_memfd
from sandboxd.filesystems import may_wait, waits
from sandboxd.passed import MAX_PENDING, PassedFds, input_from, stdio_from
from sandboxd.protocol.errors import RemoteProtocolError, RequestError
from sandboxd.protocol.models import FdIndices
from support.requirements import skip

pytestmark = pytest.mark.usefixtures("open_descriptors")

Pipes = Callable[[], tuple[int, int]]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def are_closed(fds: Iterable[int]) -> bool:
    """Soon: a thread does it."""
    deadline = time.monotonic() + DEADLINE_S
    while any(map(is_open, fds)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


@pytest.fixture
def fds() -> list[int]:
    """Some open descriptors; the test closes them."""
    return [os.open(os.devnull, os.O_RDWR) for _ in range(4)]


def test_rights_and_received_are_inverse(fds: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendmsg([b"x"], rights(fds))
        _, ancillary, _, _ = theirs.recvmsg(10, ancillary_space(8))
    got = received(ancillary)
    assert [os.fstat(fd).st_rdev for fd in got] == [os.fstat(fd).st_rdev for fd in fds]
    close_all(fds + got + got)


def test_sealed_memory_is_read_from_the_start_and_never_changes() -> None:
    data = os.urandom(300_000)
    fd = sealed_memfd("test", data)
    try:
        assert os.read(fd, 400_000) == data
        for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 1),
                       lambda: os.pwrite(fd, b"x", len(data))):  # fmt: skip
            with pytest.raises(PermissionError):
                change()
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0)
    finally:
        os.close(fd)


def test_memory_written_by_another_is_copied_up_to_a_bound() -> None:
    memory = open_memfd("test")
    theirs = memory.duplicate()
    os.write(theirs, b"0123456789")
    assert (memory.size(), memory.read(4), memory.read(100)) == (10, b"0123", b"0123456789")
    os.close(theirs)
    memory.close()


# -- PassedFds --------------------------------------------------------------------------------


def test_descriptors_that_no_message_wants_are_closed(fds: list[int]) -> None:
    passed = PassedFds()
    passed.received(fds)
    passed.message_ended()
    passed.read_ended(partial=False)
    assert are_closed(fds)


def test_a_message_in_pieces_keeps_what_came_with_its_beginning(fds: list[int]) -> None:
    passed = PassedFds()
    passed.received(fds)
    passed.read_ended(partial=True)
    passed.received([])
    assert passed.take(4) == fds
    close_all(fds)


def test_two_messages_in_one_read_the_second_has_the_descriptors(fds: list[int]) -> None:
    """The kernel ends a read after the piece that had some: they are the last message's."""
    passed = PassedFds()
    passed.received(fds)
    passed.message_ended()
    assert passed.take(2) == fds[:2]
    passed.message_ended()
    passed.read_ended(partial=False)
    assert are_closed(fds[2:])
    close_all(fds[:2])


def test_the_end_of_one_message_and_another_with_its_own(fds: list[int]) -> None:
    passed = PassedFds()
    passed.received(fds[:2])
    passed.read_ended(partial=True)
    passed.received(fds[2:])
    assert passed.take(1) == fds[:1]
    passed.message_ended()
    assert are_closed([fds[1]])
    assert passed.take(2) == fds[2:]
    close_all(fds)


def test_too_many_are_refused_and_closed() -> None:
    passed = PassedFds()
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(MAX_PENDING + 1)]
    with pytest.raises(RemoteProtocolError):
        passed.received(many)
    assert are_closed(many)


# -- stdio_from -------------------------------------------------------------------------------


def passed_with(fds: list[int]) -> PassedFds:
    passed = PassedFds()
    passed.received(fds)
    return passed


def test_indices_choose_and_the_rest_is_closed(fds: list[int]) -> None:
    stdio = stdio_from(passed_with(fds), FdIndices(stdin=2, stdout=0, stderr=0))
    assert (stdio.stdin, stdio.stdout, stdio.stderr) == (fds[2], fds[0], fds[0])
    assert are_closed([fds[1]])
    stdio.close()
    assert are_closed([fds[0]])
    close_all(fds)


def test_no_index_no_descriptor() -> None:
    assert stdio_from(PassedFds(), FdIndices()) is NO_STDIO


def test_an_index_beyond_what_came(fds: list[int]) -> None:
    passed = passed_with(fds)
    with pytest.raises(RequestError, match="index 4 of 4 descriptors"):
        stdio_from(passed, FdIndices(stdin=4))
    passed.close()


def a_device() -> str:
    """A character device that is neither a terminal nor of the kind of /dev/null."""
    for name in ("/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/hwrng", "/dev/kvm"):
        if os.access(name, os.R_OK):
            return name
    skip("a device that may be opened: /dev/fuse or the like")


@pytest.mark.parametrize(
    ("opened", "field", "words"),
    [
        (lambda path: os.open(path, os.O_RDONLY | os.O_DIRECTORY), "stdin", "file, pipe, socket"),
        (lambda path: os.open(path, os.O_PATH), "stdin", "file, pipe, socket"),
        (lambda path: os.open("/proc/self/exe", os.O_PATH), "stdout", "file, pipe, socket"),
        (lambda path: os.eventfd(0), "stdin", "file, pipe, socket"),
        (lambda path: os.pidfd_open(os.getpid()), "stdin", "file, pipe, socket"),
        (lambda path: os.open(a_device(), os.O_RDONLY), "stdin", "file, pipe, socket"),
        (lambda path: os.open(os.devnull, os.O_RDONLY), "stdout", "open for writing"),
        (lambda path: os.open(os.devnull, os.O_WRONLY), "stdin", "open for reading"),
    ],
)
def test_descriptors_a_job_must_not_have(
    tmp_path: Path, opened: Callable[[Path], int], field: str, words: str
) -> None:
    """A directory on descriptor 0 would be a way out of the sandbox."""
    fd = opened(tmp_path)
    with pytest.raises(RequestError, match=words) as caught:
        stdio_from(passed_with([fd]), FdIndices(**{field: 0}))
    assert caught.value.data == {"field": f"fds.{field}"}
    assert are_closed([fd])


def test_pipes_and_files_are_fine(tmp_path: Path, pipes: Pipes) -> None:
    reader, writer = map(os.dup, pipes())
    file = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
    stdio = stdio_from(passed_with([reader, writer, file]), FdIndices(stdin=0, stdout=1, stderr=2))
    assert (stdio.stdin, stdio.stdout, stdio.stderr) == (reader, writer, file)
    stdio.close()


@pytest.mark.parametrize("field", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_sockets_that_carry_descriptors(field: str, kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours:
        fd = theirs.detach()
        with pytest.raises(RequestError, match="no socket but an Internet one") as caught:
            stdio_from(passed_with([fd]), FdIndices(**{field: 0}))
    assert caught.value.data == {"field": f"fds.{field}"}
    assert are_closed([fd])


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_internet_sockets_are_fine(family: int, kind: int) -> None:
    try:
        fd = socket.socket(family, kind).detach()
    except OSError:
        pytest.skip("this host has no IPv6")
    stdio = stdio_from(passed_with([fd]), FdIndices(stdin=0, stdout=0))
    assert (stdio.stdin, stdio.stdout) == (fd, fd)
    stdio.close()
    assert are_closed([fd])


def test_an_archive_may_not_come_by_a_unix_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        fd = theirs.detach()
        with pytest.raises(RequestError, match="pass a pipe instead"):
            input_from(passed_with([fd]), "fds.archive", 0)
    assert are_closed([fd])


# -- where files are --------------------------------------------------------------------------


def test_pipes_sockets_and_memory_need_no_look(pipes: Pipes) -> None:
    reader, _ = pipes()
    ours, theirs = socket.socketpair()
    memory = open_memfd("test")
    theirs_too = memory.duplicate()
    with ours, theirs:
        assert [may_wait(fd) for fd in (reader, ours.fileno(), theirs_too)] == [False] * 3
    os.close(theirs_too)
    memory.close()


def test_ordinary_files_and_devices_do_not_wait(tmp_path: Path) -> None:
    for path in (tmp_path / "file", Path(os.devnull), Path("/proc/self/status")):
        path.touch()
        fd = os.open(path, os.O_RDONLY)
        assert not waits(fd)
        os.close(fd)


@pytest.mark.parametrize(
    ("kind", "refused"),
    [(0x65735546, True), (0x6969, True), (0xFF534D42, True), (0x794C7630, False), (0xEF53, False)],
)
def test_some_file_systems_wait(
    monkeypatch: pytest.MonkeyPatch, fds: list[int], kind: int, refused: bool
) -> None:
    """An overlay where it is the administrator's."""
    monkeypatch.setattr(filesystems, "_libc", StatFs(kind))
    assert waits(fds[0]) is refused
    monkeypatch.setattr(filesystems, "_MOUNTS", os.devnull)
    assert waits(fds[0]) is (refused or kind == 0x794C7630)
    close_all(fds)


class StatFs:
    """A kernel whose files are all of one kind."""

    def __init__(self, kind: int) -> None:
        self._kind = kind

    def fstatfs(self, fd: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
        ctypes.c_long.from_buffer(buffer).value = self._kind
        return 0


async def test_what_is_refused_is_closed(
    monkeypatch: pytest.MonkeyPatch, fds: list[int], pipes: Pipes
) -> None:
    monkeypatch.setattr(filesystems, "_libc", StatFs(0x6969))
    writer = os.dup(pipes()[1])
    passed = passed_with([*fds, writer])
    await passed.look()
    with pytest.raises(RequestError, match=r"fds\.stdout: .* pass a pipe instead") as caught:
        stdio_from(passed, FdIndices(stdout=1, stderr=4))
    assert caught.value.data == {"field": "fds.stdout"}
    assert are_closed([*fds, writer])


async def test_a_look_that_takes_too_long(monkeypatch: pytest.MonkeyPatch, fds: list[int]) -> None:
    """The descriptors are kept until the thread is back, and refused."""
    monkeypatch.setattr("sandboxd.passed._PATIENCE_S", 0.05)
    back = threading.Event()
    monkeypatch.setattr("sandboxd.passed.waits", lambda fd: not back.wait(DEADLINE_S))
    passed = passed_with(fds)
    await passed.look()
    with pytest.raises(RequestError, match="pass a pipe instead"):
        stdio_from(passed, FdIndices(stdin=0))
    passed.close()
    assert is_open(fds[0])
    back.set()
    await until(lambda: not is_open(fds[0]))
    assert are_closed(fds)
