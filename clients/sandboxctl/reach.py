"""Finding a daemon: the one that was named, the usual one, or a private one for this call."""

from __future__ import annotations

import errno

from sandboxctl.plain import Unpacker, pack
from sandboxd.protocol.places import find_socket
from sandboxd_client._connection import DEFAULT_SOCKET, SOCKET_VARIABLE, Connection
from sandboxd_client.errors import DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio
    from sandboxd_client.private import Daemon

# Nobody listens there. Anything else, such as a missing permission, is for a person to solve.
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)


def named_socket(command: Command, stdio: Stdio) -> str | None:
    """The socket that somebody named; None leaves it to the default."""
    return command["--socket"] or stdio.environ.get(SOCKET_VARIABLE) or None


def connect(command: Command, stdio: Stdio) -> Connection:
    """A connection to the daemon. Raises DaemonUnreachable."""
    return _connect(named_socket(command, stdio) or find_socket(stdio.environ))


def _connect(path: str) -> Connection:
    return Connection(path, codec=(pack, Unpacker()))


def connect_or_start(command: Command, stdio: Stdio) -> tuple[Connection, Daemon | None]:
    """A connection, and the private daemon it leads to where one had to be started.

    A daemon that was named must be there; only where nobody said which is one started.
    """
    try:
        return connect(command, stdio), None
    except DaemonUnreachable as exc:
        if named_socket(command, stdio) or exc.errno not in _NOBODY:
            raise
    return _start()


def _start() -> tuple[Connection, Daemon]:
    from sandboxd_client.private import Daemon, DaemonNotStarted

    try:
        daemon = Daemon()
    except DaemonNotStarted as exc:
        raise DaemonNotStarted(
            f"no sandboxd listens at {DEFAULT_SOCKET}, and a private one did not start: {exc}"
        ) from exc
    try:
        return _connect(daemon.socket), daemon
    except BaseException:
        daemon.close()
        raise
