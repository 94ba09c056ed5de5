"""What is weaker than under root, found out and not assumed: a sentence for each difference."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandboxd.cgroups import Groups
from sandboxd.config import Config
from sandboxd.rootless import User

ROOT: Final = "root"
ROOTLESS: Final = "rootless"

_YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
# Nobody can trace anybody else any more.
_YAMA_NO_ATTACH: Final = "3"


@dataclass(frozen=True, slots=True)
class Weaker:
    """Compares a running helper with what root could have given it. ``user`` is None for root."""

    user: User | None
    config: Config
    groups: Groups
    helper: int
    """The pid of the keeper."""

    @property
    def mode(self) -> str:
        return ROOT if self.user is None else ROOTLESS

    def sentences(self) -> list[str]:
        if self.user is None:
            return []
        proc = Path("/proc", str(self.helper))
        return [
            *_exposed(self.user, proc),
            *_alone(self.user),
            *_shared_ids(self.user),
            *_no_precedence(proc),
            *_no_shares(self.groups),
            *_killed_early(proc, self.user),
            *_bounded(self.config, self.user),
        ]


def _exposed(user: User, proc: Path) -> Iterator[str]:
    if _status(proc, "Uid").split()[:1] == [str(os.getuid())]:
        traced = not (_YAMA.exists() and _YAMA.read_text().strip() == _YAMA_NO_ATTACH)
        yield (
            f"sandboxd and sandbox-helper are uid {user.uid} on the host: every other program of"
            f" {user.name} can stop them{' and change their memory' if traced else ''}"
        )
    yield (
        f"who takes over sandboxd has what {user.name} has, files and processes; under root it has"
        " an account of its own"
    )


def _alone(user: User) -> Iterator[str]:
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    own = [line.split() for line in lines]
    if ["0", str(user.uid), "1"] in own:
        yield f"it serves {user.name} alone: other users, root among them, are refused"


def _shared_ids(user: User) -> Iterator[str]:
    ids = ", ".join(f"{ids.start}-{ids.stop - 1}" for ids in user.uids)
    yield (
        f"sandboxes have uids out of {ids}, the subordinate ids of {user.name}: containers of"
        f" {user.name} can have the same, and only sandboxes of one sandboxd never do"
    )


def _no_precedence(proc: Path) -> Iterator[str]:
    nice = os.getpriority(os.PRIO_PROCESS, int(proc.name))
    if nice >= 0:
        yield (
            f"sandboxd and sandbox-helper have no precedence over jobs (nice value {nice}): on a"
            " busy host a time limit can be noticed later, and answers take longer"
        )


def _no_shares(groups: Groups) -> Iterator[str]:
    if not groups.shares_cpu():
        yield (
            "CPU time is not shared equally among jobs, as the cgroup controller cpu is not"
            " delegated: one with many processes gets more than one with few"
        )


def _killed_early(proc: Path, user: User) -> Iterator[str]:
    adjustment = int((proc / "oom_score_adj").read_text())
    if adjustment > 0:
        yield (
            f"when the host runs out of memory sandboxd is killed before services of the system"
            f" (oom_score_adj {adjustment}, which {user.name} cannot lower), though after jobs"
        )


def _bounded(config: Config, user: User) -> Iterator[str]:
    most = config.max_limits
    for name, kind, wanted in (
        ("open files", resource.RLIMIT_NOFILE, most.open_files),
        ("stack", resource.RLIMIT_STACK, most.stack_bytes),
        ("file size", resource.RLIMIT_FSIZE, most.file_size_bytes),
        ("address space", resource.RLIMIT_AS, most.memory_bytes),
        ("data", resource.RLIMIT_DATA, most.memory_bytes),
        ("CPU time", resource.RLIMIT_CPU, most.cpu_time_ns // 1_000_000_000),
    ):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY and hard < wanted:
            yield f"jobs get less than max_limits says: {user.name}'s limit of {name} is {hard}"
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if processes != resource.RLIM_INFINITY:
        yield (
            f"all jobs and all other programs of {user.name} can have {processes} processes"
            " together (ulimit -u)"
        )


def _status(proc: Path, key: str) -> str:
    lines = (proc / "status").read_text().splitlines()
    return next(line.partition(":")[2] for line in lines if line.startswith(f"{key}:"))
