"""Many clients and several users: who waits for whom, and what one cannot do to another."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client, RequestError
from support import invariants, rootless
from support.daemon import Daemon, running, take_uids
from support.jobs import job
from support.raw import RawConnection
from support.requirements import CLEAN_ENVIRONMENT, need_readable_tree

pytestmark = pytest.mark.usefixtures("require_sandbox")

ALICE, BOB = 70001, 70002


@pytest.fixture
def shared() -> Iterator[Daemon]:
    """A daemon that everybody may use, one job at a time."""
    if rootless.ACTIVE:
        pytest.skip(rootless.ONE_USER)
    with running(
        jobs=1, socket_mode=0o666, queue_length=64, queue_per_tenant=40, max_connections_per_uid=8
    ) as daemon:
        yield daemon


def as_user(uid: int, daemon: Daemon, script: str) -> "subprocess.Popen[bytes]":
    """Python with a ``client``, as another user."""
    need_readable_tree()
    code = (
        f"import os; os.setgroups([]); os.setresgid({uid}, {uid}, {uid})\n"
        "from sandboxd_client import Client, RequestError\n"
        "import json, sys, time\n"
        f"os.setresuid({uid}, {uid}, {uid})\n"
        f"client = Client({daemon.socket!r})\n{script}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], env=CLEAN_ENVIRONMENT, stdout=subprocess.PIPE
    )


def test_a_flood_of_one_user_delays_another_by_one_job(shared: Daemon) -> None:
    """A6: round robin between tenants, not first come first served."""
    flood = as_user(
        ALICE,
        shared,
        "jobs = [client.start(argv=['sleep', '0.05']) for _ in range(40)]\n"
        "print('queued', flush=True)\n"
        "for job in jobs: job.wait()\n"
        "print(time.monotonic(), flush=True)",
    )
    assert flood.stdout is not None
    assert flood.stdout.readline() == b"queued\n"
    bob = as_user(
        BOB,
        shared,
        "for _ in range(3): assert client.run(argv=['true']).status == 'ok'\n"
        "print(time.monotonic())",
    )
    bob_ended = float(bob.communicate()[0])
    alice_ended = float(flood.communicate()[0])
    assert (bob.returncode, flood.returncode) == (0, 0)
    assert bob_ended < alice_ended


def test_one_users_share_of_the_queue(shared: Daemon) -> None:
    greedy = as_user(
        ALICE,
        shared,
        "count = 0\n"
        "try:\n"
        "    while count < 60: client.start(argv=['sleep', '1']); count += 1\n"
        "except RequestError as error: print(json.dumps([count, error.code, error.data]))\n"
        "sys.stdout.flush(); time.sleep(60)",
    )
    assert greedy.stdout is not None
    count, code, data = json.loads(greedy.stdout.readline())
    assert code == "busy"
    assert data["retry_after_ns"] > 0
    # The queue's share, and what is in the helper's hands.
    assert 40 <= count <= 42
    with Client(shared.socket) as client:
        assert client.stats()["queue"]["waiting"] == 40
        start = time.monotonic()
        assert client.run(argv=["true"]).status == "ok"
        assert time.monotonic() - start < 10
    greedy.kill()
    greedy.communicate()
    with Client(shared.socket) as client:
        invariants.settle(shared, client)
        assert client.stats()["queue"] == {"running": 0, "waiting": 0, "capacity": 64}


def test_one_users_connections_are_bounded_and_anothers_are_not(shared: Daemon) -> None:
    holder = as_user(
        ALICE,
        shared,
        f"import socket; held = [client]\n"
        "refused = 0\n"
        "for _ in range(12):\n"
        "    sock = socket.socket(socket.AF_UNIX); sock.settimeout(2)\n"
        f"    sock.connect({shared.socket!r}); held.append(sock)\n"
        "    try: refused += b'busy' in sock.recv(1000)\n"
        "    except TimeoutError: pass\n"
        "    if refused >= 3: break\n"
        "print(refused, flush=True); time.sleep(60)",
    )
    assert holder.stdout is not None
    assert int(holder.stdout.readline()) >= 3
    bob = as_user(BOB, shared, "print(client.run(argv=['true']).status)")
    assert bob.communicate()[0] == b"ok\n"
    holder.kill()
    holder.communicate()


def test_tenant_is_the_users_own_uid(shared: Daemon) -> None:
    alice = as_user(ALICE, shared, "print(client.info()['tenant'])")
    assert int(alice.communicate()[0]) == ALICE


@rootless.other_users
def test_users_who_are_not_allowed() -> None:
    with running(jobs=1, socket_mode=0o666, allowed_uids=[BOB]) as daemon:
        script = (
            "try: print(client.run(argv=['true']).status)\n"
            "except RequestError as error: print(error.code)"
        )
        assert as_user(ALICE, daemon, script).communicate()[0] == b"permission_denied\n"
        assert as_user(BOB, daemon, script).communicate()[0] == b"ok\n"


@pytest.fixture
def few_descriptors() -> Iterator[str]:
    """The socket of a daemon that may open 140 files."""
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    path = str(directory / "s")
    reader, writer = os.pipe()
    command = f"ulimit -n 140; exec {sys.executable} -m sandboxd --private --jobs 1 --socket {path}"
    account = rootless.Account(take_uids(), directory) if rootless.ACTIVE else None
    shell = ["sh", "-c", command]
    with subprocess.Popen(
        account.command(*shell) if account else shell,
        env=CLEAN_ENVIRONMENT
        | (account.environment if account else {})
        | {"SANDBOXD_READY_FD": str(writer)},
        pass_fds=(writer,),
    ) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as ready:
            assert ready.read() == b"READY\n"
        yield path
        process.terminate()
    if account:
        account.close()
    shutil.rmtree(directory)


def test_no_descriptors_left_for_new_clients(few_descriptors: str) -> None:
    """A18: those who are connected go on, with all that jobs need; the others are told."""
    with Client(few_descriptors) as client, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(RawConnection(few_descriptors)) for _ in range(120)]
        for _ in range(5):
            assert client.run(argv=["true"]).status == "ok"
        assert client.run(argv=["wc", "-c"], stdin=bytes(1 << 20)).stdout == b"1048576\n"
        assert client.run(argv=["true"], collect=["*"]).status == "ok"
        assert crowd[0].is_alive()
        refused = crowd[-1].message()
        assert (refused[1], refused[2][0]["code"]) == ("error", "busy")
        stack.close()
        _await_room(few_descriptors)
        assert client.run(argv=["true"]).status == "ok"


def _await_room(path: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        with RawConnection(path) as connection:
            if connection.is_alive():
                return
        assert time.monotonic() < deadline


def test_a_worker_killed_under_load_hangs_nobody() -> None:
    """C7: running jobs end as internal_error, waiting ones run later, none is lost."""
    with running(jobs=2, queue_length=100, queue_per_tenant=100) as daemon:
        statuses: list[str] = []

        def work() -> None:
            with Client(daemon.socket) as client:
                statuses.extend(client.run(argv=["sleep", "0.05"]).status for _ in range(8))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        with Client(daemon.socket) as client:
            for starts in (2, 3):
                time.sleep(0.2)
                os.kill(int(client.info()["helper"]["pid"]), signal.SIGKILL)
                _await_helper(client, starts)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert len(statuses) == 48
        assert set(statuses) <= {"ok", "internal_error"}
        assert statuses.count("internal_error") <= 2 * 4
        with Client(daemon.socket) as client:
            assert client.run(argv=["true"]).status == "ok"
            assert client.info()["helper"]["starts"] == 3


def _await_helper(client: Client, starts: int) -> None:
    deadline = time.monotonic() + 20
    while client.info()["helper"]["starts"] < starts:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while not _is_healthy(client):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_healthy(client: Client) -> bool:
    try:
        client.health()
    except RequestError:
        return False
    return True


def test_a_stopped_worker_delays_and_loses_nothing() -> None:
    with running(jobs=1) as daemon, Client(daemon.socket) as client:
        worker = int(client.info()["helper"]["pid"])
        os.kill(worker, signal.SIGSTOP)
        started = [client.start(argv=["echo", str(number)]) for number in range(20)]
        os.kill(worker, signal.SIGCONT)
        assert [job.wait().stdout for job in started] == [b"%d\n" % n for n in range(20)]


def test_client_that_vanishes_with_many_jobs(shared: Daemon) -> None:
    with Client(shared.socket) as watcher:
        before = invariants.settle(shared, watcher)
        client = Client(shared.socket)
        for _ in range(20):
            client.start(**job("wait_forever", "pause"))
        client.start(argv=["cat"], stream=True, stdin_stream=True)
        client.close()
        invariants.settle_as(before, shared, watcher)


def test_large_requests_and_answers_at_the_same_time(shared: Daemon) -> None:
    """A client that sends while it does not read, and reads later, gets everything."""
    data = os.urandom(1 << 20)
    with RawConnection(shared.socket) as connection:
        count = 6
        sender = threading.Thread(
            target=lambda: [
                connection.request(number, "job.run", argv=["cat"], stdin=data)
                for number in range(count)
            ]
        )
        sender.start()
        time.sleep(0.5)
        answers = [connection.message() for _ in range(count)]
        sender.join()
    assert sorted(answer[1] for answer in answers) == list(range(count))
    for _, _, error, result in answers:
        assert error is None
        assert result["stdout"] == data


def test_half_closed_connection_is_a_closed_one(shared: Daemon) -> None:
    with RawConnection(shared.socket) as connection, Client(shared.socket) as watcher:
        connection.request(1, "job.run", argv=["sleep", "30"])
        invariants.await_running(watcher, 1)
        connection.sock.shutdown(socket.SHUT_WR)
        invariants.await_running(watcher, 0)
