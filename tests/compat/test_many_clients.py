"""Many clients at once: nothing is lost, nothing mixed up, nobody starved."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from compat.gateway import JSON, running
from support.daemon import running as running_daemon

if TYPE_CHECKING:
    from compat.gateway import Gateway

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
