"""A copy of this machine to install packages in: its files below an overlay that is forgotten.

It is a mount namespace of its own, in which nothing is mounted for anybody else, whose root is an
overlay over ours; what is written goes to a tmpfs. Processes, networks and cgroups are ours.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support import requirements

_SETUP = """
set -e
cd "$1"
mount -t tmpfs -o size=1g,mode=755 upper upper
mkdir upper/files upper/work
mount -t overlay root -o lowerdir=/,upperdir=upper/files,workdir=upper/work root
mount -t proc proc root/proc
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mkdir -p root/mnt/outside
cd root
pivot_root . mnt/outside
cd /
umount -l /mnt/outside
# A machine on which nothing was installed yet, and no service manager runs.
rm -rf /run/systemd /run/sandboxd /var/lib/sandboxd /etc/sandboxd /usr/sbin/policy-rc.d
echo ready
read -r end || true
"""
_TIMEOUT_S = 110


class Machine:
    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--wd=/", "--"]

    def try_run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command there as root."""
        return subprocess.run(
            [*self._enter, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            env=requirements.CLEAN_ENVIRONMENT
            | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        )

    def run(self, *command: str) -> str:
        """The output of a command that must succeed."""
        done = self.try_run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def has(self, path: str) -> bool:
        return self.try_run("test", "-e", path).returncode == 0 or self.is_link(path)

    def is_link(self, path: str) -> bool:
        return self.try_run("test", "-L", path).returncode == 0

    def put(self, source: Path, path: str) -> None:
        """Copy a file of ours to a place there."""
        with source.open("rb") as file:
            subprocess.run([*self._enter, "tee", path], stdin=file, stdout=-3, check=True)


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """Skips where overlays or namespaces cannot be had."""
    if os.geteuid() != 0:
        requirements.skip("a copy of the machine is made of mounts: run the tests as root")
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-machine-", dir="/tmp") as directory:
        for name in ("upper", "root"):
            Path(directory, name).mkdir()
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SETUP, "sh", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != "ready\n":
                requirements.skip(f"no copy of this machine: {holder.communicate()[1].strip()}")
            yield Machine(holder.pid)
        finally:
            holder.communicate()
