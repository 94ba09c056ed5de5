"""Attacks with processes and CPU time."""

import os
import signal

import pytest

from sandboxd_client import Client
from support import host
from support.daemon import Daemon
from support.jobs import ANSWER_S, MIB, MS, SECOND, Stopwatch, job, run, run_ok
from support.programs import report
from support.requirements import CPU_GRAIN_NS

SHORT = {"wall_time_ns": 300 * MS, "processes": 16}


def test_fork_bomb_ends_at_the_wall_limit(client: Client) -> None:
    """P1: fork fails with EAGAIN at the process limit; wall_time_limit; all dead at once."""
    watch = Stopwatch()
    result = run(client, "fork_bomb", limits=SHORT)
    assert result.status == "wall_time_limit"
    assert report(result.stdout) == {"fork": "EAGAIN"}
    assert result.cpu_time_ns > 20 * MS
    assert watch.seconds < 0.3 + ANSWER_S


def test_fork_bomb_ends_at_the_cpu_limit(client: Client) -> None:
    """P1: cpu_time_limit, although no single process used that much."""
    limits = {"cpu_time_ns": 200 * MS, "wall_time_ns": 3 * SECOND, "processes": 16}
    result = run(client, "fork_bomb", limits=limits)
    assert result.status == "cpu_time_limit"
    assert 200 * MS <= result.cpu_time_ns < SECOND


def test_fork_bomb_leaves_nothing_when_its_answer_comes(client: Client, daemon: Daemon) -> None:
    """P1, P2: when the result is there, no process of the bomb is."""
    before = len(host.owned_by(daemon.uids))
    result = run(client, "fork_bomb_setsid", limits=SHORT)
    # The slot's own processes may be gone, too, until it is made again.
    assert len(host.owned_by(daemon.uids)) <= before
    assert result.status == "wall_time_limit"


def test_refused_forks_are_told(client: Client) -> None:
    """P1, C21: where a program failed for the process limit, the message says so."""
    result = client.run(argv=["sh", "-c", "ls; ls"], limits={"processes": 1})
    assert result.status == "nonzero_exit"
    assert "process limit" in result.message


@pytest.mark.parametrize("habit", ["sleep", "spin", "print"])
def test_orphan_dies_with_the_main_process(client: Client, habit: str) -> None:
    """P3, P4: ok when the main process exits; the child that holds stdout delays nothing."""
    watch = Stopwatch()
    result = run(client, "orphan", habit)
    assert (result.status, result.exit_code) == ("ok", 0)
    assert watch.seconds < ANSWER_S


def test_respawning_family_is_killed(client: Client) -> None:
    """P5: wall_time_limit; forking on SIGTERM and SIGCHLD saves nobody."""
    result = run(client, "respawn", limits=SHORT)
    assert result.status == "wall_time_limit"
    assert report(result.stdout) == {"ready": "ok"}


@pytest.mark.parametrize("how", ["pause", "sleep", "select", "stop"])
def test_waiting_forever_ends_at_the_wall_limit(client: Client, how: str) -> None:
    """P6, P7: wall_time_limit with next to no CPU time, also when stopped by SIGSTOP."""
    watch = Stopwatch()
    result = run(client, "wait_forever", how, limits={"wall_time_ns": 200 * MS})
    assert result.status == "wall_time_limit"
    assert result.cpu_time_ns < 100 * MS
    assert 200 * MS <= result.wall_time_ns < 200 * MS + ANSWER_S * SECOND
    assert watch.seconds < 0.2 + ANSWER_S


def test_other_processes_cannot_be_signalled(client: Client, daemon: Daemon) -> None:
    """P8, P9, P10, K26: pid 1 refuses each signal with EPERM; host pids do not exist; kill(-1)
    reaches the job's own child only."""
    hosts = [str(pid) for pid in (daemon.pid, os.getpid(), *daemon.helpers())]
    found = run_ok(client, "kill_others", *hosts)
    assert found.pop("ppid") == "1"
    assert found == {
        "stop_parent": "EPERM",
        "kill_parent": "EPERM",
        **{f"host_{number + 1}": "ESRCH" for number in range(len(hosts))},
        "kill_all": "ok",
        "child_signal": str(signal.SIGKILL.value),
        "alive": "ok",
    }


