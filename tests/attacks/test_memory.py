"""Attacks with memory of every kind."""

import contextlib
from pathlib import Path

import pytest

from sandboxd_client import Client
from support import host
from support.daemon import Daemon
from support.environments import eventually
from support.jobs import KIB, MIB, MS, SECOND, Stopwatch, job, run, run_ok
from support.programs import report

SMALL = {"memory_bytes": 32 * MIB}
# Where the end is another limit's, or none's, however slow the machine is.
PATIENT = {"wall_time_ns": 60 * SECOND, "cpu_time_ns": 60 * SECOND}


@pytest.mark.parametrize("name", ["static_array", "heap_grow"])
def test_more_memory_than_allowed(client: Client, name: str) -> None:
    """M1, M2: memory_limit, not a bare signal; the peak is the limit."""
    result = run(client, name, limits=SMALL)
    assert result.status == "memory_limit"
    assert result.stdout == b""
    assert 30 * MIB <= result.memory_peak_bytes <= 32 * MIB


def test_refused_allocation_is_survived(client: Client) -> None:
    """M3: an allocation that cannot succeed returns NULL and the program goes on: ok."""
    assert run_ok(client, "heap_grow", "once", limits=SMALL) == {"malloc": "ENOMEM"}


def test_refused_allocations_for_ever(client: Client) -> None:
    """M3: wall_time_limit for a program that asks again and again; what it used is reported."""
    limits = SMALL | {"wall_time_ns": 300 * MS}
    result = run(client, "heap_grow", "again", limits=limits)
    assert result.status == "wall_time_limit"
    assert 0 < result.memory_bytes <= result.memory_peak_bytes < 8 * MIB


def test_endless_recursion(client: Client) -> None:
    """M4: signaled with SIGSEGV at the stack limit."""
    limits = {"stack_bytes": 8 * MIB, "memory_bytes": 64 * MIB}
    result = run(client, "deep_recursion", limits=limits)
    assert (result.status, result.signal) == ("signaled", 11)
    assert 7 * MIB < result.memory_bytes < 12 * MIB


def test_endless_recursion_without_room_for_the_stack(client: Client) -> None:
    """M4: memory_limit when memory ends before the stack does."""
    limits = {"stack_bytes": 512 * MIB, "memory_bytes": 32 * MIB}
    assert run(client, "deep_recursion", limits=limits).status == "memory_limit"


@pytest.mark.parametrize("where", ["/work", "/tmp", "/dev/shm"])
def test_full_directory(client: Client, where: str) -> None:
    """M5: ENOSPC at the disk limit, which all directories share."""
    found = run_ok(client, "fill_directory", where, limits={"disk_bytes": 8 * MIB})
    assert found["write"] == "ENOSPC"
    assert 6 * MIB <= int(found["written"]) <= 8 * MIB


@pytest.mark.parametrize("where", ["/tmp", "/dev/shm", "memfd"])
def test_files_in_memory_are_charged(client: Client, where: str) -> None:
    """M5: memory_limit when files in memory take more than the job has."""
    limits = {"memory_bytes": 16 * MIB, "disk_bytes": 512 * MIB}
    assert run(client, "fill_directory", where, limits=limits).status == "memory_limit"


def test_shared_memory_is_charged(client: Client) -> None:
    """M6: memory_limit for SysV segments that no process has attached."""
    assert run(client, "sysv_fill", limits=SMALL).status == "memory_limit"


def test_semaphores_are_charged(client: Client) -> None:
    """M6: memory_limit for System V semaphores, which no process has mapped."""
    result = run(client, "ipc_fill", "sem", limits=SMALL | PATIENT)
    assert result.status == "memory_limit", (result, result.memory_peak_bytes)


def test_messages_are_few(client: Client) -> None:
    """M6: of System V messages, which some kernels charge to nobody, there are 16 queues."""
    result = run(client, "ipc_fill", "msg", limits=SMALL | PATIENT)
    seen = report(result.stdout)
    assert (result.status, seen["msg"]) == ("ok", "ENOSPC"), result
    assert int(seen["queues"]) <= 16


