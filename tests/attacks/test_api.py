"""Attacks by clients on the daemon."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from sandboxd_client import Client, RequestError
from support import host, invariants, requirements, rootless
from support.daemon import Daemon, running
from support.held import HeldPage
from support.jobs import ANSWER_S, GIB, MIB, MS, SECOND, Stopwatch, job, run, run_or_refusal
from support.programs import report
from support.raw import RawConnection
from support.stuck_files import StuckFiles, stuck_files


@pytest.fixture
def raw(daemon: Daemon, unharmed: None) -> Iterator[RawConnection]:
    with RawConnection(daemon.socket) as connection:
        yield connection


def packed(*parts: Any) -> bytes:
    return b"".join(part if isinstance(part, bytes) else msgpack.packb(part) for part in parts)


NO_REQUESTS = {
    "declared_4_gib_string": b"\x94\x00\x01\xa8job.run\x91\x81\xa5stdin\xc6\xff\xff\xff\xff",
    "declared_4_gib_array": b"\x94\x00\x01\xdd\xff\xff\xff\xff",
    "declared_4_gib_map": b"\xdf\xff\xff\xff\xff",
    "deep_arrays": b"\x91" * 100_000,
    "deep_maps": b"\x81\xa1a" * 100_000,
    "reserved_byte": b"\xc1",
    "number": b"\x07",
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "response": packed([1, 1, None, {}]),
    "notification": packed([2, "job.cancel", [{}]]),
    "type_3": packed([3, 1, "server.info", [{}]]),
    "three_elements": packed([0, 1, "server.info"]),
    "five_elements": packed([0, 1, "server.info", [{}], None]),
    "text_msgid": packed([0, "1", "server.info", [{}]]),
    "negative_msgid": packed([0, -1, "server.info", [{}]]),
    "huge_msgid": packed([0, 1 << 40, "server.info", [{}]]),
    "method_number": packed([0, 1, 7, [{}]]),
    "ext_message": b"\xd4\x01\x00",
}


@pytest.mark.parametrize("data", NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
def test_no_request_at_all(raw: RawConnection, daemon: Daemon, data: bytes) -> None:
    """A2: one `error` notification, then the end; nothing is allocated by declared size."""
    before = host.resident_bytes(daemon.pid)
    raw.send_all_it_takes(data)
    messages = raw.messages_to_the_end()
    assert [message[:2] for message in messages] == [[2, "error"]]
    assert messages[0][2][0]["code"] == "invalid_argument"
    assert messages[0][2][0]["message"]
    assert host.resident_bytes(daemon.pid) - before < 8 * MIB


def job_params(**fields: Any) -> list[dict[str, Any]]:
    return [{"argv": ["true"], **fields}]


WRONG_PARAMS: dict[str, tuple[Any, str]] = {
    "unknown_field": (job_params(colour="red"), "colour"),
    "no_argv": ([{}], "argv"),
    "empty_argv": ([{"argv": []}], "argv"),
    "number_in_argv": ([{"argv": ["true", 7]}], "argv"),
    "nul_in_argv": ([{"argv": ["true", "a\0b"]}], "argv"),
    "text_limit": (job_params(limits={"memory_bytes": "3000"}), "limits.memory_bytes"),
    "negative_limit": (job_params(limits={"memory_bytes": -1}), "limits.memory_bytes"),
    "fractional_limit": (job_params(limits={"cpu_time_ns": 0.4}), "limits.cpu_time_ns"),
    "nan_limit": (job_params(limits={"cpu_time_ns": float("nan")}), "limits.cpu_time_ns"),
    "infinite_limit": (job_params(limits={"cpu_time_ns": float("inf")}), "limits.cpu_time_ns"),
    "false_limit": (job_params(limits={"processes": False}), "limits.processes"),
    "empty_text_limit": (job_params(limits={"processes": ""}), "limits.processes"),
    "2_63_limit": (job_params(limits={"memory_bytes": 2**63}), "limits.memory_bytes"),
    "2_64_limit": (job_params(limits={"memory_bytes": 2**64 - 1}), "limits.memory_bytes"),
    "list_limits": (job_params(limits=[1]), "limits"),
    "unknown_limit": (job_params(limits={"memory": 1}), "limits.memory"),
    "number_env": (job_params(env={"A": 1}), "env"),
    "equals_in_env": (job_params(env={"A=B": "1"}), "env"),
    "nul_in_env": (job_params(env={"A": "\0"}), "env"),
    "unknown_network": (job_params(network="host"), "network"),
    "unknown_mode": (job_params(mode="fast"), "mode"),
    "unknown_mount": (job_params(mounts=["secret"]), "mounts"),
    "stream_in_run": (job_params(stream=True), "stream"),
    "text_tty": (job_params(tty="yes"), "tty"),
    "negative_mode": (job_params(files={"f": {"data": b"", "mode": -1}}), "files"),
    "two_maps": ([{"argv": ["true"]}, {}], "params"),
    "no_map": ([], "params"),
    "bare_map": ({"argv": ["true"]}, "params"),
    "nested": (job_params(files={"f": {"data": {"data": b""}}}), "files"),
    "ext_value": (job_params(stdin=msgpack.ExtType(5, b"x")), "stdin"),
    "fds_without_fds": (job_params(fds={"stdin": 0}), "fds"),
}


@pytest.mark.parametrize(("params", "field"), WRONG_PARAMS.values(), ids=WRONG_PARAMS.keys())
def test_wrong_params(raw: RawConnection, params: Any, field: str) -> None:
    """A1, A2, A19: invalid_argument whose message names the field; the connection goes on."""
    raw.send(packed([0, 5, "job.run", params]))
    error, result = raw.answer(5)
    assert result is None
    assert error["code"] == "invalid_argument"
    assert field in error["message"]
    assert raw.is_alive()


def test_non_text_key(raw: RawConnection) -> None:
    """A2: a key that is no text is an error that says so."""
    raw.send(packed([0, 5, "job.run", [{1: "x"}]]))
    assert raw.answer(5)[0]["code"] == "invalid_argument"
    assert raw.is_alive()


def test_trailing_bytes(raw: RawConnection) -> None:
    """A2: what follows a whole request is the next message, and judged as such."""
    raw.send(packed([0, 5, "server.health", [{}]]) + b"\xc1")
    assert raw.answer(5)[1]["status"] == "ok"
    assert [message[:2] for message in raw.messages_to_the_end()] == [[2, "error"]]


def test_duplicate_keys(raw: RawConnection) -> None:
    """A1: of two equal keys one counts; which one cannot be used to get past a check."""
    job_map = b"\x83\xa4argv\x91\xa4true\xa4mode\xa4fast\xa4mode\xa5fresh"
    raw.send(b"\x94\x00\x05\xa7job.run\x91" + job_map)
    error, result = raw.answer(5)
    assert (error or {"code": "invalid_argument"})["code"] == "invalid_argument"
    assert result is None or result["status"] == "ok"


def test_unknown_method(raw: RawConnection) -> None:
    """A2: not_found; a method's name is looked up, never evaluated."""
    for method in ("job.__init__", "", "a" * 100_000, "job.run\0", "../job.run"):
        raw.request(1, method)
        assert raw.answer(1)[0]["code"] == "not_found"


