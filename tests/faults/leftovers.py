"""What is there of a daemon and its gateway at rest, and what should not be."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxd.cgroups import find_hierarchies
from support import host

if TYPE_CHECKING:
    from sandboxd_client import Client
    from support.daemon import Daemon

# A slot that was stopped while it was made ready is found by its deadline, 10 s.
SETTLE_TIMEOUT_S = 25.0
_SHARED_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm")


@dataclass(frozen=True, slots=True)
class Rest:
    """As numbers and names that are the same for each daemon of these settings."""

    processes: Counter[str]
    strays: tuple[str, ...]
    cgroups: Counter[str]
    namespaces: dict[str, int]
    mounts: dict[str, Counter[str]]
    descriptors: dict[str, Counter[str]]
    files: tuple[str, ...]

    @classmethod
    def take(cls, daemon: Daemon, client: Client, state: Path) -> Rest:
        tree = host.descendants(daemon.pid)
        own = {"daemon": daemon.pid} | dict(
            zip(("keeper", "worker"), daemon.helpers(), strict=False)
        )
        descriptors = {name: Counter(_descriptors(pid)) for name, pid in own.items()}
        # Clients come and go, and a gateway keeps as many connections as it needed once.
        descriptors["daemon"]["socket"] -= client.stats()["connections"]
        return cls(
            processes=Counter(filter(None, map(host.name, tree))),
            strays=_strays(daemon, {daemon.pid, *tree}),
            cgroups=Counter(_below(path, daemon.group) for path in _cgroups()),
            namespaces={kind: len(found) for kind, found in host.namespaces(tree).items()},
            mounts={name: _mounts(pid) for name, pid in own.items()},
            descriptors=descriptors,
            files=(
                *host.files_of(daemon.uids, _SHARED_DIRECTORIES),
                *os.listdir(state / "staging"),
            ),
        )

    def differences(self, before: Rest) -> list[str]:
        found = []
        for field in dataclasses.fields(self):
            old, new = getattr(before, field.name), getattr(self, field.name)
            if isinstance(old, dict) and not isinstance(old, Counter):
                found += [
                    f"{field.name} of {name}: {_change(old.get(name), new.get(name))}"
                    for name in old | new
                    if old.get(name) != new.get(name)
                ]
            elif old != new:
                found.append(f"{field.name}: {_change(old, new)}")
        return found


def _change(old: object, new: object) -> str:
    if isinstance(old, Counter) and isinstance(new, Counter):
        return f"gone {dict(old - new)}, new {dict(new - old)}"
    return f"{old} became {new}"


def _descriptors(pid: int) -> list[str]:
    """Without what is another in each life: the groups' names, the directory of the log."""
    own = r"/tmp/sandboxd-test-.*/|sandboxd-[0-9]+|run-r[0-9a-f]+\.scope"
    return [re.sub(own, "OWN", text) for text in host.descriptors(pid)]


def settle_as(before: Rest | None, daemon: Daemon, client: Client, state: Path) -> Rest:
    """Wait until everything is as in ``before``, or raise AssertionError with what is not. Without
    it, until nothing changes any more: threads may be about to close something."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    given = before
    differences = [f"the slots were not made again: {client.stats()['slots']}"]
    while True:
        if at_rest(client):
            rest = Rest.take(daemon, client, state)
            differences = rest.differences(before) if before else ["it was looked at once only"]
            if not differences:
                return rest
            before = given or rest
        assert time.monotonic() < deadline, "\n".join(differences)
        time.sleep(0.02)


def at_rest(client: Client) -> bool:
    stats = client.stats()
    slots = stats["slots"]
    busy = sum(slots.get(name, 1) for name in ("running", "preparing", "held", "waiting"))
    return not busy and slots["warm"] == 2 and not stats["queue"]["running"]


def strays_of(daemon: Daemon) -> tuple[str, ...]:
    """For when there is no daemon: whatever is left of it."""
    return _named(_of_slots(daemon) | _helpers(f"{daemon.group} "))


def _strays(daemon: Daemon, tree: set[int]) -> tuple[str, ...]:
    """Processes of the slots' users, and helpers in this test's own cgroups, of no daemon."""
    return _named((_of_slots(daemon) | _helpers("sandboxd-")) - tree)


def _of_slots(daemon: Daemon) -> set[int]:
    return {pid for pid in host.owned_by(daemon.uids) if not host.is_zombie(pid)}


def _named(pids: set[int]) -> tuple[str, ...]:
    return tuple(f"{host.name(pid)} {pid}" for pid in sorted(pids))


def _helpers(group: str) -> set[int]:
    """Of daemons whose group's name begins so."""
    own = [os.fsencode(path / group) for path in _own_cgroups()]
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if b"sandbox-helper" in words and any(path in words for path in own):
            found.add(int(name))
    return found


def _own_cgroups() -> set[Path]:
    return {hierarchy.own for hierarchy in find_hierarchies() if hierarchy.controllers}


def _cgroups() -> list[Path]:
    """Every cgroup of a daemon that was started from here."""
    return [
        Path(directory)
        for parent in _own_cgroups()
        for directory, _, _ in os.walk(parent)
        if "/sandboxd-" in directory[len(str(parent)) :]
    ]


def _below(path: Path, group: str) -> str:
    return str(path).replace(group, "GROUP")


def _mounts(pid: int) -> Counter[str]:
    """Where what is mounted, without the numbers that differ in each mount namespace."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return Counter(f"{line.split()[4]} {line.partition(' - ')[2].split()[0]}" for line in lines)
