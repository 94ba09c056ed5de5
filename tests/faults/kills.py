"""Kills and stops the processes of a daemon and its gateway at random moments under load, and looks
after each whether anything was lost, got stuck, or was left.

    python -m faults.kills [--kills N] [--seed N]

prints a table. The seed decides who is hit, how and when, and what the clients ask for; what the
kernel makes of it is never twice the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from compat.gateway import Gateway
from faults import victims
from faults.leftovers import Rest, settle_as
from faults.load import LOST, OTHER_TENANT, Book, Caller, FunctionCaller, GatewayCaller, JobCaller
from faults.service import WATCHDOG, Service
from sandboxd_client import Client, RequestError
from support import acknowledged
from support.acknowledged import Acknowledged
from support.daemon import Daemon
from support.lives import Lives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

MS: Final = 1_000_000
KILL, STOP, PAUSE = "killed", "stopped", "paused"
"""SIGKILL; SIGSTOP; SIGSTOP and, after a moment, SIGCONT."""
_HOW: Final = (KILL, KILL, KILL, STOP, PAUSE)
# For the next job to be served: a daemon that stands still is found by its watchdog, a keeper by
# the daemon when its worker is gone.
SERVED_S: Final = 60.0
_CALLER_S: Final = 60.0
_SETTINGS: Final[dict[str, Any]] = {
    "jobs": 2,
    "socket_mode": 0o666,
    "executions_queue": 300,
    "helper_timeout_ns": 1000 * MS,
    "limits": {"wall_time_ns": 2000 * MS, "cpu_time_ns": 2000 * MS},
}
_HIT: Final = ("internal_error", "signaled", "wall_time_limit")


@dataclass
class Row:
    """Of the table: what became of everybody who was hit so."""

    times: int = 0
    lost: int = 0
    stuck: int = 0
    left: int = 0
    recovery_s: list[float] = field(default_factory=list)


@dataclass
class Report:
    rows: dict[tuple[str, str], Row] = field(default_factory=lambda: defaultdict(Row))
    problems: list[str] = field(default_factory=list)
    executions: int = 0
    seconds: float = 0.0


class Harness:
    """A daemon and a gateway under a service manager, their clients, and whoever kills them."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.book = Book()
        self.report = Report()
        self.known = Acknowledged()
        self.kept: dict[str, Any] = {}
        self._directory = directory
        self._lives = Lives(directory, **_SETTINGS)
        self._gateways = 0
        self._port = _free_port()
        self.socket = str(directory / "socket")
        self.daemon = Service(lambda: self._lives.begin(WATCHDOG))
        self.gateway = Service(self._begin_gateway)
        self.rest: Rest | None = None

    def _begin_gateway(self) -> Gateway:
        own = self._directory / f"rest-{self._gateways}"
        own.mkdir()
        self._gateways += 1
        bind = f"127.0.0.1:{self._port}"
        gateway = Gateway(own, "--socket", self.socket, environment=WATCHDOG, bind=bind)
        gateway.port = self._port
        return gateway

    def prepare(self) -> None:
        with Client(self.socket) as client:
            acknowledged.define(client)
            client.runtimes()
        self._load(0.5, lambda: None)  # So that the gateway, too, has made what it keeps.
        with Client(self.socket) as client:
            self.rest = settle_as(None, self._unit, client, self._lives.state)

    @property
    def _unit(self) -> Daemon:
        unit = self.daemon.unit
        assert isinstance(unit, Daemon)
        return unit

    # -- one round -------------------------------------------------------------------------------

    def round(self) -> None:
        role, how = self.rng.choice(victims.ROLES), self.rng.choice(_HOW)
        row = self.report.rows[role, how]
        before = len(self.book.wrong)
        served: list[float] = []

        def strike() -> None:
            if self._hit(role, how):
                row.times += 1
                served.append(self._await_service())

        stuck = self._load(self.rng.uniform(0.02, 0.3), strike)
        row.recovery_s += served
        if stuck or any(seconds > SERVED_S for seconds in served):
            row.stuck += 1
            self._problem(role, how, f"stuck: {stuck or served}")
        self._check(role, how, row)
        if len(self.book.wrong) > before:
            row.lost += 1
            self.report.problems += self.book.wrong[before:]

    def _load(self, seconds: float, strike: Any) -> list[str]:
        """Load for so long before the strike, and a little longer. Returns who got stuck."""
        callers = self._callers()
        for caller in callers:
            caller.start()
        time.sleep(seconds)
        strike()
        time.sleep(self.rng.uniform(0.02, 0.15))
        for caller in callers:
            caller.stop.set()
        deadline = time.monotonic() + _CALLER_S
        for caller in callers:
            caller.join(max(0.0, deadline - time.monotonic()))
        return [
            f"{caller.name}: {self.book.doing.get(caller.name)}"
            for caller in callers
            if caller.is_alive()
        ]

    def _callers(self) -> list[Caller]:
        def make(kind: type[Caller], name: str, service: Service, uid: int = 0) -> Caller:
            rng = random.Random(self.rng.randrange(2**32))
            return kind(name, self.book, service, self.socket, rng, uid)

        functions = make(FunctionCaller, "functions", self.daemon)
        assert isinstance(functions, FunctionCaller)
        functions.known = self.known
        return [
            make(JobCaller, "jobs", self.daemon),
            make(JobCaller, "other", self.daemon, OTHER_TENANT),
            functions,
            make(GatewayCaller, "http", self.gateway),
        ]

    def _hit(self, role: str, how: str) -> bool:
        """False when nobody played this part for a while."""
        for _ in range(20):
            found = victims.pids(role, self._unit, self.gateway.pid)
            if found:
                pid = self.rng.choice(found)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if how == KILL else signal.SIGSTOP)
                    self._afterwards(role, how, pid)
                    return True
            time.sleep(0.01)
        return False

    def _afterwards(self, role: str, how: str, pid: int) -> None:
        if how == PAUSE:
            wait = self.rng.uniform(0.05, 0.6)
            threading.Timer(wait, _continue, [os.pidfd_open(pid)]).start()
        elif role == "keeper" and how == STOP:
            # Nobody needs it but when its worker dies.
            for worker in victims.pids("worker", self._unit, self.gateway.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)

    def _await_service(self) -> float:
        """How long it takes until a job is served, and a program over HTTP."""
        start = time.monotonic()
        probe = threading.Thread(target=self._probe, args=(start + SERVED_S,), daemon=True)
        probe.start()
        probe.join(SERVED_S + 5)
        return time.monotonic() - start

    def _probe(self, deadline: float) -> None:
        """Both are asked again until they serve."""
        while time.monotonic() < deadline:
            with contextlib.suppress(RequestError, *LOST), Client(self.socket) as client:
                if client.run(["true"]).status == "ok":
                    break
            time.sleep(0.02)
        while time.monotonic() < deadline:
            gateway: Any = self.gateway.unit
            with contextlib.suppress(Exception):  # http.client's many.
                if gateway.get("/api/v2/runtimes").status == 200:
                    return
            time.sleep(0.02)

    # -- after a round ---------------------------------------------------------------------------

    def _check(self, role: str, how: str, row: Row) -> None:
        known, self.known = self.known, Acknowledged()
        try:
            self.kept |= self._ask(lambda client: acknowledged.check(client, known, _HIT))
        except AssertionError as error:
            row.lost += 1
            self._problem(role, how, f"executions: {_brief(error)}")
        try:
            self._ask(lambda client: settle_as(self.rest, self._unit, client, self._lives.state))
        except AssertionError as error:
            row.left += 1
            self._problem(role, how, f"left: {_brief(error)}")

    def _ask(self, what: Callable[[Client], T]) -> T:
        """Ask once more where a daemon is found dead, or to hang, only now."""
        deadline = time.monotonic() + SERVED_S
        while True:
            try:
                with Client(self.socket) as client:
                    return what(client)
            except LOST as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{error} {self.daemon.failures}") from error
                time.sleep(0.05)

    def _problem(self, role: str, how: str, text: str) -> None:
        self.report.problems.append(f"{role} {how}: {text}")

    def finish(self) -> None:
        """What was kept is kept still; both end as they should, and nothing is left."""
        self.report.executions = len(self.kept)
        ids = list(self.kept)
        rows = self._ask(lambda client: acknowledged.all_of(client, ids))
        found = {row["id"]: row for row in rows}
        changed = [id for id in ids if found.get(id) != self.kept[id]]
        if changed:
            self.report.problems.append(f"{len(changed)} executions are not as they were")
        for service in (self.daemon, self.gateway):
            self.report.problems += service.failures


