"""The other sandboxes: each in its best documented mode, with settings like ours.

All of them get: user, pid, mount, ipc, uts, network and (where they know it) cgroup namespaces, the
host's /usr read-only, a /proc of their own, a tmpfs to work in, no network, no capability, and a
seccomp filter where they take one. Cgroups are made below the group this program runs in, or not at
all; a peer that cannot be told so runs without, and its row says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gojudge import GoJudge
from tools import BUILD, BenchError, floor, run

if TYPE_CHECKING:
    from times import Round

MEMORY_LIMIT = 256 << 20
PROCESS_LIMIT = 64
CGROUPS = Path("/sys/fs/cgroup")


class Peer(Protocol):
    name: str
    how: str

    def run(self, runs: int, workers: int) -> Round: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Command:
    """A sandbox that is a command: started once for each job, by the same program as the floor."""

    name: str
    how: str
    argv: list[str]
    file: Path | None = None
    clean_up: tuple[Path, ...] = ()
    undo: tuple[tuple[str, ...], ...] = ()

    def run(self, runs: int, workers: int) -> Round:
        return floor(self.argv, runs=runs, workers=workers, file=self.file)

    def close(self) -> None:
        for command in self.undo:
            run(command)
        for path in self.clean_up:
            _remove_groups(path)


def installed(work: Path) -> tuple[list[Peer], dict[str, str]]:
    """The peers that work here, and for each other one the reason why it is left out."""
    peers: list[Peer] = []
    left_out: dict[str, str] = {}
    for name, make in MAKERS.items():
        program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            left_out[name] = "not installed"
            continue
        try:
            peer = make(program, work)
        except BenchError as error:
            left_out[name] = f"does not run here: {error}"
            continue
        try:
            peer.run(1, 1)
        except BenchError as error:
            left_out[name] = f"does not run here: {error}"
            peer.close()
        else:
            peers.append(peer)
    return peers, left_out


def _bubblewrap(program: str, _work: Path) -> Peer:
    argv = [program, "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000"]
    argv += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    argv += ["--ro-bind", "/usr", "/usr", "--ro-bind", str(BUILD), "/bench"]
    for name in ("bin", "lib", "lib64"):
        argv += ["--symlink", f"usr/{name}", f"/{name}"]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/work"]
    argv += ["--chdir", "/work", "--seccomp", "3", "/bench/true"]
    return Command("bubblewrap", "no cgroup, it has none", argv, file=BUILD / "filter.bpf")


def _nsjail(program: str, _work: Path) -> Peer:
    names = run([str(BUILD / "filter"), "names"]).decode().split()
    policy = f"POLICY bench {{ ERRNO(1) {{ {', '.join(names)} }} }} USE bench DEFAULT ALLOW"
    argv = [program, "--mode", "o", "--really_quiet", "--user", "1000", "--group", "1000"]
    argv += ["--bindmount_ro", "/usr", "--bindmount_ro", f"{BUILD}:/bench"]
    for name in ("bin", "lib", "lib64"):
        argv += ["--symlink", f"usr/{name}:/{name}"]
    argv += ["--tmpfsmount", "/tmp", "--tmpfsmount", "/work", "--cwd", "/work"]
    argv += ["--seccomp_string", policy, "--", "/bench/true"]
    return Command("nsjail", "without cgroup", argv)


def _isolate(program: str, _work: Path) -> Peer:
    """Boxes are made before, as its manual advises; only --run is measured."""
    for box in range(10):
        run([program, f"--box-id={box}", "--init"])
    argv = [program, "--box-id=@", "--silent", f"--dir=/bench={BUILD}", "--run", "--"]
    argv.append("/bench/true")
    undo = tuple((program, f"--box-id={box}", "--cleanup") for box in range(10))
    return Command("isolate", "--run in a made box; without cgroup and seccomp", argv, undo=undo)


def _runc(program: str, work: Path) -> Peer:
    return _oci("runc", program, work)


def _crun(program: str, work: Path) -> Peer:
    return _oci("crun", program, work)


def _oci(name: str, program: str, work: Path) -> Peer:
    bundle = work / name
    work.chmod(0o755)  # the mapped user must reach its root file system
    group = f"{_own_group().rstrip('/')}/bench-{os.getpid()}"
    existing = {path for path in CGROUPS.glob("**/") if path.is_dir()}
    new = [
        step
        for hierarchy in _hierarchies()
        for step in (hierarchy / group[1:], *(hierarchy / group[1:]).parents)
        if hierarchy in step.parents and step not in existing
    ]
    for target in ("usr", "bench", "proc", "dev", "tmp", "work"):
        (bundle / "rootfs" / target).mkdir(parents=True)
    # Two at once may not share a cgroup, so each worker has a bundle of its own.
    for worker in range(10):
        config = _oci_config(bundle / "rootfs", f"{group}/{worker}")
        directory = bundle / str(worker)
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(config))
    argv = [program, "--root", str(bundle / "state"), "run", "--bundle", f"{bundle}/@", "bench@"]
    return Command(name, "memory and pids cgroup", argv, clean_up=tuple(sorted(new)[::-1]))


def _oci_config(rootfs: Path, group: str) -> dict[str, object]:
    names = run([str(BUILD / "filter"), "names"]).decode().split()
    ids = [
        {"containerID": 0, "hostID": 200001, "size": 1},
        {"containerID": 1000, "hostID": 200000, "size": 1},
    ]
    namespaces = ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 1000, "gid": 1000},
            "args": ["/bench/true"],
            "cwd": "/work",
            "capabilities": {},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 64}],
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": True},
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/usr", "bind", "/usr", "rbind", "ro", "nosuid"),
            _mount("/bench", "bind", str(BUILD), "bind", "ro", "nosuid"),
            *(_mount(path, "tmpfs", "tmpfs", "nosuid", "size=16m") for path in ("/dev", "/tmp")),
            _mount("/work", "tmpfs", "tmpfs", "nosuid", "size=16m", "mode=1777"),
        ],
        "linux": {
            "uidMappings": ids,
            "gidMappings": ids,
            "namespaces": [{"type": kind} for kind in namespaces],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO"}],
            },
            "cgroupsPath": group,
            "resources": {"memory": {"limit": MEMORY_LIMIT}, "pids": {"limit": PROCESS_LIMIT}},
        },
    }


def _mount(target: str, kind: str, source: str = "", *options: str) -> dict[str, object]:
    return {
        "destination": target,
        "type": kind,
        "source": source or kind,
        "options": list(options),
    }


def _own_group() -> str:
    """Our deepest cgroup path. Runtimes use one path in all hierarchies, and below this one every
    hierarchy is ours."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return max((line.split(":", 2)[2] for line in lines), key=len)


def _hierarchies() -> list[Path]:
    mounts = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [Path(fields[4]) for fields in mounts if {"cgroup", "cgroup2"} & set(fields[7:])]


def _remove_groups(path: Path) -> None:
    for child in sorted(path.glob("**/"), reverse=True):
        with suppress(OSError):
            child.rmdir()


def version(name: str) -> str:
    """The first line of what the program says about itself."""
    names = {"bubblewrap": "bwrap"}
    program = shutil.which(names.get(name, name), path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, check=False, timeout=10)
    return (done.stdout or done.stderr).decode(errors="replace").partition("\n")[0]


MAKERS = {
    "bwrap": _bubblewrap,
    "nsjail": _nsjail,
    "isolate": _isolate,
    "crun": _crun,
    "runc": _runc,
    "go-judge": GoJudge.start,
}
