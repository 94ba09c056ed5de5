"""What HTTP adds to a job, and many clients at once: the gateway against the bare socket.

All candidates take turns, as in `speed`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from table import Row, Section
from times import Round, Series
from tools import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon import Daemon

START_TIMEOUT = 30.0
MOST_ADDED_MS = 1.5
MOST_RATIO = 1.3
PYTHON = "/usr/bin/python3"
HEADERS = {"content-type": "application/json"}
# The shell itself is the program: nothing else is started.
SHELL = {"language": "bash", "version": "*", "files": [{"content": "exit 0"}]}
PRINT = {"language": "python", "version": "*", "files": [{"content": "print(1)"}]}
CLIENTS = 64


@dataclass(frozen=True)
class Gateway:
    process: subprocess.Popen[bytes]
    port: int

    def connect(self, source: str = "") -> http.client.HTTPConnection:
        address = (source, 0) if source else None
        return http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=address
        )

    def raw(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


@contextmanager
def gateway(daemon: Daemon) -> Iterator[Gateway]:
    """sandboxd-rest in front of this daemon."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-bench-rest-") as name:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SANDBOXD_", "PISTON_"))}
        notify = f"{name}/notify"
        log = Path(name) / "log"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, log.open("wb") as stderr:
            ready.bind(notify)
            process = subprocess.Popen(
                [sys.executable, "-m", "sandboxd_rest", "--socket", str(daemon.socket),
                 "--bind", "127.0.0.1:0"],
                stderr=stderr, stdin=subprocess.DEVNULL, env={**kept, "NOTIFY_SOCKET": notify},
            )  # fmt: skip
            try:
                if not select.select([ready], [], [], START_TIMEOUT)[0]:
                    raise BenchError(f"sandboxd-rest did not start: {log.read_text()}")
                found = re.search(r"listening on=\S+:([0-9]+)$", log.read_text(), re.MULTILINE)
                if found is None:
                    raise BenchError("sandboxd-rest does not say where it listens")
                yield Gateway(process, int(found[1]))
            finally:
                process.terminate()
                process.wait(30)


def _timed(call: Callable[[], None], runs: int) -> Round:
    each = []
    begun = time.perf_counter_ns()
    for _ in range(runs):
        before = time.perf_counter_ns()
        call()
        each.append(time.perf_counter_ns() - before)
    return Round(time.perf_counter_ns() - begun, each)