def test_message_larger_than_allowed(raw: RawConnection, daemon: Daemon) -> None:
    """A1: the connection is closed as soon as a message is known to be too large; memory is
    bounded by the limit, not by what comes."""
    head = b"\x94\x00\x01\xa7job.run\x91\x81\xa5stdin\xc6" + (512 * MIB).to_bytes(4, "big")
    before = host.resident_bytes(daemon.pid)
    raw.send_all_it_takes(head + bytes(16 * MIB))
    assert [message[:2] for message in raw.messages_to_the_end()] == [[2, "error"]]
    assert host.resident_bytes(daemon.pid) - before < 32 * MIB


def test_same_msgid_twice_at_once(raw: RawConnection) -> None:
    """A11: invalid_argument for a msgid that is in use; the request that has it is answered."""
    for _ in range(2):
        raw.request(9, "job.run", argv=["sleep", "0.1"])
    error, _ = raw.answer(9)
    assert (error["code"], error["data"]) == ("invalid_argument", {"field": "msgid"})
    assert raw.answer(9)[1]["status"] == "ok"
    assert raw.is_alive()


def test_msgid_is_used_again(raw: RawConnection) -> None:
    """A11: once answered, a msgid may be used again."""
    for _ in range(3):
        raw.request(9, "job.run", argv=["true"])
        assert raw.answer(9)[1]["status"] == "ok"


