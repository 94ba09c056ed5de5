"""A cgroup of one's own for a daemon that a person starts, on a machine with pure cgroup v2.

A group that has controllers for its children may hold no process there, so the daemon cannot make
its jobs' groups in that of the shell it was started from; to that of an ordinary user's session it
may not write at all. systemd gives it a scope: a group that is delegated to this one process, and
gone when it ends.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from sandboxd import cgroups
from sandboxd.protocol import places

# Set for the second execution: a scope that does not help is not asked for again.
_ENTERED: Final = "SANDBOXD_SCOPE_ENTERED"
_OPTIONS: Final = ("--scope", "--quiet", "--collect", "-pDelegate=yes", "-pTasksMax=infinity")


def enter() -> None:
    """Go on as the same process, with the same descriptors, in a scope; by executing once more.

    Returns where that is not needed, or not possible: what is missing is then said by whoever
    prepares the cgroups. Must be called before anything was taken from the environment.
    """
    entered = os.environ.pop(_ENTERED, "")
    if entered or not Path("/run/systemd/system").is_dir() or not _is_wanted():
        return
    systemd_run = shutil.which("systemd-run")
    manager = _manager()
    if systemd_run is not None and manager is not None:
        os.environ[_ENTERED] = "1"
        command = [systemd_run, *manager, *_OPTIONS, "--", sys.executable, *sys.orig_argv[1:]]
        os.execv(systemd_run, command)


def _manager() -> list[str] | None:
    """The option that names who gives the scope; None when nobody can be reached."""
    if os.geteuid() == 0:
        return []
    runtime = places.runtime_directory(os.environ)
    if not any(Path(runtime, name).exists() for name in ("systemd/private", "bus")):
        return None
    # Where it is missing, as after su, systemd-run would not find the manager.
    os.environ["XDG_RUNTIME_DIR"] = runtime
    return ["--user"]


def _is_wanted() -> bool:
    """Whether our group has controllers we need, and other processes in it, or is not ours."""
    hierarchies = cgroups.find_hierarchies()
    if any("memory" in item.controllers for item in hierarchies):
        return False
    for item in hierarchies:
        if item.version == 2 and (item.own / "cgroup.type").exists():
            members = (item.own / "cgroup.procs").read_text().split()
            is_shared = any(pid != str(os.getpid()) for pid in members)
            return is_shared or not os.access(item.own, os.W_OK)
    return False