def test_full_pipes_and_sockets(client: Client) -> None:
    """M7: the descriptor limit or the memory limit ends it; the buffers are charged."""
    limits = {"memory_bytes": 32 * MIB, "open_files": 4096}
    result = run(client, "fill_pipes", limits=limits)
    assert result.status in {"ok", "memory_limit"}
    if result.status == "ok":
        assert int(report(result.stdout)["pairs"]) <= 2048


def test_dead_child_is_not_hidden_by_its_parent(client: Client) -> None:
    """M8: memory_limit although only a child died and the main process would exit 0."""
    result = run(client, "oom_child", limits=SMALL)
    assert result.status == "memory_limit"


def test_many_processes_below_the_limit(client: Client) -> None:
    """M9: memory_limit for the sum of all processes."""
    result = run(client, "fork_sum", "8", str(16 * MIB), limits={"memory_bytes": 64 * MIB})
    assert result.status == "memory_limit"


def test_memory_cannot_be_locked(client: Client) -> None:
    """M10: locked pages and secret memory are refused, and with EPERM every huge page that a host
    has set aside, which no memory limit counts; those the kernel makes of usual ones are not."""
    found = run_ok(client, "lock_memory", limits=SMALL)
    assert found["mlockall"] in {"EPERM", "ENOMEM"}
    assert found["map_locked"] in {"EPERM", "EAGAIN"}
    assert found["memfd_secret"] == "ENOSYS"
    huge = {name: outcome for name, outcome in found.items() if name.startswith("huge")}
    assert len(huge) == 5
    assert set(huge.values()) == {"EPERM"}
    assert found["memfd"] == "ok"
    assert found["advised"] in {"ok", "EINVAL"}  # A kernel need not have them.


def test_no_swap(client: Client, daemon: Daemon) -> None:
    """M11: a job's memory and swap together are its memory limit, so that no swap passes it."""
    started = client.start(**job("neighbour", stdin_stream=True, limits=SMALL))
    started.write(b"1 ")
    eventually(lambda: bool(_limited(daemon)), "no cgroup has the limit of the job")
    for group in _limited(daemon):
        if (group / "memory.max").exists():
            assert (group / "memory.swap.max").read_text() == "0\n"
        else:
            assert (group / "memory.memsw.limit_in_bytes").read_text() == f"{32 * MIB}\n"
    started.close_stdin()
    assert started.wait().status == "ok"


def _limited(daemon: Daemon) -> list[Path]:
    """The cgroups with the limit of SMALL."""
    found = []
    for group in host.cgroups(daemon.group):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError):
                if (group / name).read_text() == f"{32 * MIB}\n":
                    found.append(group)
    return found


def test_page_cache_is_not_the_program_s(client: Client) -> None:
    """M12: ok; reading 4 times the limit from /usr neither kills nor counts as memory used."""
    limits = {"memory_bytes": 32 * MIB, "wall_time_ns": 20 * SECOND}
    result = run(client, "read_system", str(128 * MIB), limits=limits)
    assert result.status == "ok"
    assert int(report(result.stdout)["read"]) >= 128 * MIB
    assert result.memory_bytes < 8 * MIB


def test_oom_score_cannot_be_lowered(client: Client) -> None:
    """M13: the job cannot hide from the OOM killer."""
    found = run_ok(client, "oom_score")
    assert set(found.values()) <= {"EACCES", "EPERM", "EROFS"}


def test_terabyte_of_address_space_works(client: Client) -> None:
    """M14: ok; reserving address space as Go, the JVM and ASan do is not use of memory."""
    result = run(client, "reserve_terabyte", limits=SMALL)
    assert result.status == "ok"
    assert report(result.stdout) == {"mmap": "ok", "mremap": "ok", "byte": "1"}
    assert result.memory_bytes < 4 * MIB


def test_page_tables_are_charged(client: Client) -> None:
    """M15: memory_limit for memory that only the kernel holds."""
    watch = Stopwatch()
    result = run(client, "page_tables", limits=SMALL)
    assert result.status == "memory_limit"
    assert watch.seconds < 5