@pytest.mark.parametrize("threads", [1, 3])
def test_spinning_threads_end_at_the_cpu_limit(client: Client, threads: int) -> None:
    """P11, P20: cpu_time_limit; the time of all threads counts, ignored signals do not help."""
    limits = {"cpu_time_ns": 200 * MS, "wall_time_ns": 3 * SECOND}
    result = run(client, "spin", str(threads), limits=limits)
    assert result.status == "cpu_time_limit"
    assert 200 * MS <= result.cpu_time_ns < 600 * MS


@pytest.mark.parametrize(("children", "each_ms"), [(2, 100), (60, 3)])
def test_time_of_dead_children_counts(client: Client, children: int, each_ms: int) -> None:
    """P12, P13: ok; CPU time is the whole tree's, also of processes that lived for 3 ms."""
    result = run(client, "burn_children", str(children), str(each_ms))
    assert result.status == "ok"
    counted = int(report(result.stdout)["cpu_us"]) * 1000
    # What the kernel did for exec and exit of the children is in the cgroup's count only.
    slack = 2 * MS + CPU_GRAIN_NS
    assert counted - slack <= result.cpu_time_ns <= counted * 1.1 + children * MS + slack


def test_zombies_are_bounded(client: Client) -> None:
    """P14: EAGAIN at the process limit, then ok; none is left."""
    found = run_ok(client, "zombies", limits={"processes": 20})
    assert found == {"fork": "EAGAIN", "made": "19"}


def test_priority_cannot_be_raised(client: Client) -> None:
    """P15: EPERM for each way to get more processor."""
    found = run_ok(client, "raise_priority")
    assert found == {"fifo": "EPERM", "rr": "EPERM", "nice": "EPERM", "ioprio_rt": "EPERM"}


def test_priority_cannot_be_lowered(client: Client) -> None:
    """P15: EPERM for each way to get less, too: a thread that its own siblings starve keeps what it
    has locked in the kernel from everybody; the classes that programs do choose can be chosen."""
    found = run_ok(client, "lower_priority")
    assert found.pop("autogroup") in {"EROFS", "EACCES", "ENOENT"}  # A kernel need not have it.
    for name in ("batch", "batch_reset", "other_reset", "param"):
        assert (name, found.pop(name)) == (name, "ok")
    assert (found.pop("nice"), found.pop("policy")) == ("0", str(os.SCHED_OTHER))
    assert len(found) == 11
    assert set(found.values()) == {"EPERM"}
    # Build scripts say so, and it only warns.
    result = client.run(argv=["nice", "-n", "5", "echo", "built"])
    assert (result.status, result.stdout) == ("ok", b"built\n")


def test_cpus_are_those_it_was_given(client: Client) -> None:
    """P16: EINVAL for every CPU outside the set of the daemon's cgroup, EPERM for pid 1; a job may
    choose among its own."""
    found = run_ok(client, "move_cpus")
    given = int(found.pop("count"))
    assert 1 <= given <= len(os.sched_getaffinity(0))
    assert found == {"given": "ok", "moved": "0", "nowhere": "EINVAL", "init": "EPERM", "own": "ok"}


def test_limits_cannot_be_raised(client: Client) -> None:
    """P17: EPERM for every hard limit, and for those of pid 1."""
    found = run_ok(client, "raise_limits")
    assert found.pop("prlimit_init") == "EPERM"
    assert set(found.values()) == {"EPERM"}
    # RLIMIT_FSIZE, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_MEMLOCK are set for each job.
    assert {"rlimit_1", "rlimit_3", "rlimit_4", "rlimit_7", "rlimit_8"} <= found.keys()