@pytest.fixture
def strict(require_sandbox: None) -> Iterator[Daemon]:
    """A daemon with little patience and little room."""
    settings = {
        "jobs": 1,
        "queue_length": 4,
        "queue_per_tenant": 4,
        "max_connections": 6,
        "max_connections_per_uid": 6,
        "message_timeout_ns": 300 * MS,
        "write_timeout_ns": 500 * MS,
        "max_write_buffer_bytes": 65536,
    }
    with running(**settings) as daemon:
        yield daemon


def test_slow_loris(strict: Daemon) -> None:
    """A3: a message that has begun must end in time; an idle connection may stay."""
    with RawConnection(strict.socket) as idle, RawConnection(strict.socket) as slow:
        slow.send(b"\x94\x00")
        watch = Stopwatch()
        messages = slow.messages_to_the_end()
        assert 0.25 < watch.seconds < 5
        assert [message[:2] for message in messages] in ([[2, "error"]], [])
        assert idle.is_alive()


def test_drip(strict: Daemon) -> None:
    """A3: a byte now and then does not extend the time of the message."""
    request = packed([0, 1, "server.health", [{}]])
    with RawConnection(strict.socket) as slow:
        watch = Stopwatch()
        try:
            for byte in request:
                slow.send(bytes([byte]))
                time.sleep(0.1)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert not slow.is_alive()
        assert watch.seconds < 5


def test_client_that_never_reads(strict: Daemon) -> None:
    """A3: answers nobody reads are bounded in memory; the client is dropped, its job killed."""
    before = host.resident_bytes(strict.pid)
    with RawConnection(strict.socket) as deaf, Client(strict.socket) as other:
        deaf.sock.settimeout(1.0)
        flood = packed([0, 1, "server.info", [{}]]) * 20_000
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            deaf.send(flood)
        assert other.run(argv=["true"]).status == "ok"
        assert host.resident_bytes(strict.pid) - before < 48 * MIB
    with Client(strict.socket) as other:
        assert other.health()["status"] == "ok"


def test_stream_nobody_reads(client: Client, daemon: Daemon) -> None:
    """A3, C27: output that is streamed to a client that does not read fills a pipe, not memory."""
    before = host.resident_bytes(daemon.pid)
    with RawConnection(daemon.socket) as deaf:
        limits = {"output_bytes": 64 * MIB, "wall_time_ns": 800 * MS}
        request = job("print_forever", "1", "4096", limits=limits, stream=True)
        deaf.request(1, "job.start", **request)
        watch = Stopwatch()
        while watch.seconds < 0.6:
            assert run(client, "exit_code", "0").status == "ok"
            time.sleep(0.05)
        assert host.resident_bytes(daemon.pid) - before < 32 * MIB


@pytest.mark.parametrize("method", ["job.run", "job.start"])
def test_results_that_nobody_takes(require_sandbox: None, method: str) -> None:
    """A3: nor does it help to leave a large one on each of many connections, unread or not asked
    for: a user has a share of the memory."""
    count, size = 24, 8 * MIB
    printing = {"argv": ["head", "-c", str(size), "/dev/zero"], "limits": {"output_bytes": size}}
    with running(jobs=2, max_write_buffer_bytes=MIB) as daemon, contextlib.ExitStack() as stack:
        asking = Client(daemon.socket)
        stack.enter_context(asking)
        before = host.resident_bytes(daemon.pid)
        for _ in range(count):
            deaf = stack.enter_context(RawConnection(daemon.socket))
            deaf.request(1, method, **printing)
        _await_stats(asking, lambda stats: stats["jobs"].get("ok", 0) == count)
        assert host.resident_bytes(daemon.pid) - before < count * size // 3
        assert asking.run(argv=["true"]).status == "ok"


@pytest.mark.parametrize("method", ["job.run", "job.start"])
def test_disconnect_cancels_the_job(client: Client, daemon: Daemon, method: str) -> None:
    """A4: the job of a client that goes away dies at once and its slot is free again."""
    before = invariants.running_jobs(client)
    with RawConnection(daemon.socket) as leaving:
        leaving.request(
            1, method, **job("wait_forever", "pause", limits={"wall_time_ns": 60 * SECOND})
        )
        invariants.await_running(client, before + 1)
    watch = Stopwatch()
    invariants.await_running(client, before)
    assert watch.seconds < ANSWER_S


