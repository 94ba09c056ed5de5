"""Attacks through the network."""

import socket
from collections.abc import Iterator

import pytest

from sandboxd_client import Client
from support.jobs import ANSWER_S, SECOND, Stopwatch, job, run_ok
from support.programs import report


@pytest.fixture
def host_port() -> Iterator[int]:
    """A service on the host's loopback, as a database would be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_nothing_is_reachable(client: Client, host_port: int) -> None:
    """N1, N2: ENETUNREACH for every address, at once: no 30 s hang."""
    found = run_ok(client, "reach_network", str(host_port))
    assert int(found.pop("took_ms")) < 1000
    # IPv6 says EADDRNOTAVAIL where not even ::1 is configured.
    assert {found[name] for name in found if "tcp6" not in name} == {"ENETUNREACH"}
    assert set(found.values()) <= {"ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"}


def test_names_are_not_found(client: Client) -> None:
    """N1: a name has no address, and that is said at once, whatever resolv.conf the host has."""
    watch = Stopwatch()
    result = client.run(argv=["getent", "ahosts", "example.com"])
    assert (result.status, result.exit_code, result.stdout) == ("nonzero_exit", 2, b"")
    assert watch.seconds < ANSWER_S


def test_only_its_own_loopback_is_reachable(client: Client, host_port: int) -> None:
    """N2: with a loopback device the host's services are not reachable either."""
    found = run_ok(client, "reach_network", str(host_port), network="loopback")
    assert int(found.pop("took_ms")) < 1000
    assert found.pop("tcp_127.0.0.1") == "ECONNREFUSED"
    assert found.pop("tcp6_::1") in {"ECONNREFUSED", "EADDRNOTAVAIL", "EAFNOSUPPORT"}
    assert found.pop("udp_127.0.0.53") == "ok"
    assert set(found.values()) <= {"ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"}


def test_unix_sockets_of_the_host_are_invisible(client: Client) -> None:
    """N3: ECONNREFUSED for abstract sockets of the host, which live in its network namespace."""
    name = "sandboxd-test-abstract"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        found = run_ok(client, "reach_sockets", f"@{name}")
    assert found[f"@{name}"] == "ECONNREFUSED"
    assert set(found.values()) <= {"ENOENT", "ECONNREFUSED"}


LISTEN = """
import socket, sys
server = socket.create_server(("127.0.0.1", 45679))
print("listening", flush=True)
sys.stdin.read()
"""
CONNECT = """
import socket
try:
    socket.create_connection(("127.0.0.1", 45679), timeout=1)
    print("connected")
except OSError as exc:
    print(exc.errno)
"""


def test_jobs_at_the_same_time_do_not_share_a_network(client: Client) -> None:
    """N5: a job that listens on its loopback is not reached by one that runs beside it."""
    beside = {"network": "loopback", "limits": {"wall_time_ns": 20 * SECOND}}
    listener = client.start(argv=["/usr/bin/python3", "-c", LISTEN], stdin_stream=True, **beside)
    result = client.run(argv=["/usr/bin/python3", "-c", CONNECT], **beside)
    assert (result.status, result.stdout) == ("ok", b"111\n")
    listener.close_stdin()
    assert listener.wait().stdout == b"listening\n"


def test_a_port_is_free_again_for_the_next_job(client: Client) -> None:
    """N4: a port the last job listened on is neither taken nor answered in the next."""
    for _ in range(4):
        result = client.run(**job("leave_traces"), network="loopback")
        assert report(result.stdout)["port"] == "ok"
        result = client.run(**job("find_traces"), network="loopback")
        assert b"\nport=ECONNREFUSED\n" in result.stdout
