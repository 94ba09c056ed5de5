"""Many jobs in one request, many at once, many one after the other."""

import threading

import pytest

from sandboxd_client import Client, RequestError, Result
from support import host, invariants
from support.daemon import Daemon
from support.jobs import MIB, MS, job, run
from support.programs import report


def test_batch_keeps_the_order(client: Client) -> None:
    jobs = [{"argv": ["sh", "-c", f"sleep 0.0{9 - n % 10}; echo {n}"]} for n in range(20)]
    results = client.batch(jobs)
    assert [result.stdout for result in results if isinstance(result, Result)] == [
        b"%d\n" % n for n in range(20)
    ]


def test_batch_with_a_wrong_job(client: Client) -> None:
    results = client.batch([{"argv": ["true"]}, {"argv": ["x"], "limits": {"processes": -1}}])
    assert isinstance(results[0], Result)
    assert isinstance(results[1], RequestError)
    assert results[1].code == "invalid_argument"
    assert "jobs[1].limits.processes" in results[1].message


def test_empty_batch(client: Client) -> None:
    assert client.batch([]) == []


def test_clients_at_the_same_time(daemon: Daemon) -> None:
    """Each client gets its own answers, whatever the others do."""
    wrong: list[object] = []

    def work(number: int) -> None:
        with Client(daemon.socket) as client:
            for turn in range(15):
                text = f"{number}:{turn}".encode()
                result = client.run(argv=["cat"], stdin=text)
                if (result.status, result.stdout) != ("ok", text):
                    wrong.append(result)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
@pytest.mark.timeout(300)  # Where forking is slow.
def test_nothing_is_left_after_many_jobs(daemon: Daemon) -> None:
    """500 jobs of all kinds: no process, cgroup, mount, descriptor or file more; memory flat."""
    with Client(daemon.socket) as client:
        _many_jobs(client, 60)  # What is made once, at first use.
        before = invariants.settle(daemon, client)
        processes = (daemon.pid, *daemon.helpers())
        memory = sum(map(host.resident_bytes, processes))
        _many_jobs(client, 500)
        invariants.settle_as(before, daemon, client)
        assert sum(map(host.resident_bytes, processes)) - memory < 5 * MIB
        assert (daemon.pid, *daemon.helpers()) == processes


def _many_jobs(client: Client, count: int) -> None:
    hello = {"argv": ["sh", "-c", "cat f; echo x > g"], "files": {"f": b"hello"}, "collect": ["g"]}
    for turn in range(0, count, 10):
        results = client.batch([hello] * 4 + [{**hello, "mode": "fresh"}])
        assert all(isinstance(result, Result) and result.stdout == b"hello" for result in results)
        assert run(client, "exit_code", "7").exit_code == 7
        limits = {"wall_time_ns": 5 * MS}
        assert run(client, "wait_forever", limits=limits).status == "wall_time_limit"
        started = client.start(**job("neighbour", stdin_stream=True))
        started.write(b"%d " % turn)
        started.close_stdin()
        assert report(started.wait().raw["stdout"])["sum"] == str(turn)
        started = client.start(argv=["sleep", "9"], stream=True, tty=turn % 20 == 0)
        started.cancel()
        assert started.wait().status == "cancelled"
        staged = client.run(argv=["cat", "made"], compile={"argv": ["sh", "-c", "echo x > made"]})
        assert staged.run is not None
        assert staged.run.stdout == b"x\n"
