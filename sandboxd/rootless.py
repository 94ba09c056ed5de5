"""The engine as an ordinary user: a user namespace in which this user is root.

Theory of operation. Before there is any thread, the daemon makes a user and a mount namespace and
goes on in them. Two programs that stay outside, newuidmap and newgidmap, which are set-user-id and
know what the administrator gave to whom, write its maps: id 0 is the user, 1 and the following are
the user's subordinate ids (subuid(5)). From there on everything is as it is for root: the helper is
started with every capability over the namespace, which are none over the host, and the daemon
gives up its own. Without subordinate ids sandboxes could not have ids of their own, so there is no
way without them.
"""

import ctypes
import errno
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sandboxd.config import Config
from sandboxd.engine import wire
from sandboxd.errors import ConfigError, HostError

# linux/sched.h, sys/mount.h
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_REC_SLAVE: Final = 0x4000 | 0x80000
# The kernel takes this many lines in a map (UID_GID_MAP_MAX_EXTENTS), and one is for id 0.
_MAX_RANGES: Final = 339
_MAPPER_TIMEOUT_S: Final = 10

_APPARMOR: Final = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_CLONE_SYSCTL: Final = Path("/proc/sys/kernel/unprivileged_userns_clone")


@dataclass(frozen=True, slots=True)
class User:
    """Who starts the daemon, by the host's numbers."""

    name: str
    uid: int
    gid: int
    uids: tuple[range, ...]
    gids: tuple[range, ...]
    """The subordinate ids of the host that are 1 and the following in the namespace."""


def is_needed() -> bool:
    return os.geteuid() != 0


def find_user(subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")) -> User:
    """Who we are, and which ids the administrator gave to us. Raises HostError without any."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise HostError(
            f"uid {uid} has no account, and newuidmap wants one to look for its subordinate ids"
        ) from None
    for program in ("newuidmap", "newgidmap"):
        if shutil.which(program) is None:
            raise HostError(
                f"{program} is not installed, without which an ordinary user cannot run sandboxes:"
                " apt-get install uidmap (elsewhere the package is called shadow or shadow-utils)"
            )
    return User(name, uid, gid, _ranges(subuid, name, uid), _ranges(subgid, name, uid))


def _ranges(file: Path, name: str, uid: int) -> tuple[range, ...]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    found = []
    for line in lines:
        owner, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if owner in (name, str(uid)) and first.isdigit() and count.isdigit():
            found.append(range(int(first), int(first) + int(count)))
    return tuple(ids for ids in found if ids)[:_MAX_RANGES]


def choose_ids(config: Config, user: User) -> int:
    """The first of the ids that sandboxes get, in the namespace.

    From the middle of what is there: containers of the same user have the same ids, and their
    accounts are at both ends. Raises HostError where there are too few.
    """
    needed = wire.SLOT_UIDS * (config.slots + config.spares + config.warm_slots)
    for file, ranges, option in (
        ("/etc/subuid", user.uids, "--add-subuids"),
        ("/etc/subgid", user.gids, "--add-subgids"),
    ):
        count = sum(map(len, ranges))
        if count < needed:
            raise HostError(
                f"{file} gives {user.name} {count or 'no'} subordinate ids, and sandboxes need"
                f" {needed}: as root, usermod {option} FIRST-LAST {user.name} (65536 ids that"
                " nobody else has, for example 100000-165535)"
            )
    count = min(sum(map(len, user.uids)), sum(map(len, user.gids)))
    return 1 + (count - needed) // 2


def serve_alone(config: Config, user: User) -> Config:
    """What ``config`` is for a daemon of this user, in whose namespace it is id 0.

    The kernel can tell only one user from all others there: whoever has no id in it is nobody.
    Raises ConfigError where somebody else is to be served, HostError for too few ids.
    """
    usual = Config()
    asked = {
        "allowed_uids": set(config.allowed_uids) <= {user.uid},
        "allowed_gids": not config.allowed_gids,
        "admin_uids": set(config.admin_uids) <= {0, user.uid},
        "socket_mode": config.socket_mode in (usual.socket_mode, config.socket_mode & 0o700),
        "socket_group": config.socket_group in (usual.socket_group, str(user.gid)),
        "user": config.user in (usual.user, user.name, str(user.uid)),
        "uid_base": config.uid_base == usual.uid_base,
    }
    for key, possible in asked.items():
        if not possible:
            raise ConfigError(
                f"{key}: without root sandboxd serves nobody but {user.name}, who starts it, and"
                " chooses ids by itself; leave the key out, or start sandboxd as root"
            )
    mode = 0o600 if config.socket_mode == usual.socket_mode else config.socket_mode
    admins = (0,) if config.admin_uids else ()
    return msgspec.structs.replace(
        config,
        allowed_uids=(0,),
        admin_uids=admins,
        socket_mode=mode,
        socket_group="0",
        uid_base=choose_ids(config, user),
    )


def enter_namespaces(user: User) -> None:
    """Become root of a user namespace of one's own, with a mount namespace that belongs to it.

    Must be called before any thread is started. Raises HostError with what is missing.
    """
    with (
        _Mapper("newuidmap", user.uid, user.uids) as uids,
        _Mapper("newgidmap", user.gid, user.gids) as gids,
    ):
        _unshare()
        uids.finish(user)
        gids.finish(user)
    _detach_mounts()
    # Those of other groups have no name in here, and nothing is to be reached by them.
    os.setgroups([])


class _Mapper:
    """A program that will write a map of ours from outside. Ends with the block in any case."""

    def __init__(self, program: str, own: int, ranges: Sequence[range]) -> None:
        arguments = [0, own, 1]
        first = 1
        for ids in ranges:
            arguments += [first, ids.start, len(ids)]
            first += len(ids)
        self._program = program
        self._process = subprocess.Popen(
            # It was started outside, and must not begin before there is a namespace.
            ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh",
             program, str(os.getpid()), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> "_Mapper":
        return self

    def finish(self, user: User) -> None:
        """Let it write the map. Raises HostError with its words when it will not."""
        _, words = self._process.communicate(b"go\n", _MAPPER_TIMEOUT_S)
        if self._process.returncode:
            said = " ".join(words.decode("utf-8", "replace").split())
            raise HostError(
                f"{self._program} does not give {user.name} subordinate ids: {said or 'no word'}"
                " (it must be set-user-id root, sandboxd started without no_new_privs and with the"
                " primary group of the account)"
            )

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        raise HostError(_why_not(ctypes.get_errno()))


def _detach_mounts() -> None:
    """Nothing mounted in here may show outside; what the host mounts shows in here. Some hosts let
    anybody make a user namespace and nobody use it: that is found out here."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC_SLAVE), None) != 0:
        raise HostError(_why_not(ctypes.get_errno()))


def _why_not(error: int) -> str:
    why = f"the host does not let you make a user namespace ({os.strerror(error)})"
    if error == errno.ENOSPC:
        return f"{why}: as root, sysctl -w user.max_user_namespaces=10000"
    for sysctl, value in ((_CLONE_SYSCTL, "1"), (_APPARMOR, "0")):
        if sysctl.exists() and sysctl.read_text().strip() != value:
            return f"{why}: as root, sysctl -w kernel.{sysctl.name}={value}"
    return f"{why}: in a container, its seccomp or AppArmor profile must allow unshare"