def _continue(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
    os.close(pidfd)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _brief(error: BaseException) -> str:
    text = str(error) or traceback.format_exc()
    return text[:1500]


# -- the run and its table -----------------------------------------------------------------------


@contextlib.contextmanager
def harness(seed: int) -> Iterator[Harness]:
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    directory.chmod(0o755)
    made = Harness(directory, seed)
    try:
        yield made
    finally:
        made.gateway.stop()
        made.daemon.stop()
        shutil.rmtree(directory, ignore_errors=True)


def run(kills: int, seed: int, say: Any = None) -> tuple[Report, Counter[str]]:
    """So many kills; what came of them, and of what was asked."""
    start = time.monotonic()
    with harness(seed) as made:
        made.prepare()
        while (done := sum(row.times for row in made.report.rows.values())) < kills:
            made.round()
            if say:
                say(f"{done + 1}/{kills} {time.monotonic() - start:.0f} s", made.report.problems)
        made.finish()
        made.report.seconds = time.monotonic() - start
        return made.report, made.book.counts


def table(report: Report, counts: Counter[str], seed: int) -> str:
    lines = ["who          how      times  lost  stuck  left  recovery p50, longest"]
    total = Row()
    for (role, how), row in sorted(report.rows.items()):
        lines.append(_line(role, how, row))
        total.times += row.times
        total.lost += row.lost
        total.stuck += row.stuck
        total.left += row.left
        total.recovery_s += row.recovery_s
    asked = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return "\n".join(
        [
            *lines,
            _line("all", "", total),
            f"asked: {sum(counts.values())}: {asked}",
            f"executions acknowledged: {report.executions}",
            f"seed {seed}, {report.seconds:.0f} s, {report.seconds / total.times:.2f} s each",
            *report.problems,
        ]
    )


def _line(role: str, how: str, row: Row) -> str:
    times = sorted(row.recovery_s) or [0.0]
    recovery = f"{times[len(times) // 2] * 1000:7.0f} ms {times[-1] * 1000:7.0f} ms"
    return f"{role:12} {how:8} {row.times:5} {row.lost:5} {row.stuck:6} {row.left:5}  {recovery}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    seen = 0

    def say(progress: str, problems: list[str]) -> None:
        nonlocal seen
        if int(progress.partition("/")[0]) % 25 == 0:
            print(progress, flush=True)
        for problem in problems[seen:]:
            print(f"{progress}: {problem}", flush=True)
        seen = len(problems)

    print(f"seed {options.seed}", flush=True)
    report, counts = run(options.kills, options.seed, say)
    print(table(report, counts, options.seed))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