def test_disconnect_with_the_first_word(client: Client, daemon: Daemon) -> None:
    """A4: nor does it live on when its client goes away while it is told that the job begins."""
    before = invariants.running_jobs(client)
    forever = job("wait_forever", "pause", limits={"wall_time_ns": 60 * SECOND}, stream=True)
    with on_one_processor(daemon.pid):  # So that the client goes before the daemon goes on.
        for _ in range(100):
            with RawConnection(daemon.socket) as leaving:
                leaving.request(1, "job.start", **forever)
                assert leaving.sock.recv(1)
    watch = Stopwatch()
    invariants.await_running(client, before)
    assert watch.seconds < ANSWER_S


@contextlib.contextmanager
def on_one_processor(other: int) -> Iterator[None]:
    """Both processes."""
    before = {pid: os.sched_getaffinity(pid) for pid in (0, other)}
    try:
        for pid, cpus in before.items():
            os.sched_setaffinity(pid, {min(cpus)})
        yield
    finally:
        for pid, cpus in before.items():
            os.sched_setaffinity(pid, cpus)


def test_disconnect_while_queued(strict: Daemon) -> None:
    """A4, A6: a queued job of a client that goes away is never run."""
    with Client(strict.socket) as client:
        running_job = client.start(**job("wait_forever", "pause"))
        with RawConnection(strict.socket) as leaving:
            for msgid in range(4):
                leaving.request(msgid, "job.run", argv=["true"])
            _await_stats(client, lambda stats: stats["queue"]["waiting"] > 0)
        _await_stats(client, lambda stats: stats["queue"]["waiting"] == 0)
        _await_stats(client, lambda stats: stats["queue"]["running"] == 1)
        running_job.cancel()
        assert running_job.wait().status == "cancelled"


def _await_stats(client: Client, condition: Any) -> None:
    deadline = time.monotonic() + 30  # In an emulated machine megabytes take a while.
    while not condition(client.stats()):
        assert time.monotonic() < deadline, client.stats()
        time.sleep(0.01)


def test_full_queue(strict: Daemon) -> None:
    """A6: busy, with how long to wait; who was taken is served; then everything is normal."""
    with RawConnection(strict.socket) as flood:
        count = 40
        for msgid in range(count):
            flood.request(msgid, "job.run", argv=["sleep", "0.05"])
        answers = [flood.message() for _ in range(count)]
        busy = [error for _, _, error, _ in answers if error]
        served = [result for _, _, _, result in answers if result]
        assert 4 <= len(served) < count
        assert {result["status"] for result in served} == {"ok"}
        assert {error["code"] for error in busy} == {"busy"}
        assert all(error["data"]["retry_after_ns"] > 0 for error in busy)
    with Client(strict.socket) as client:
        assert client.run(argv=["true"]).status == "ok"


def test_very_many_connections(strict: Daemon) -> None:
    """A6, A18: connections beyond the limit are refused; those that are there are served."""
    with Client(strict.socket) as first:
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(200)]
        try:
            for sock in crowd:
                sock.setblocking(False)
                try:
                    sock.connect(strict.socket)
                except BlockingIOError:
                    continue
            assert first.run(argv=["true"]).status == "ok"
        finally:
            for sock in crowd:
                sock.close()
        assert first.run(argv=["true"]).status == "ok"
    _await_new_connection(strict)


def _await_new_connection(daemon: Daemon) -> None:
    deadline = time.monotonic() + 5
    while True:
        with RawConnection(daemon.socket) as connection:
            if connection.is_alive():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_cancel_races(client: Client) -> None:
    """A7: cancelled at start, while running, at the end and twice: one result each, no leak."""
    for delay in (0.0, 0.001, 0.003, 0.01, 0.03):
        started = client.start(**job("burn", "10"))
        time.sleep(delay)
        for _ in range(2):
            _cancel(started)
        assert started.wait().status in {"ok", "cancelled"}


def _cancel(started: Any) -> None:
    """A job that has ended is not there any more."""
    with contextlib.suppress(RequestError):
        started.cancel()


def test_cancel_of_a_foreign_job(client: Client, daemon: Daemon) -> None:
    """A7: not_found: a job's token means nothing on another connection."""
    started = client.start(**job("wait_forever", "pause", limits={"wall_time_ns": 500 * MS}))
    with RawConnection(daemon.socket) as other:
        for msgid, method in enumerate(("job.cancel", "job.wait", "job.close_stdin")):
            other.request(msgid, method, job=started.token)
            assert other.answer(msgid)[0]["code"] == "not_found"
        other.request(9, "job.signal", job=started.token, signal="SIGKILL")
        assert other.answer(9)[0]["code"] == "not_found"
    assert started.wait().status == "wall_time_limit"


