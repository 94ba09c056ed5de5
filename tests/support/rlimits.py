"""Resource limits of processes that run."""

import os
import resource
from pathlib import Path


def set_soft(pid: int, kind: int, soft: int) -> None:
    """Change a soft limit of a process. Only who has all its ids may, so that is who does it."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    uid, gid = (next(int(line.split()[1]) for line in status if line.startswith(name))
                for name in ("Uid:", "Gid:"))  # fmt: skip
    hard = limits(pid, kind)[1]
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            resource.prlimit(pid, kind, (soft, hard))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert limits(pid, kind)[0] == soft


def limits(pid: int, kind: int) -> tuple[int, int]:
    """The soft and the hard limit; to read another user's by prlimit(2) takes a capability."""
    words = {resource.RLIMIT_FSIZE: "Max file size", resource.RLIMIT_NOFILE: "Max open files"}
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(words[kind]):
            soft, hard = line[len(words[kind]) :].split()[:2]
            return _number(soft), _number(hard)
    raise AssertionError(f"no {words[kind]}")


def _number(text: str) -> int:
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)
