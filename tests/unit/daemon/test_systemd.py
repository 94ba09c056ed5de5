"""sd_notify and socket activation, spoken with a real datagram socket and real descriptors."""

import fcntl
import os
import socket
from pathlib import Path

import pytest

from sandboxd import systemd


@pytest.mark.parametrize("abstract", [False, True])
def test_notify_sends_one_datagram(tmp_path: Path, abstract: bool) -> None:
    path = f"@sandboxd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path[1:] if abstract else path)
        assert systemd.notify("READY=1\nSTATUS=fine", {"NOTIFY_SOCKET": path})
        assert manager.recv(4096) == b"READY=1\nSTATUS=fine"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"},
                                     {"NOTIFY_SOCKET": "/nowhere/notify"}])  # fmt: skip
def test_notify_without_a_manager_is_no_error(environ: dict[str, str]) -> None:
    assert not systemd.notify("READY=1", environ)


def test_watchdog_interval_is_half_of_what_is_asked() -> None:
    own = str(os.getpid())
    assert systemd.watchdog_interval_s({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": own}) == 2.0
    assert systemd.watchdog_interval_s({"WATCHDOG_USEC": "4000000"}) == 2.0


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"},
                                     {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}])  # fmt: skip
def test_no_watchdog(environ: dict[str, str]) -> None:
    assert systemd.watchdog_interval_s(environ) is None


def test_listen_fds_are_taken_over_once() -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        fd = fcntl.fcntl(listening.fileno(), fcntl.F_DUPFD, 100)
        os.set_inheritable(fd, True)
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
        (passed,) = systemd.listen_fds(environ, first=fd)
        with passed:
            assert passed.fileno() == fd
            assert not os.get_inheritable(fd)
        assert environ == {}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "one"},
    ],
)
def test_descriptors_of_another_process_are_left_alone(environ: dict[str, str]) -> None:
    assert systemd.listen_fds(environ) == []
    assert environ == {}
