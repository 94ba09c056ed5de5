"""Every limit: what happens below, at and above it; and that the numbers in results are right."""

import pytest

from sandboxd_client import Client
from support.jobs import ANSWER_S, KIB, MIB, MS, SECOND, Stopwatch, run
from support.programs import report
from support.requirements import CPU_GRAIN_NS

# What counts as memory of a program besides what it touched: its own pages and the kernel's.
SLACK = MIB


def test_cpu_time_limit(client: Client) -> None:
    for used_ms, status in ((60, "ok"), (200, "cpu_time_limit")):
        result = run(client, "burn", str(used_ms), limits={"cpu_time_ns": 120 * MS})
        assert result.status == status
        assert result.cpu_time_ns >= min(used_ms, 120) * MS - CPU_GRAIN_NS


def test_cpu_time_over_the_limit_at_the_end(client: Client) -> None:
    """One rule: who has used more than the limit has hit it, also when it ended by itself."""
    for used_ms in (99, 100, 101):
        result = run(client, "burn", str(used_ms), limits={"cpu_time_ns": 100 * MS})
        assert (result.status == "cpu_time_limit") == (result.cpu_time_ns > 100 * MS), result


@pytest.mark.parametrize("limit_ms", [1, 20, 150])
def test_wall_time_limit(client: Client, limit_ms: int) -> None:
    watch = Stopwatch()
    result = run(client, "wait_forever", "pause", limits={"wall_time_ns": limit_ms * MS})
    assert result.status == "wall_time_limit"
    assert limit_ms * MS <= result.wall_time_ns <= limit_ms * MS + ANSWER_S * SECOND
    assert watch.seconds < limit_ms / 1000 + ANSWER_S
    assert str(limit_ms) in result.message or "wall" in result.message


def test_wall_time_is_the_program_s(client: Client) -> None:
    result = client.run(argv=["sleep", "0.2"])
    assert 200 * MS <= result.wall_time_ns < 200 * MS + ANSWER_S * SECOND
    assert result.cpu_time_ns < 50 * MS


@pytest.mark.parametrize("how", [[], ["system"]], ids=["user", "system"])
@pytest.mark.parametrize("used_ms", [5, 50, 400])
def test_cpu_time_is_exact(client: Client, used_ms: int, how: list[str]) -> None:
    """Within 1 ms or 1 % of the program's own getrusage; the kernel's work for exec and exit is
    in the count of the cgroup only, hence the millisecond above."""
    result = run(client, "burn", str(used_ms), *how)
    counted = int(report(result.stdout)["cpu_us"]) * 1000
    slack = max(MS, counted // 100) + CPU_GRAIN_NS
    assert counted - slack <= result.cpu_time_ns <= counted + 2 * slack


@pytest.mark.parametrize("mode", ["recycled", "fresh"])
@pytest.mark.parametrize("size", [1, 8, 48])
def test_memory_is_exact(client: Client, mode: str, size: int) -> None:
    """Within 1 MiB of what was touched more than by the same program that touches nothing."""
    nothing = run(client, "touch_memory", "0", mode=mode)
    assert nothing.memory_bytes < 2 * SLACK
    result = run(client, "touch_memory", str(size * MIB), mode=mode)
    assert abs(result.memory_bytes - nothing.memory_bytes - size * MIB) < SLACK
    assert abs(result.memory_bytes - size * MIB) < 2 * SLACK


def test_memory_limit_is_sharp(client: Client) -> None:
    """Just below is ok, just above is memory_limit, each time."""
    limits = {"memory_bytes": 32 * MIB}
    for _ in range(10):
        below = run(client, "touch_memory", str(32 * MIB - 3 * SLACK // 2), limits=limits)
        assert below.status == "ok", below
        above = run(client, "touch_memory", str(32 * MIB + 64 * KIB), limits=limits)
        assert above.status == "memory_limit", above
        assert "memory" in above.message


def test_process_limit(client: Client) -> None:
    for processes in (1, 2, 7):
        result = run(client, "zombies", limits={"processes": processes})
        assert result.status == "ok"
        assert report(result.stdout)["made"] == str(processes - 1)


def test_threads_are_processes(client: Client) -> None:
    result = run(client, "spin", "30", limits={"processes": 5, "cpu_time_ns": 50 * MS})
    assert result.status == "cpu_time_limit"


def test_disk_limit(client: Client) -> None:
    script = "head -c 3000000 /dev/zero > f; wc -c < f"
    result = client.run(argv=["sh", "-c", script], limits={"disk_bytes": 4 * MIB})
    assert result.stdout.strip() == b"3000000"
    result = client.run(argv=["sh", "-c", script], limits={"disk_bytes": MIB})
    assert b"No space left" in result.stderr


def test_inode_limit(client: Client) -> None:
    argv = ["sh", "-c", "for i in $(seq 100); do : > f$i || exit 9; done"]
    assert client.run(argv=argv, limits={"disk_inodes": 200}).status == "ok"
    assert client.run(argv=argv, limits={"disk_inodes": 50}).exit_code != 0


def test_limits_of_one_job_are_not_the_next_one_s(client: Client) -> None:
    """A recycled sandbox takes the limits of each job, larger and smaller ones in turn."""
    for _ in range(3):
        for size in (8, 64, 2):
            limits = {"memory_bytes": 96 * MIB, "disk_bytes": size * MIB, "processes": size,
                      "file_size_bytes": 96 * MIB}  # fmt: skip
            result = run(client, "big_file", str(60 * MIB), limits=limits)
            found = report(result.stdout)
            if size == 64:
                assert found == {"written": str(60 * MIB)}
            else:
                assert found["write"] == "ENOSPC"
                assert int(found["written"]) <= size * MIB
