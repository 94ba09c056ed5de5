"""What one job reads from the disk is in memory for the next, and in nobody's figures or limits."""

import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client
from support.daemon import running
from support.jobs import MIB, run

_BYTES = 24 * MIB


@pytest.fixture
def big() -> Iterator[Path]:
    """A file that jobs can see and no job has read yet."""
    # Not on a tmpfs, whose files are no page cache.
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-", dir="/opt") as name:
        Path(name).chmod(0o755)
        path = Path(name) / "big"
        with open(path, "wb") as file:
            file.write(os.urandom(_BYTES))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if _cached(path) > MIB:
            pytest.skip("this file system does not let go of what was read")
        yield path


@pytest.fixture
def client(require_sandbox: None, big: Path) -> Iterator[Client]:
    """Of a daemon whose jobs come into the same sandbox one after the other."""
    with (
        running(jobs=1, spare_slots=0, readonly=["/usr", str(big.parent)]) as daemon,
        Client(daemon.socket) as client,
    ):
        yield client


def _cached(path: Path) -> int:
    """Bytes of it that are in memory; see mincore(2)."""
    pages = _BYTES // mmap.PAGESIZE
    found = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        start = ctypes.c_char.from_buffer(memory)
        try:
            failed = libc.mincore(ctypes.byref(start), ctypes.c_size_t(_BYTES), found)
        finally:
            del start  # It keeps the mapping.
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(state & 1 for state in found) * mmap.PAGESIZE


def _reads(path: Path) -> list[str]:
    return ["sh", "-c", f"cat {path} > /dev/null"]


def test_the_next_job_need_not_read_again(client: Client, big: Path) -> None:
    first = client.run(_reads(big))
    assert first.status == "ok", first
    assert first.memory_peak_bytes > _BYTES / 2
    for _ in range(3):
        assert client.run(["true"]).status == "ok"
        assert _cached(big) > _BYTES - MIB
    again = client.run(_reads(big))
    assert again.memory_peak_bytes < 4 * MIB
    assert again.memory_bytes < 4 * MIB


def test_nor_need_who_comes_after_a_compiler(client: Client, big: Path) -> None:
    result = client.run(["true"], compile={"argv": _reads(big)})
    assert result.compile.memory_peak_bytes > _BYTES / 2
    assert result.run is not None
    assert result.run.memory_peak_bytes < 4 * MIB
    assert _cached(big) > _BYTES - MIB


def test_what_a_compiler_read_hides_no_memory(client: Client, big: Path) -> None:
    """Also where the program needs its place."""
    for touched, limit in ((16 * MIB, 64 * MIB), (56 * MIB, 64 * MIB)):
        with open(big, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        result = run(
            client,
            "touch_memory",
            str(touched),
            compile={"argv": _reads(big)},
            limits={"memory_bytes": limit},
        )
        assert result.compile.memory_peak_bytes > _BYTES / 2
        assert result.run is not None
        assert result.run.status == "ok", result.run
        # The counters move in batches of 256 KiB.
        assert touched - MIB / 4 <= result.run.memory_bytes < touched + 2 * MIB


def test_what_a_compiler_read_gives_no_memory(client: Client, big: Path) -> None:
    result = run(
        client,
        "touch_memory",
        str(66 * MIB),
        compile={"argv": _reads(big)},
        limits={"memory_bytes": 64 * MIB},
    )
    assert result.run is not None
    assert result.run.status == "memory_limit"
    assert 60 * MIB < result.run.memory_bytes <= 64 * MIB
