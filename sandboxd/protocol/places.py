"""Where a daemon and its clients meet when nobody told them: the machine's place, and a user's own.

The paths of a user follow the XDG Base Directory Specification, which says that a relative path in
one of its variables is to be ignored.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM_SOCKET = "/run/sandboxd/sandboxd.sock"


def find_socket(environ: Mapping[str, str] | None = None) -> str:
    """Where a client looks: the machine's daemon; where there is none for this user, one that the
    user has started."""
    own = user_socket(os.environ if environ is None else environ)
    if os.path.exists(own) and not os.access(SYSTEM_SOCKET, os.W_OK):
        return own
    return SYSTEM_SOCKET


def user_socket(environ: Mapping[str, str]) -> str:
    """Where the daemon of an ordinary user listens."""
    runtime = runtime_directory(environ)
    return f"{runtime}/sandboxd/sandboxd.sock" if runtime else f"{user_state(environ)}/socket"


def user_state(environ: Mapping[str, str]) -> str:
    """Where it keeps what is to be kept."""
    return f"{_base(environ, 'XDG_STATE_HOME', '.local/state')}/sandboxd"


def user_configuration(environ: Mapping[str, str]) -> str:
    """The directory of its sandboxd.toml and its runtimes."""
    return f"{_base(environ, 'XDG_CONFIG_HOME', '.config')}/sandboxd"


def runtime_directory(environ: Mapping[str, str]) -> str:
    """The directory a login gives the user for sockets; empty where there is none."""
    usual = f"/run/user/{os.getuid()}"
    path = environ.get("XDG_RUNTIME_DIR", "")
    path = path if path.startswith("/") else usual
    return path if os.path.isdir(path) else ""


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> str:
    path = environ.get(variable, "")
    if path.startswith("/"):
        return path
    home = environ.get("HOME", "")
    return f"{home if home.startswith('/') else os.path.expanduser('~')}/{below_home}"
