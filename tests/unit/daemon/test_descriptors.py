"""Descriptors over sockets, sealed memory, and which message a passed descriptor belongs to."""

import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.engine.descriptors import ancillary_space, close_all, received, rights
from sandboxd.engine.job import NO_STDIO
from sandboxd.engine.memfd import open_memfd, sealed_memfd
from sandboxd.passed import MAX_PENDING, PassedFds, stdio_from
from sandboxd.protocol.errors import RemoteProtocolError, RequestError
from sandboxd.protocol.models import FdIndices

pytestmark = pytest.mark.usefixtures("open_descriptors")

Pipes = Callable[[], tuple[int, int]]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
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
    assert not any(map(is_open, fds))


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
    assert not any(map(is_open, fds[2:]))
    close_all(fds[:2])


def test_the_end_of_one_message_and_another_with_its_own(fds: list[int]) -> None:
    passed = PassedFds()
    passed.received(fds[:2])
    passed.read_ended(partial=True)
    passed.received(fds[2:])
    assert passed.take(1) == fds[:1]
    passed.message_ended()
    assert not is_open(fds[1])
    assert passed.take(2) == fds[2:]
    close_all(fds)


def test_too_many_are_refused_and_closed() -> None:
    passed = PassedFds()
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(MAX_PENDING + 1)]
    with pytest.raises(RemoteProtocolError):
        passed.received(many)
    assert not any(map(is_open, many))


# -- stdio_from -------------------------------------------------------------------------------


def passed_with(fds: list[int]) -> PassedFds:
    passed = PassedFds()
    passed.received(fds)
    return passed


def test_indices_choose_and_the_rest_is_closed(fds: list[int]) -> None:
    stdio = stdio_from(passed_with(fds), FdIndices(stdin=2, stdout=0, stderr=0))
    assert (stdio.stdin, stdio.stdout, stdio.stderr) == (fds[2], fds[0], fds[0])
    assert not is_open(fds[1])
    stdio.close()
    assert not is_open(fds[0])
    close_all(fds)


def test_no_index_no_descriptor() -> None:
    assert stdio_from(PassedFds(), FdIndices()) is NO_STDIO


def test_an_index_beyond_what_came(fds: list[int]) -> None:
    passed = passed_with(fds)
    with pytest.raises(RequestError, match="index 4 of 4 descriptors"):
        stdio_from(passed, FdIndices(stdin=4))
    passed.close()


@pytest.mark.parametrize(
    ("opened", "field", "words"),
    [
        (lambda path: os.open(path, os.O_RDONLY | os.O_DIRECTORY), "stdin", "file, pipe, socket"),
        (lambda path: os.open(path, os.O_PATH), "stdin", "file, pipe, socket"),
        (lambda path: os.open("/proc/self/exe", os.O_PATH), "stdout", "file, pipe, socket"),
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
    assert not is_open(fd)


def test_pipes_sockets_and_files_are_fine(tmp_path: Path, pipes: Pipes) -> None:
    reader, writer = map(os.dup, pipes())
    file = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
    stdio = stdio_from(passed_with([reader, writer, file]), FdIndices(stdin=0, stdout=1, stderr=2))
    assert (stdio.stdin, stdio.stdout, stdio.stderr) == (reader, writer, file)
    stdio.close()
