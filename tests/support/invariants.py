"""What must be as before once an attack is over."""

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support import host

if TYPE_CHECKING:
    from sandboxd_client import Client
    from support.daemon import Daemon

# Slots are made again in the background, some milliseconds each; the machine may be busy.
SETTLE_TIMEOUT_S = 10.0
_SHARED_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything an attack could leave behind, as numbers and names that do not change by
    themselves while the daemon is idle."""

    processes: "Counter[str]"
    strays: tuple[int, ...]
    """Processes of a sandbox's user that do not descend from the daemon."""
    cgroups: int
    namespaces: dict[str, int]
    mounts: dict[str, str]
    """The mounts the daemon and its helper see."""
    descriptors: dict[str, "Counter[str]"]
    files: tuple[str, ...]

    @classmethod
    def take(cls, daemon: "Daemon") -> "Snapshot":
        table = host.processes()
        tree = host.descendants(daemon.pid, table)
        helpers = daemon.helpers(table)
        return cls(
            processes=Counter(table[pid].name for pid in tree),
            strays=tuple(set(host.owned_by(daemon.uids, table)) - set(tree)),
            cgroups=len(host.cgroups(daemon.group)),
            namespaces={kind: len(found) for kind, found in host.namespaces(tree).items()},
            mounts={
                f"{host.name(pid)} {number}": Path(f"/proc/{pid}/mountinfo").read_text()
                for number, pid in enumerate((daemon.pid, *helpers))
            },
            descriptors={
                f"{host.name(pid)} {number}": Counter(host.descriptors(pid))
                for number, pid in enumerate((daemon.pid, *helpers))
            },
            files=tuple(host.files_of(daemon.uids, _SHARED_DIRECTORIES)),
        )

    def differences(self, before: "Snapshot") -> list[str]:
        return [
            f"{field.name}: {getattr(before, field.name)} became {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(before, field.name)
        ]


def settle(daemon: "Daemon", client: "Client") -> Snapshot:
    """A snapshot of the daemon at rest: no job, every slot ready, nothing that threads are about
    to close, such as the connection of the test before."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    last = _snapshot(daemon, client)
    while True:
        time.sleep(0.02)
        now = _snapshot(daemon, client)
        if now == last:
            return now
        assert time.monotonic() < deadline, "\n".join(now.differences(last))
        last = now


def _snapshot(daemon: "Daemon", client: "Client") -> Snapshot:
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while not _at_rest(client):
        assert time.monotonic() < deadline, f"slots were not made again: {client.stats()['slots']}"
        time.sleep(0.01)
    while True:
        try:
            return Snapshot.take(daemon)
        except OSError:  # A process has ended meanwhile: of a ready slot it may be the builder.
            if time.monotonic() > deadline:
                raise


def settle_as(before: Snapshot, daemon: "Daemon", client: "Client") -> None:
    """Wait until everything is as in ``before``, or fail with what is not."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while differences := _snapshot(daemon, client).differences(before):
        assert time.monotonic() < deadline, "\n".join(differences)
        time.sleep(0.02)


def _at_rest(client: "Client") -> bool:
    slots = client.stats()["slots"]
    busy = ("running", "preparing", "held", "waiting")
    return all(slots[name] == 0 for name in busy) and slots["ready"] > 0


def running_jobs(client: "Client") -> int:
    """How many jobs run now."""
    running: int = client.stats()["queue"]["running"]
    return running


def await_running(client: "Client", count: int) -> None:
    """Wait until so many jobs run."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while client.stats()["queue"]["running"] != count:
        assert time.monotonic() < deadline, client.stats()
        time.sleep(0.005)
