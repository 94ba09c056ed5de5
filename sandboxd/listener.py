"""The listening socket: bound, taken over from a dead daemon, or passed by systemd."""

import contextlib
import errno
import grp
import os
import socket
import stat
from pathlib import Path
from typing import Final

from sandboxd.config import Config
from sandboxd.errors import ConfigError, HostError
from sandboxd.privileges import Identity

_BACKLOG: Final = 1024
_MAX_PATH: Final = 107  # sun_path has 108 bytes with its NUL.


class Listener:
    """A listening Unix socket. Owns it, and its file where it was made here."""

    def __init__(self, sock: socket.socket, path: Path | None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._path = path
        self._inode = os.stat(path).st_ino if path else 0

    def close(self) -> None:
        """Stop listening, and remove the socket's file unless another daemon has replaced it."""
        self.sock.close()
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            # Where the directory is root's the daemon may not; the next start takes over.
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)


def adopt(sockets: list[socket.socket]) -> Listener:
    """The socket that systemd listens on. Raises ConfigError when it is of no use."""
    if len(sockets) != 1:
        raise ConfigError(f"sandboxd.socket passed {len(sockets)} sockets; one is wanted")
    sock = sockets[0]
    listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not listening:
        raise ConfigError("sandboxd.socket: one ListenStream= of a Unix socket is wanted")
    return Listener(sock, None)


def bind(config: Config, owner: Identity | None) -> Listener:
    """Bind and listen; the file's owner becomes ``owner``, who will have to remove it.

    Raises HostError when another daemon listens there, or the path cannot be used.
    """
    path = Path(config.socket)
    if len(os.fsencode(path)) > _MAX_PATH:
        raise ConfigError(f"socket: {path} is longer than {_MAX_PATH} bytes")
    _make_directory(path.parent, owner)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Nobody may connect before owner and mode are set.
        mask = os.umask(0o777)
        try:
            sock.bind(os.fspath(path))
        finally:
            os.umask(mask)
        os.chown(path, owner.uid if owner else -1, _group(config, owner))
        os.chmod(path, config.socket_mode)
        sock.listen(_BACKLOG)
        return Listener(sock, path)
    except OSError as exc:
        sock.close()
        raise HostError(f"cannot listen on {path}: {exc.strerror}") from exc
    except BaseException:
        sock.close()
        raise


def _make_directory(directory: Path, owner: Identity | None) -> None:
    try:
        directory.mkdir(mode=0o755, parents=True)
    except FileExistsError:
        return
    except OSError as exc:
        raise HostError(f"cannot make the socket's directory {directory}: {exc.strerror}") from exc
    if owner is not None:
        os.chown(directory, owner.uid, owner.gid)


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on. Two daemons that start at the same moment may both
    find it stale; the later one then has the path, and the earlier one's file is gone."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise HostError(f"{path} is there and is not a socket; remove it or set another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(os.fspath(path))
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        raise HostError(f"another sandboxd listens on {path}")
    os.unlink(path)


def _group(config: Config, owner: Identity | None) -> int:
    """The gid for the socket, or -1 to leave it.

    Only a group somebody asked for must exist. Without the usual one the socket is for root and
    the daemon's own group, rather than for everybody in root's.
    """
    name = config.socket_group
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name == Config().socket_group:
            return owner.gid if owner else -1
        raise ConfigError(f"socket_group: there is no group {name!r}") from None