@pytest.mark.parametrize("token", ["", "0", "x" * 64, "../../etc/passwd", "1" * 64])
def test_guessed_token(raw: RawConnection, token: str) -> None:
    """A7, F16: not_found."""
    raw.request(1, "job.wait", job=token)
    assert raw.answer(1)[0]["code"] == "not_found"


def test_interactive_pair_in_deadlock(client: Client) -> None:
    """A8: both wait for the other to write: both end at their wall limit, both are reported."""
    # Who is killed second sees the other's end of file.
    waiting = ["sh", "-c", "read line; sleep 60"]
    started = _pair(client, waiting, waiting, 300 * MS)
    assert [member.wait().status for member in started] == ["wall_time_limit"] * 2


def test_interactive_pair_that_talks(client: Client) -> None:
    """A8: two jobs talk through passed pipes; when one closes, the other reads the end."""
    judge = 'echo 20 22; read answer; test "$answer" = 42'
    contestant = "read a b; echo $((a + b)); read more"
    first, second = _pair(client, ["sh", "-c", judge], ["sh", "-c", contestant], 3 * SECOND)
    assert first.wait().status == "ok"
    # `read` at the end of its input fails.
    assert second.wait().exit_code == 1


def test_interactive_pair_with_a_broken_pipe(client: Client) -> None:
    """A8: writing to one that has gone is SIGPIPE for the writer only."""
    first, second = _pair(client, ["true"], ["sh", "-c", "sleep 0.3; exec yes"], 3 * SECOND)
    assert first.wait().status == "ok"
    assert second.wait().signal == signal.SIGPIPE


def test_interactor_that_floods(client: Client) -> None:
    """A9: one prints for ever to one that does not read: a pipe is full, nothing grows, both end
    at the wall limit."""
    first, second = _pair(client, ["yes"], ["sleep", "60"], 300 * MS)
    results = (first.wait(), second.wait())
    assert [result.status for result in results] == ["wall_time_limit"] * 2
    assert results[0].cpu_time_ns < 100 * MS


def _pair(
    client: Client, first: list[str], second: list[str], wall_time_ns: int
) -> tuple[Any, Any]:
    """Two jobs, each with its stdout the other's stdin."""
    there, back = os.pipe(), os.pipe()
    limits = {"wall_time_ns": wall_time_ns}
    try:
        one = client.start(argv=first, limits=limits, fds={"stdin": back[0], "stdout": there[1]})
        two = client.start(argv=second, limits=limits, fds={"stdin": there[0], "stdout": back[1]})
    finally:
        for fd in (*there, *back):
            os.close(fd)
    return one, two


def test_daemon_killed_in_the_middle(require_sandbox: None) -> None:
    """A16: SIGKILL for the daemon: helper, job, cgroups and mounts go with it."""
    mounts = Path("/proc/self/mountinfo").read_text()
    with running(jobs=2) as victim, Client(victim.socket) as client:
        client.start(**job("fork_bomb", limits={"processes": 8}))
        invariants.await_running(client, 1)
        tree = host.descendants(victim.pid)
        victim.process.kill()
        victim.process.wait()
        _await_gone(victim, tree)
        assert host.cgroups(victim.group) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.parametrize("which", [0, 1], ids=["keeper", "worker"])
def test_helper_killed_in_the_middle(require_sandbox: None, which: int) -> None:
    """A16, C7: SIGKILL for one of the helper's processes: its jobs are internal_error at once and
    nothing of them is left. The worker is started again; without its keeper the daemon ends, and
    the worker removes the cgroups."""
    with running(jobs=2) as victim, Client(victim.socket) as client:
        started = client.start(**job("wait_forever", "pause"))
        invariants.await_running(client, 1)
        tree = host.descendants(victim.pid)
        os.kill(victim.helpers()[which], signal.SIGKILL)
        if which == 1:
            assert started.wait().status == "internal_error"
            _await_healthy(client)
            assert client.run(argv=["true"]).status == "ok"
            return
        assert victim.process.wait(10) != 0
        _await_gone(victim, tree)


