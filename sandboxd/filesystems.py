"""Whether a descriptor is of a file system that may keep whoever uses or closes it waiting.

Such a file system asks a server about almost everything, a close (its flush) included: another
machine, or a process of any user (FUSE), who may never answer, and a signal does not end the wait.
"""

import ctypes
import fcntl
import os
from typing import Final

# f_type of statfs(2), as in linux/magic.h and the file systems' own headers.
_ASK_A_SERVER: Final = frozenset(
    {
        0x65735546,  # FUSE, virtiofs
        0x6969,  # NFS
        0x517B,  # SMB
        0xFE534D42,  # SMB2
        0xFF534D42,  # CIFS
        0x01021997,  # 9P
        0x00C36400,  # Ceph
        0x5346414F,  # AFS, OpenAFS
        0x6B414653,  # AFS
        0x73757245,  # Coda
        0x564C,  # NCP
        0x0BD00BD0,  # Lustre
        0x47504653,  # GPFS
        0x19830326,  # BeeGFS
        0x01161970,  # GFS2
        0x7461636F,  # OCFS2
    }
)
# Made of other file systems, which may be such. Any user can mount one of those.
_OVERLAY: Final = 0x794C7630
_STATFS_BYTES: Final = 256
_MOUNTS: Final = "/proc/self/mountinfo"

_libc: Final = ctypes.CDLL(None, use_errno=True)


def may_wait(fd: int) -> bool:
    """Whether it has to be looked at, by `waits`. Does not wait itself."""
    try:
        # Of what has no path it is a name in brackets: pipe, socket.
        if not os.readlink(f"/proc/self/fd/{fd}").startswith("/"):
            return False
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return True
    return False  # Memory: a memfd, or a file of a tmpfs.


def waits(fd: int) -> bool:
    """Whether it is of such a file system. For a thread, as it may wait for that, too."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(fd, buffer) != 0:
        return True
    kind = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return kind in _ASK_A_SERVER or (kind == _OVERLAY and not _is_ours(fd))


def _is_ours(fd: int) -> bool:
    """Whether the daemon's own mounts have this file system: then the administrator made it."""
    try:
        device = os.fstat(fd).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:
            return any(line.split(" ", 3)[2] == number for line in mounts)
    except OSError:
        return False