def test_other_processes_cannot_be_traced(client: Client, daemon: Daemon) -> None:
    """P18, K26: no way into pid 1, none to processes of the host."""
    found = run_ok(client, "trace_others", str(daemon.pid))
    denied = {"EPERM", "EACCES", "ESRCH", "ENOENT", "EINVAL"}
    assert set(found.values()) <= denied
    assert len(found) == 14
    assert {found["attach_init"], found["read_init"], found["write_init"]} == {"EPERM"}


def test_daemon_of_the_compile_stage_is_dead(client: Client) -> None:
    """P19: what the compile stage left running is gone before the run stage starts."""
    request = job("exit_code")
    request["compile"] = {"argv": ["./subreaper"]}
    request["files"] |= job("subreaper")["files"]
    request["argv"] = ["/bin/sh", "-c", "set -- /proc/[0-9]*; echo $#"]
    result = client.run(**request)
    assert result.compile.status == "ok"
    assert result.run is not None
    assert result.run.stdout == b"1\n"  # The shell.


@pytest.mark.parametrize("code", [1, 124, 137, 143, 255])
def test_exit_code_says_nothing_about_limits(client: Client, code: int) -> None:
    """P21: nonzero_exit with exactly this code, never a limit."""
    result = run(client, "exit_code", str(code))
    assert (result.status, result.exit_code, result.signal) == ("nonzero_exit", code, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU, signal.SIGSEGV])
def test_signal_says_nothing_about_limits(client: Client, number: signal.Signals) -> None:
    """P21: signaled with exactly this signal, never a limit."""
    result = run(client, "exit_code", "signal", str(number.value))
    assert (result.status, result.exit_code, result.signal) == ("signaled", None, number)


@pytest.mark.parametrize("more_us", [-1000, -200, 0, 200, 1000])
def test_end_at_the_wall_limit(client: Client, more_us: int) -> None:
    """P22: one rule: who ran longer than the limit has hit it, also when it ended by itself."""
    for _ in range(4):
        result = run(client, "exit_at", str(50_000 + more_us), limits={"wall_time_ns": 50 * MS})
        if result.wall_time_ns > 50 * MS:
            assert result.status == "wall_time_limit", result
        else:
            assert (result.status, result.exit_code) == ("ok", 0), result


@pytest.mark.parametrize("more_us", [-1000, 0, 1000])
def test_end_at_the_cpu_limit(client: Client, more_us: int) -> None:
    """P22: the same for CPU time."""
    for _ in range(3):
        result = run(client, "exit_at", str(50_000 + more_us), limits={"cpu_time_ns": 50 * MS})
        expected = "cpu_time_limit" if result.cpu_time_ns > 50 * MS else "ok"
        assert result.status == expected, result


def test_blocked_vfork_is_killed(client: Client) -> None:
    """P23: wall_time_limit kills parent and child."""
    result = run(client, "vfork_block", limits={"wall_time_ns": 200 * MS})
    assert result.status == "wall_time_limit"


def test_subreaper_saves_nobody(client: Client) -> None:
    """P24: ok; the daemons die with the job whatever PR_SET_CHILD_SUBREAPER says."""
    assert run_ok(client, "subreaper") == {"subreaper": "ok"}


def test_no_privilege_can_be_gained(client: Client) -> None:
    """P25: no capability, no_new_privs, the filter on; a set-user-id program gains nothing."""
    found = run_ok(client, "gain_privilege", limits={"disk_bytes": 8 * MIB})
    assert {
        name: found.pop(name) for name in list(found) if name.startswith("Cap")
    } == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)
    assert (found.pop("NoNewPrivs"), found.pop("Seccomp")) == ("1", "2")
    assert found.pop("Groups") in {"", "1000"}
    assert found.pop("chmod_suid") in {"ok", "EPERM"}
    assert found == {
        "euid": "1000",
        "setuid": "EPERM",
        "setgid": "EPERM",
        "setgroups": "EPERM",
        "chroot": "EPERM",
        "chown": "EPERM",
        "suid_euid": "1000",
        "suid_egid": "1000",
    }