def test_start_after_a_killed_one(require_sandbox: None) -> None:
    """A16: everything at once is killed, so nobody cleans up: the next start does."""
    with running(jobs=1) as victim:
        tree = host.descendants(victim.pid)
        group = victim.group
        for pid in (victim.pid, *tree):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        victim.process.wait()
        with running(jobs=1, heir_of=victim):
            assert host.cgroups(group) == []


def _await_dead(daemon: Daemon, tree: list[int]) -> None:
    deadline = time.monotonic() + 5
    while left := [*host.owned_by(daemon.uids), *(set(tree) & host.parents().keys())]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def _await_gone(daemon: Daemon, tree: list[int]) -> None:
    _await_dead(daemon, tree)
    deadline = time.monotonic() + 5
    while left := host.cgroups(daemon.group):
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def _await_healthy(client: Client) -> None:
    deadline = time.monotonic() + 5
    while True:
        try:
            client.health()
            return
        except RequestError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


NO_LIMIT = [0, None]


@pytest.mark.parametrize("value", NO_LIMIT)
def test_zero_and_nil_are_not_unlimited(client: Client, value: int | None) -> None:
    """A19: 0 and nil mean the configured limit, in every field."""
    names = client.info()["limits"].keys()
    assert len(names) == 10
    shown = report(run(client, "show_job", limits=dict.fromkeys(names, value)).stdout)
    plain = report(run(client, "show_job").stdout)
    assert shown == plain
    assert int(shown["nofile"]) > 0
    assert int(shown["fsize"]) > 0
    result = run(client, "print_forever", "1", "4096", limits={"output_bytes": value})
    assert result.status == "output_limit"


def test_limits_above_the_maximum(client: Client) -> None:
    """A19: limit_exceeded that names the field; never silently less, never unlimited."""
    for name, value in client.info()["max_limits"].items():
        with pytest.raises(RequestError) as caught:
            client.run(argv=["true"], limits={name: value + 1})
        assert caught.value.code in {"limit_exceeded", "invalid_argument"}
        assert name in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_bytes", 500), ("cpu_time_ns", 400_000), ("wall_time_ns", 1), ("stack_bytes", 1),
     ("open_files", 1), ("processes", 1), ("output_bytes", 1), ("disk_inodes", 1),
     ("disk_bytes", 1), ("file_size_bytes", 1)],
)  # fmt: skip
def test_tiny_limits(client: Client, name: str, value: int) -> None:
    """A19: a limit that is very small is what was asked for: a limit's status, a failure of the
    program, or invalid_argument that says what is needed; never internal_error, never ignored."""
    argv = ["sh", "-c", "while :; do echo x; done"]
    outcome = run_or_refusal(client, argv=argv, limits={name: value}, stdin=b"x")
    if isinstance(outcome, RequestError):
        assert outcome.code == "invalid_argument"
        assert name in outcome.message
    else:
        assert outcome.status not in {"ok", "internal_error", "cancelled"}, outcome


