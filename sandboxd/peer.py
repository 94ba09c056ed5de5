"""Who is at the other end of a connection, and what that user may do."""

import socket
import struct
from dataclasses import dataclass
from typing import Final

from sandboxd.config import Config
from sandboxd.protocol.errors import PERMISSION_DENIED, RequestError

# struct ucred: pid, uid, gid. They are those of the moment of connect(2), effective ids.
_UCRED: Final = struct.Struct("=iII")
# socket(7), not in Python's socket module.
_SO_PEERGROUPS: Final = 59
# The most Python's getsockopt takes: 256 groups.
_MAX_GROUPS_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """One client. Its uid is the tenant its jobs belong to."""

    uid: int
    can_run: bool
    can_admin: bool

    def require_run(self) -> None:
        if not self.can_run:
            raise RequestError(
                PERMISSION_DENIED,
                f"uid {self.uid} may not run jobs; see allowed_uids and allowed_gids in "
                "sandboxd.toml (without root it serves only the user who started it)",
            )

    def require_admin(self) -> None:
        if not self.can_admin:
            raise RequestError(
                PERMISSION_DENIED,
                f"uid {self.uid} may not change packages and environments; add it to admin_uids in "
                "sandboxd.toml",
            )


def identify(sock: socket.socket, config: Config) -> Peer:
    """The peer of a connected Unix socket, as the kernel vouches for it."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, gid = _UCRED.unpack(raw)
    can_admin = uid in config.admin_uids
    can_run = can_admin or _may_run(sock, uid, gid, config)
    return Peer(uid, can_run, can_admin)


def _may_run(sock: socket.socket, uid: int, gid: int, config: Config) -> bool:
    if not config.allowed_uids and not config.allowed_gids:
        return True
    if uid in config.allowed_uids or gid in config.allowed_gids:
        return True
    return bool(config.allowed_gids) and not _groups(sock).isdisjoint(config.allowed_gids)


def _groups(sock: socket.socket) -> set[int]:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError:
        return set()  # ERANGE: in more groups than that. Such a user is allowed by uid.
    return {gid for (gid,) in struct.iter_unpack("=I", raw)}
