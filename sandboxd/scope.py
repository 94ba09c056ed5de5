"""A cgroup of one's own for a daemon that a person starts, on a machine with pure cgroup v2.

A group that has controllers for its children may hold no process there, so the daemon cannot make
its jobs' groups in that of the shell it was started from. systemd gives it a scope: a group that
is delegated to this one process, and gone when it ends.
"""

import os
import shutil
import sys
from pathlib import Path

from sandboxd import cgroups


def enter() -> None:
    """Go on as the same process, with the same descriptors, in a scope; by executing once more.

    Returns where that is not needed, or not possible: what is missing is then said by whoever
    prepares the cgroups. Must be called before anything was taken from the environment.
    """
    if os.geteuid() != 0 or not Path("/run/systemd/system").is_dir() or not _is_shared():
        return
    systemd_run = shutil.which("systemd-run")
    if systemd_run is not None:
        options = ["--scope", "--quiet", "--collect", "-pDelegate=yes", "-pTasksMax=infinity"]
        command = [systemd_run, *options, "--", sys.executable, *sys.orig_argv[1:]]
        os.execv(systemd_run, command)


def _is_shared() -> bool:
    """Whether our group has controllers we need, and other processes in it."""
    hierarchies = cgroups.find_hierarchies()
    if any("memory" in item.controllers for item in hierarchies):
        return False
    for item in hierarchies:
        if item.version == 2 and (item.own / "cgroup.type").exists():
            members = (item.own / "cgroup.procs").read_text().split()
            return any(pid != str(os.getpid()) for pid in members)
    return False
