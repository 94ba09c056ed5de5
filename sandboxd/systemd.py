"""The two small protocols systemd speaks with a service: sd_notify and socket activation."""

import fcntl
import os
import socket
from collections.abc import MutableMapping

# sd_listen_fds(3): passed descriptors start here.
LISTEN_FDS_START = 3


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Send one sd_notify datagram such as ``READY=1``.

    Returns False when the service manager does not listen or cannot be reached: a daemon
    must not fail because nobody wants to hear about it.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "/@":
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            return False
    return True


def watchdog_interval_s(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """How often to send ``WATCHDOG=1`` (half of WATCHDOG_USEC), or None when nobody watches."""
    usec = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 2_000_000


def listen_fds(
    environ: MutableMapping[str, str] = os.environ, first: int = LISTEN_FDS_START
) -> list[socket.socket]:
    """Take over the listening sockets of socket activation.

    The variables are removed and the descriptors made close-on-exec, so that no child ever
    believes they are its own. The caller owns the sockets. Raises OSError when a descriptor that
    was promised is not there.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = []
    for fd in range(first, first + int(count)):
        flags = fcntl.fcntl(fd, fcntl.F_GETFD)
        fcntl.fcntl(fd, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
        sockets.append(socket.socket(fileno=fd))
    return sockets