def test_other_users_have_no_access(daemon: Daemon) -> None:
    """A15: the socket has the configured mode; a user who is not allowed gets no connection."""
    mode = Path(daemon.socket).stat().st_mode & 0o777
    assert mode == (0o600 if rootless.ACTIVE else 0o660)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            socket.socket(socket.AF_UNIX).connect(daemon.socket)
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_daemon_has_no_privilege(daemon: Daemon) -> None:
    """K26: after its start the daemon is not root and has no capability at all."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert all(int(uid) != 0 for uid in fields["Uid"].split())
    assert all(int(fields[name], 16) == 0 for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"))
    assert fields["NoNewPrivs"] == "1"
    assert len({*fields["Uid"].split()} & {str(uid) for uid in daemon.uids}) == 0


def test_batch_is_bounded(raw: RawConnection) -> None:
    """A1: a batch of 300,000 jobs in one small message is refused before anything runs."""
    jobs = b"\xdd" + (300_000).to_bytes(4, "big") + packed({"argv": ["true"]}) * 300_000
    watch = Stopwatch()
    raw.send_all_it_takes(b"\x94\x00\x05\xa9job.batch\x91\x81\xa4jobs" + jobs)
    message = raw.message()
    assert message[:2] in ([2, "error"], [1, 5])
    assert watch.seconds < 5


def test_one_bad_job_spoils_no_batch(raw: RawConnection) -> None:
    """A1: each job of a batch is judged alone."""
    jobs = [{"argv": ["true"]}, {"argv": []}, {"argv": ["false"]}]
    raw.request(1, "job.batch", jobs=jobs)
    error, result = raw.answer(1)
    assert error is None
    first, second, third = result["results"]
    assert (first["status"], third["status"]) == ("ok", "nonzero_exit")
    assert second["error"]["code"] == "invalid_argument"


def test_memory_is_not_taken_by_promise(client: Client) -> None:
    """A1: a job may ask for the most of everything; only what it uses is taken."""
    limits = {name: value for name, value in client.info()["max_limits"].items()
              if not name.endswith("_ns")}  # fmt: skip
    assert limits["memory_bytes"] >= GIB
    assert client.run(argv=["true"], limits=limits).status == "ok"


def test_a_passed_pipe_whose_lock_is_kept(client: Client) -> None:
    """A3: who keeps the lock of a pipe it passed delays nobody, also when its job never runs."""
    places = 3  # As tests/conftest.py has it.
    busy = [client.start(argv=["sleep", "60"]) for _ in range(places)]
    reader, writer = os.pipe()
    attack = client.start(argv=["cat"], fds={"stdin": reader})
    os.close(reader)
    with HeldPage() as page:
        page.written_to(writer)
        for started in (attack, *busy):  # The end that was passed is nobody's any more.
            started.cancel()
        times = []
        for _ in range(20):
            watch = Stopwatch()
            assert client.run(argv=["true"]).status == "ok"
            times.append(watch.seconds)
    os.close(writer)
    assert {started.wait().status for started in (attack, *busy)} == {"cancelled"}
    assert max(times) < ANSWER_S / 2, times


def test_passed_pipes_of_jobs_that_never_run(client: Client) -> None:
    """A3: nor does it keep threads of the helper, with however many jobs that wait there and are
    cancelled; what cannot be closed is the daemon's, which counts it."""
    worker = int(client.info()["helper"]["pid"])
    busy = [client.start(argv=["sleep", "60"]) for _ in range(3)]
    count = 60
    reader, writer = os.pipe()
    copies = [os.open(f"/proc/self/fd/{reader}", os.O_RDONLY) for _ in range(count)]
    before = _threads(worker)
    with HeldPage() as page:
        page.written_to(writer)
        for copy in copies:
            attack = client.start(argv=["cat"], fds={"stdin": copy})
            os.close(copy)
            attack.cancel()
            assert attack.wait().status == "cancelled"
        assert _threads(worker) < before + 4  # Some slot's reader may be new.
        for started in busy:
            started.cancel()
        assert client.run(argv=["true"]).status == "ok"
    os.close(reader)
    os.close(writer)