def _over_http(sock: socket.socket, body: dict[str, Any]) -> Callable[[], None]:
    """With the least a client can do, as the other side is measured: http.client alone takes a
    third of a millisecond."""
    data = json.dumps(body).encode()
    head = (
        "POST /api/v2/execute HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    request = head.encode() + data

    def call() -> None:
        sock.sendall(request)
        answer = sock.recv(65536)
        while not answer.endswith(b"}"):
            answer += sock.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200 ") or b'"status":null' not in answer:
            raise BenchError(f"execute: {answer[:300]!r}")

    return call


def _over_socket(daemon: Daemon, body: dict[str, Any]) -> Callable[[], None]:
    rpc = daemon.connect()
    content = body["files"][0]["content"]
    params = {
        "language": body["language"], "files": [{"data": content}], "stdin": "\n", "output": True,
    }  # fmt: skip

    def call() -> None:
        if rpc.call("runtime.execute", params)["run"]["status"] != "ok":
            raise BenchError("runtime.execute did not end ok")

    return call


def _bare() -> None:
    """vfork, exec and wait, with what is printed thrown away."""
    argv = [PYTHON, "-I", "-S", "-c", "print(1)"]
    away = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(PYTHON, argv, {}, file_actions=away)
    _, status = os.waitpid(pid, 0)
    if status:
        raise BenchError(f"{PYTHON} ended with {os.waitstatus_to_exitcode(status)}")


def added(daemon: Daemon, quick: bool) -> Section:
    """What HTTP adds, and Python's print(1) against a bare interpreter."""
    rounds, runs = (4, 40) if quick else (12, 100)
    with gateway(daemon) as rest:
        sock = rest.raw()
        http_shell, http_print = (_over_http(sock, body) for body in (SHELL, PRINT))
        socket_shell = _over_socket(daemon, SHELL)
        candidates: dict[str, Callable[[], Round]] = {
            "http": lambda: _timed(http_shell, runs),
            "socket": lambda: _timed(socket_shell, runs),
            "print": lambda: _timed(http_print, runs // 2),
            "bare": lambda: _timed(_bare, runs // 2),
        }
        series = {name: Series(name, []) for name in candidates}
        for number in range(rounds + 1):
            for name, run in candidates.items():
                round_ = run()
                if number:  # The first one is for caches and versions.
                    series[name].rounds.append(round_)
        sock.close()
    return Section("The gateway: Piston's API over loopback HTTP, keep-alive", _rows(series))


def _rows(series: dict[str, Series]) -> list[Row]:
    pairs = zip(series["http"].rounds, series["socket"].rounds, strict=True)
    more = median(a.p50 - b.p50 for a, b in pairs) / 1e6
    ratio = series["print"].p50_over(series["bare"])
    return [
        Row(
            "bash over HTTP minus the same over the socket, p50",
            f"{more:.2f} ms",
            f"≤ {MOST_ADDED_MS} ms",
            f"{series['socket'].p50_ms():.2f} ms",
            f"{series['http'].p50_over(series['socket']):.2f}x",
            more <= MOST_ADDED_MS,
            {name: series[name].p50_ms() for name in ("http", "socket")},
        ),
        Row(
            "python print(1) over HTTP, p50",
            f"{series['print'].p50_ms():.2f} ms",
            f"≤ {MOST_RATIO}x",
            f"{series['bare'].p50_ms():.2f} ms",
            f"{ratio:.2f}x",
            ratio <= MOST_RATIO,
            {"floor": " ".join([PYTHON, "-I -S -c 'print(1)'"])},
        ),
    ]


# -- many clients --------------------------------------------------------------------------------

PROGRAMS = {
    "bash": 'read x; echo "$x"',
    "python": "print(input())",
    "c": '#include <stdio.h>\nint main(void) { char b[99]; scanf("%98s", b); return !puts(b); }',
}


@dataclass
class Client:
    """One client with an address of its own; it asks again when it is answered."""

    number: int
    served: int = 0
    busy: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self, rest: Gateway, until: float) -> None:
        connection = rest.connect(f"127.0.1.{self.number + 1}")
        turn = self.number
        while time.monotonic() < until and not self.wrong:
            turn += 1
            language = "c" if turn % 16 == 0 else ("bash", "python")[turn % 2]
            try:
                self._ask(connection, language, f"{self.number}.{turn}")
            except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
                self.wrong.append(f"{language}: {exc!r}")
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, language: str, token: str) -> None:
        files = [{"content": PROGRAMS[language]}]
        body = {"language": language, "version": "*", "files": files, "stdin": token}
        connection.request("POST", "/api/v2/execute", json.dumps(body), HEADERS)
        response = connection.getresponse()
        data = response.read()
        if response.status == 503:
            self.busy += 1
            time.sleep(0.1)
        elif response.status == 200 and json.loads(data)["run"]["stdout"] == f"{token}\n":
            self.served += 1
        else:
            self.wrong.append(f"{language}: {response.status} {data[:300]!r}")


def many_clients(daemon: Daemon, quick: bool) -> Section:
    """64 clients at once, mixed languages: no error but 503, nothing mixed up, fair."""
    seconds = 8.0 if quick else 60.0
    clients = [Client(number) for number in range(CLIENTS)]
    with gateway(daemon) as rest:
        with rest.raw() as sock:
            _over_http(sock, SHELL)()
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=c.run, args=(rest, until)) for c in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    served = sorted(client.served for client in clients)
    wrong = [text for client in clients for text in client.wrong]
    fair = served[0] / max(1, served[-1])
    rows = [
        Row(
            f"{CLIENTS} clients for {seconds:.0f} s: wrong or lost",
            str(len(wrong)),
            "0",
            met=not wrong,
            data={"busy": sum(client.busy for client in clients), "wrong": wrong[:20]},
        ),
        Row("the same: answers/s", f"{sum(served) / seconds:.0f}/s"),
        Row(
            "the same: least served / most served",
            f"{served[0]} / {served[-1]}",
            "≥ 50 %",
            ratio=f"{fair * 100:.0f} %",
            met=fair >= 0.5,
        ),
    ]
    return Section("The gateway: many clients", rows)
