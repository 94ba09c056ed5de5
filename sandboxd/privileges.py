"""Giving up every privilege, for ever, and proving it.

The daemon starts as root only to make its cgroups, bind its socket and start the helper.
After `drop` neither it nor anything it starts can gain a capability again.
"""

import ctypes
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from sandboxd.errors import ConfigError, HostError

# linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

# linux/securebits.h: uid 0 gets nothing by an execve or by becoming 0, each with its lock; and no
# capability is kept when the uid changes.
_SECUREBITS = 0b1110_1111
# linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522

_CAPABILITY_FIELDS = ("CapInh", "CapPrm", "CapEff", "CapAmb")


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int


def choose_identity(user: str, fallback_uid: int) -> Identity:
    """The account to become: ``user`` (a name or a number), else ``fallback_uid`` of nobody.

    A missing account named in the configuration's default is no error: a numeric uid that no
    account has is as good. Root is refused, because then nothing would be given up.
    """
    try:
        entry = pwd.getpwnam(user)
        identity = Identity(entry.pw_uid, entry.pw_gid)
    except KeyError:
        uid = int(user) if user.isdigit() else fallback_uid
        identity = Identity(uid, uid)
    if identity.uid == 0:
        raise ConfigError("user must not be root: sandboxd gives up root's privileges at start")
    return identity


def drop(identity: Identity) -> None:
    """Become ``identity`` with no capability, or raise OSError or HostError.

    Must run before any thread is started: capabilities belong to threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # These two need CAP_SETPCAP. Without it they stay as they are, which no_new_privs makes moot.
    libc.prctl(_PR_SET_SECUREBITS, _SECUREBITS, 0, 0, 0)
    for capability in range(_last_capability() + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    _empty_sets(libc)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    verify()


def _empty_sets(libc: ctypes.CDLL) -> None:
    """Whoever stays uid 0, that of a user namespace, has not lost them by changing the uid."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def verify() -> None:
    """Raise HostError unless the kernel says that no capability is left."""
    held = [name for name, bits in capabilities().items() if bits]
    if held:
        raise HostError(
            f"capabilities are left after dropping privileges ({', '.join(held)}): "
            "sandboxd must not be started with securebits that keep capabilities"
        )


def capabilities(status: Path = Path("/proc/self/status")) -> dict[str, int]:
    """The capability sets of this process, by the kernel's names."""
    lines = (line.partition(":") for line in status.read_text().splitlines())
    return {key: int(value, 16) for key, _, value in lines if key in _CAPABILITY_FIELDS}


def _last_capability() -> int:
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())
