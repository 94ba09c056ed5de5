"""Attacks on disk space and with files inside the sandbox."""

import signal

import pytest

from sandboxd_client import Client
from support.jobs import ANSWER_S, GIB, MIB, Stopwatch, job, run, run_ok
from support.programs import report

PLACES = ("/work", "/tmp", "/dev/shm")


def test_file_larger_than_the_file_limit(client: Client) -> None:
    """D1: EFBIG exactly at file_size_bytes."""
    limits = {"file_size_bytes": 4 * MIB, "disk_bytes": 64 * MIB}
    found = run_ok(client, "big_file", str(208 * MIB), limits=limits)
    assert found == {"write": "EFBIG", "written": str(4 * MIB)}


def test_file_larger_than_the_file_limit_unprepared(client: Client) -> None:
    """D1: EFBIG, not a death by SIGXFSZ, for a program that does nothing about that signal."""
    limits = {"file_size_bytes": 4 * MIB, "disk_bytes": 64 * MIB}
    found = run_ok(client, "big_file", str(208 * MIB), "default", limits=limits)
    assert found == {"write": "EFBIG", "written": str(4 * MIB)}


def test_file_larger_than_the_disk(client: Client) -> None:
    """D1: ENOSPC at disk_bytes."""
    limits = {"file_size_bytes": GIB, "disk_bytes": 8 * MIB}
    found = run_ok(client, "big_file", str(208 * MIB), limits=limits)
    assert found["write"] == "ENOSPC"
    assert 6 * MIB <= int(found["written"]) <= 8 * MIB


def test_sparse_terabyte(client: Client) -> None:
    """D2: EFBIG for every way to make a file of a terabyte; nothing is allocated."""
    found = run_ok(client, "sparse_file")
    assert found["ftruncate"] == found["fallocate"] == "EFBIG"
    assert found["keep_size"] in {"EFBIG", "ENOSPC"}
    assert (found["size"], found["blocks"]) == ("0", "0")


def test_million_files(client: Client) -> None:
    """D3: ENOSPC at disk_inodes over all directories; clean-up does not delay the next job."""
    result = run(client, "million_files", *PLACES, limits={"disk_inodes": 1000})
    assert result.status == "ok"
    found = report(result.stdout)
    made = int(found.pop("made"))
    assert found == dict.fromkeys(PLACES, "ENOSPC")
    assert 900 <= made <= 1000
    watch = Stopwatch()
    assert run(client, "exit_code", "0").status == "ok"
    assert watch.seconds < ANSWER_S


def test_tree_that_is_hard_to_delete(client: Client) -> None:
    """D4, D5: ok inside; depth, names, modes and attributes do not disturb the clean-up."""
    limits = {"disk_inodes": 20_000, "disk_bytes": 256 * MIB, "memory_bytes": 256 * MIB}
    found = run_ok(client, "hostile_tree", limits=limits)
    assert found.pop("depth") == "10000"
    assert found.pop("immutable") in {"EPERM", "ENOTTY", "EOPNOTSUPP"}
    assert set(found.values()) == {"ok"}


def test_core_is_not_dumped(client: Client) -> None:
    """D7: signaled with SIGABRT; no core file, and the limit cannot be raised."""
    result = run(client, "dump_core", collect=["**"])
    assert (result.status, result.signal) == ("signaled", signal.SIGABRT), result
    assert report(result.stdout) == {"rlimit_core": "EPERM"}
    assert list(result.files) == ["dump_core"]


def test_spoilt_inputs_come_back(client: Client) -> None:
    """D8: what a job does to its files and its program changes nothing for the next request."""
    request = job("spoil_inputs", files={"input": b"as sent", "data/deep": b"x"}, collect=["input"])
    for _ in range(4):
        result = client.run(**request)
        assert result.status == "ok"
        found = report(result.stdout)
        assert found["input"] == "as sent"
        assert found["unlink_input"] == found["unlink_program"] == "ok"
        assert result.files == {"input": b"spoiltt"}


def test_own_output_can_be_executed(client: Client) -> None:
    """D9: a program may write and run a program; it gains nothing by that."""
    script = "cp ./exit_code ./made && exec ./made 7"
    request = job("exit_code") | {"argv": ["/bin/sh", "-c", script]}
    result = client.run(**request)
    assert (result.status, result.exit_code) == ("nonzero_exit", 7)


def test_system_files_cannot_be_changed(client: Client) -> None:
    """D10, X8, K8: EROFS (or EACCES, EPERM, EXDEV) everywhere outside the work directories."""
    found = run_ok(client, "write_system")
    assert set(found.values()) <= {"EROFS", "EACCES", "EPERM", "EXDEV", "ENOENT", "EBUSY"}


def test_only_the_work_directories_are_mounted_writable(client: Client) -> None:
    """D10, K8, K9: every mount is nosuid, and read-only but for three; none of them has devices,
    but for those bound one by one."""
    mounts = {}
    for line in client.run(argv=["cat", "/proc/self/mountinfo"]).stdout.decode().splitlines():
        _, _, _, _, point, options, *_ = line.split()
        mounts[point] = set(options.split(","))
    assert {"/", "/usr", "/proc", "/dev/null", "/work"} <= mounts.keys()
    writable = {point for point, options in mounts.items() if "rw" in options}
    # The job cannot enter /dev/.slot.
    assert writable - {"/dev/.slot/tmpfs"} == {"/work", "/tmp", "/dev/shm"}
    for point, options in mounts.items():
        assert "nosuid" in options, point
        assert "nodev" in options or point.startswith("/dev/"), point
    assert "nodev" in mounts["/dev/shm"]


@pytest.mark.parametrize("kind", ["file", "epoll", "event", "timer"])
def test_descriptor_flood(client: Client, kind: str) -> None:
    """D11, D12: EMFILE at open_files."""
    found = run_ok(client, "fd_flood", kind, limits={"open_files": 50})
    assert found == {kind: "EMFILE", "count": "47"}
