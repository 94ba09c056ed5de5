"""Many clients at once: nothing is lost, nothing mixed up, nobody starved."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from compat.gateway import JSON, running
from compat.pythia_tasks import Pythia
from sandboxd_client import Client as DaemonClient
from support.daemon import running as running_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compat.gateway import Answer, Gateway

CLIENTS = 16
SECONDS = 5.0
PROGRAMS = {
    "bash": 'read x; echo "$x $1"',
    "python": "import sys; print(input(), sys.argv[1])",
    "c": '#include <stdio.h>\nint main(int n, char **a) { char b[99]; scanf("%98s", b);'
    ' return printf("%s %s\\n", b, a[1]) < 0; }',
}


class Client(threading.Thread):
    """One client with an address of its own, which is what the queue is fair between."""

    def __init__(self, gateway: Gateway, number: int, until: float) -> None:
        super().__init__()
        self.statuses: Counter[int] = Counter()
        self.wrong: list[object] = []
        self._number = number
        self._until = until
        source = (f"127.0.1.{number + 1}", 0)
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", gateway.port, timeout=60, source_address=source
        )

    def run(self) -> None:
        languages = list(PROGRAMS)
        turn = self._number
        while time.monotonic() < self._until:
            turn += 1
            # C costs a compiler: one turn in eight.
            language = "c" if turn % 8 == 0 else languages[turn % 2]
            try:
                self._ask(language, f"{self._number}.{turn}")
            except Exception as exc:
                self.wrong.append(exc)
                return
        self._connection.close()

    def _ask(self, language: str, token: str) -> None:
        body = {
            "language": language, "version": "*", "files": [{"content": PROGRAMS[language]}],
            "stdin": token, "args": [f"a{token}"],
        }  # fmt: skip
        self._connection.request("POST", "/api/v2/execute", json.dumps(body), JSON)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        self.statuses[response.status] += 1
        if response.status == 503:
            time.sleep(0.05)
        elif response.status != 200 or answer["run"]["stdout"] != f"{token} a{token}\n":
            self.wrong.append((response.status, answer))


def test_many_clients_at_once(require_sandbox: None) -> None:
    with running_daemon(jobs=2) as daemon, running(daemon.socket) as gateway:
        gateway.run("bash", "")
        until = time.monotonic() + SECONDS
        clients = [Client(gateway, number, until) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert [client.wrong for client in clients if client.wrong] == []
        served = sorted(client.statuses[200] for client in clients)
        assert served[0] >= 1
        # Each waits for its answer before it asks again, so the same share means the same number;
        # some had the compiler once more than others.
        assert served[0] >= served[-1] / 3, served
        assert "Traceback" not in gateway.log_text()


# -- one that sends very much ----------------------------------------------------------------------

PROXIED = {"trusted_proxies": ["127.0.0.1"]}
ONE = {"x-forwarded-for": "192.0.2.1"}
OTHER = {"x-forwarded-for": "192.0.2.2"}


class Flood:
    """Requests of one client that are not waited for."""

    def __init__(self, gateway: Gateway, path: str, body: object, count: int) -> None:
        self._connections = [
            http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60) for _ in range(count)
        ]
        for connection in self._connections:
            connection.request("POST", path, json.dumps(body), JSON | ONE)

    def answered(self) -> int:
        socks = [connection.sock for connection in self._connections]
        return len(select.select(socks, [], [], 0)[0])

    def wait(self, count: int) -> None:
        """Until so many are answered."""
        left = [connection.sock for connection in self._connections]
        deadline = time.monotonic() + 30
        while len(self._connections) - len(left) < count:
            ready = select.select(left, [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"{len(self._connections) - len(left)} are answered"
            left = [sock for sock in left if sock not in ready]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


@contextlib.contextmanager
def flooded(gateway: Gateway, path: str, body: object, count: int) -> Iterator[Flood]:
    flood = Flood(gateway, path, body, count)
    try:
        yield flood
    finally:
        flood.close()


def program(content: str) -> dict[str, object]:
    return {"language": "bash", "version": "*", "files": [{"content": content}]}


# Longer than a test takes.
PATIENT = PROXIED | {"piston": {"run_timeout": 120_000}}
ENDLESS = program("sleep 120")


def test_one_client_does_not_fill_the_queue(require_sandbox: None) -> None:
    answers: list[Answer] = []

    def ask() -> None:
        answers.append(gateway.send("POST", "/api/v2/execute", program("echo in turn"), **OTHER))

    with (
        running_daemon(jobs=1, queue_length=8, queue_per_tenant=8) as daemon,
        running(daemon.socket, **PATIENT) as gateway,
        DaemonClient(daemon.socket) as client,
    ):
        gateway.run("bash", "")
        other = threading.Thread(target=ask)
        # Two are with the helper, and three quarters of the share wait.
        with flooded(gateway, "/api/v2/execute", ENDLESS, 12) as flood:
            flood.wait(12 - 2 - 6)
            other.start()
            deadline = time.monotonic() + 30
            while client.stats()["queue"]["waiting"] != 7:
                assert not answers
                assert time.monotonic() < deadline, client.stats()
                time.sleep(0.01)
        other.join()
        assert answers[0].json["run"]["stdout"] == "in turn\n"


def test_one_client_does_not_take_all_requests(require_sandbox: None) -> None:
    with running_daemon(jobs=4) as daemon, running(daemon.socket, max_requests=4, **PATIENT) as one:
        one.run("bash", "")
        with flooded(one, "/api/v2/execute", ENDLESS, 3) as flood:
            flood.wait(1)
            answer = one.send("POST", "/api/v2/execute", program("echo"), **ONE)
            assert (answer.status, answer.json) == (503, {"message": "too many requests at once"})
            assert one.send("POST", "/api/v2/execute", program("echo"), **OTHER).status == 200


def test_tasks_of_one_client_do_not_go_before_those_of_all(require_sandbox: None) -> None:
    with running_daemon(jobs=1) as daemon, running(daemon.socket, **PROXIED) as gateway:
        pythia = Pythia(gateway)
        slow, quick = pythia.script("sleep 0.2"), pythia.script("echo in turn")
        pythia.execute(quick)
        with flooded(gateway, "/api/execute", {"tid": slow}, 60) as flood:
            flood.wait(1)
            answer = gateway.send("POST", "/api/execute", {"tid": quick}, **OTHER)
            assert flood.answered() < 30
        assert answer.json == {"tid": quick, "status": "success", "output": "in turn\n"}
