"""Resource limits of processes that run."""

import os
import resource
from pathlib import Path


def set_soft(pid: int, kind: int, soft: int) -> None:
    """Change a soft limit of a process. Only who has all its ids may, so that is who does it."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    uid, gid = (next(int(line.split()[1]) for line in status if line.startswith(name))
                for name in ("Uid:", "Gid:"))  # fmt: skip
    _, hard = resource.prlimit(pid, kind)
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            resource.prlimit(pid, kind, (soft, hard))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert resource.prlimit(pid, kind)[0] == soft