def _threads(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nThreads:")[2].split()[0])


def test_programs_that_a_passed_pipe_keeps_from_ending(client: Client) -> None:
    """A3: a program that waits in the kernel for a lock that its client keeps cannot be killed: it
    has its verdict ten seconds later, others are served, and its client may pass nothing more."""
    reader, writer = os.pipe()
    stuck: dict[str, Any] = {"argv": ["cat"], "limits": {"wall_time_ns": SECOND // 5}}
    with HeldPage(most_s=60) as page:
        page.written_to(writer)
        attacks = [client.start(**stuck, fds={"stdin": reader}) for _ in range(2)]
        for attack in attacks:
            result = attack.wait()
            assert result.status == "wall_time_limit"
            assert "does not end" in result.message
            assert result.stdout_truncated
        for _ in range(20):
            assert client.run(argv=["true"]).status == "ok"
        assert client.stats()["slots"]["lost"] == 2
        with pytest.raises(RequestError, match="waits in the kernel") as refused:
            client.run(argv=["cat"], fds={"stdin": reader})
        assert refused.value.code == "busy"
    os.close(writer)
    _await_stats(client, lambda stats: not stats["slots"]["lost"])
    assert client.run(argv=["cat"], fds={"stdin": reader}).stdout.strip(b"\0") == b""
    os.close(reader)


def test_stages_that_a_passed_pipe_keeps_from_ending(client: Client) -> None:
    """A3: nor are there ever enough of them to take all sandboxes, by jobs of two stages either."""
    reader, writer = os.pipe()
    limits = {"wall_time_ns": SECOND // 5}
    stuck: dict[str, Any] = {"argv": ["cat"], "limits": limits, "compile": {"argv": ["true"]}}
    with HeldPage(most_s=60) as page:
        page.written_to(writer)
        attacks = [client.start(**stuck, fds={"stdin": reader}) for _ in range(8)]
        ends = [attack.wait() for attack in attacks]
        found = {(end.run or end.compile).status for end in ends}
        assert found == {"wall_time_limit", "internal_error"}
        for _ in range(20):
            assert client.run(argv=["true"], mode="fresh").status == "ok"
    os.close(writer)
    _await_stats(client, lambda stats: not stats["slots"]["lost"])
    os.close(reader)


# Sends its own stdout away by the descriptor it has, as many a client's would be.
SEND_AWAY = """
import array, os, socket, sys
sock = socket.socket(fileno=os.dup(int(sys.argv[1])))
rights = array.array("i", [int(sys.argv[2])])
sock.sendmsg([b"take it"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
"""
STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_SEQPACKET", "SOCK_DGRAM"])
@pytest.mark.parametrize("stream", STREAMS)
def test_no_descriptor_leaves_by_a_passed_socket(client: Client, stream: str, kind: str) -> None:
    """O13, A3: invalid_argument for a Unix socket, which would carry the job's own streams, and the
    locks of their pipes, out of the sandbox."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
    own = STREAMS["stderr" if stream == "stdout" else "stdout"]
    with ours, theirs:
        argv = ["python3", "-c", SEND_AWAY, str(STREAMS[stream]), str(own)]
        with pytest.raises(RequestError, match="pass a pipe") as refused:
            client.run(argv=argv, fds={stream: theirs.fileno()})
        assert refused.value.code == "invalid_argument"
        assert refused.value.data == {"field": f"fds.{stream}"}
        with pytest.raises(BlockingIOError):
            ours.recv(100, socket.MSG_DONTWAIT)


def test_no_descriptor_leaves_by_a_connection(client: Client) -> None:
    """O13: through an Internet socket, which may be passed, bytes go and no descriptors."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours:
        with theirs:
            argv = ["python3", "-c", SEND_AWAY + "print(input())", "1", "2"]
            ours.sendall(b"and more\n")
            fds = {"stdin": theirs.fileno(), "stdout": theirs.fileno()}
            result = client.run(argv=argv, fds=fds)
        assert result.status == "ok", result
        ours.settimeout(ANSWER_S)
        data, ancillary, _, _ = ours.recvmsg(100, socket.CMSG_SPACE(64), socket.MSG_WAITALL)
    assert (data, ancillary) == (b"take itand more\n", [])


# -- files that keep whoever uses them waiting ------------------------------------------------


@pytest.fixture(params=["", ",allow_other"], ids=["for_their_owner", "for_everybody"])
def stuck(daemon: Daemon, unharmed: None, request: pytest.FixtureRequest) -> Iterator[StuckFiles]:
    """A client with a file whose file system asks a process that does not answer."""
    if not os.access("/dev/fuse", os.W_OK):
        requirements.skip("there is no /dev/fuse")
    if rootless.ACTIVE:
        pytest.skip("only the daemon's user may connect, and this is root's file system")
    with stuck_files(daemon.socket, request.param) as stuck:
        yield stuck


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_passed_file_that_cannot_be_closed(
    client: Client, stuck: StuckFiles, stream: str
) -> None:
    """A3: a file whose server does not answer is refused, and delays nobody but who passed it."""
    done = threading.Event()
    slowest: list[float] = []
    other = threading.Thread(target=_ask, args=(client, done, slowest), daemon=True)
    other.start()
    try:
        answer = stuck.request("job.run", {"argv": ["true"], "fds": {stream: 0}}, 1)
        unwanted = stuck.request("server.health", {}, 5)
    finally:
        done.set()
        other.join(ANSWER_S)
    assert answer[0]["code"] == "invalid_argument"
    assert answer[0]["message"].startswith(f"fds.{stream}: is of a file system that asks a server")
    assert unwanted[0] is None
    assert max(slowest) < ANSWER_S / 2


def _ask(client: Client, done: threading.Event, slowest: list[float]) -> None:
    """Run jobs all the time; add how long each has taken."""
    while not done.is_set():
        watch = Stopwatch()
        assert client.run(argv=["true"]).status == "ok"
        slowest.append(watch.seconds)