KERNEL_OBJECTS = {
    # Not charged by the kernel; but each takes longer than the last one, and time is limited.
    "locks": {"cpu_time_limit", "memory_limit"},
    # At most max_map_count of a process.
    "mappings": {"memory_limit", "ENOMEM"},
    "watches": {"EMFILE"},
    "signals": {"EAGAIN", "memory_limit"},
    "timers": {"EAGAIN", "memory_limit"},
}


@pytest.mark.parametrize(("kind", "ends"), KERNEL_OBJECTS.items(), ids=KERNEL_OBJECTS.keys())
def test_objects_of_the_kernel(client: Client, kind: str, ends: set[str]) -> None:
    """M15, D12: memory_limit, or an error at a limit of the kernel's, for locks, mappings, watches,
    queued signals and timers; for locks the CPU time; none is without a bound."""
    limits = {"memory_bytes": 16 * MIB, "open_files": 64} | PATIENT
    if "cpu_time_limit" in ends:
        limits["cpu_time_ns"] = SECOND
    result = run(client, "fill_kernel", kind, limits=limits)
    end = report(result.stdout)[kind] if result.status == "ok" else result.status
    assert end in ends, result


def _touched(client: Client) -> int:
    """The memory of a job that touches 4 MiB, to its end."""
    result = run(client, "touch_memory", str(4 * MIB))
    assert result.status == "ok", result
    return result.memory_bytes


def test_memory_of_the_next_job_is_its_own(client: Client) -> None:
    """M5, X7: after a job that filled memory, files and page cache, the next is charged nothing."""
    alone = _touched(client)
    run(client, "fill_directory", "/tmp", limits={"disk_bytes": 32 * MIB})
    run(client, "static_array", limits=SMALL)
    for _ in range(6):
        again = _touched(client)
        # The counters move in batches on each CPU: no two runs are charged the same.
        assert 4 * MIB <= again < alone + 768 * KIB


@pytest.mark.parametrize("kind", ["timers", "signals", "mappings", "watches"])
def test_what_the_kernel_frees_late_is_nobody_s(client: Client, kind: str) -> None:
    """M5, X7: nor does what the first job had of the kernel hide what the next one uses."""
    for _ in range(3):
        run(
            client,
            "fill_kernel",
            kind,
            limits={"memory_bytes": 16 * MIB, "open_files": 64} | PATIENT,
        )
        assert 4 * MIB <= _touched(client) < 6 * MIB


def test_what_a_compiler_s_processes_were_hides_nothing(client: Client) -> None:
    """M5: nor does what the kernel frees late of an earlier stage hide what a later one uses."""
    forks = {"argv": ["sh", "-c", "for i in $(seq 60); do /bin/true; done"], "limits": PATIENT}
    for _ in range(6):
        result = run(client, "touch_memory", str(4 * MIB), compile=forks, limits=PATIENT)
        assert result.compile.status == "ok", result
        assert result.run is not None
        assert 4 * MIB - 256 * KIB <= result.run.memory_bytes < 6 * MIB


def _killed_for_memory(slot: Path) -> bool:
    """Whether the kernel has, in this slot's cgroup. Those above count for all below."""
    if not slot.name.startswith("slot-"):
        return False
    for file in ("memory.oom_control", "memory.events"):
        try:
            words = (slot / file).read_text().split()
        except OSError:
            continue  # Of the other version, or of a slot that has just gone.
        return words[words.index("oom_kill") + 1] != "0"
    return False


def test_no_sandbox_outlives_its_memory(client: Client, daemon: Daemon) -> None:
    """M1, O1: nor does it where the job was being killed for something else already."""
    limits = SMALL | {"output_bytes": 4 * KIB}
    for first in range(32 * MIB, 29 * MIB, -64 * KIB):
        result = run(client, "print_and_grow", str(first), limits=limits)
        assert result.status in ("output_limit", "memory_limit")
    eventually(
        lambda: not any(map(_killed_for_memory, host.cgroups(daemon.group))),
        "a sandbox was used again",
    )
