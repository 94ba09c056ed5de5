"""What can go wrong between a client and the daemon besides a refused request."""

from __future__ import annotations

import errno
import os

from sandboxd.protocol.errors import SandboxdError

_HINTS = {
    errno.ENOENT: "is sandboxd running?",
    errno.ECONNREFUSED: "is sandboxd running?",
    errno.EACCES: "ask the administrator to put you into the socket's group",
    errno.EPERM: "ask the administrator to put you into the socket's group",
    errno.EAGAIN: "it has more connections waiting than it can take; try again",
}


class DaemonUnreachable(SandboxdError):
    """No daemon could be reached at `path`; `errno` says why."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(path, error)
        self.path = path
        self.errno = error.errno

    def __str__(self) -> str:
        reason = os.strerror(self.errno) if self.errno else "the name is too long for a socket"
        hint = _HINTS.get(self.errno or 0)
        text = f"cannot reach sandboxd at {self.path}: {reason}"
        return f"{text}; {hint}" if hint else text


class ConnectionLost(SandboxdError):
    """The connection ended; its jobs are cancelled. A new one must be made."""
