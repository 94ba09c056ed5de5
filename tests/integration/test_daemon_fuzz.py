"""Random and half-right requests on connections that come and go. Whatever happens to each of them,
the daemon is as before: every slot ready, nothing left, no traceback in its log."""

import contextlib
import copy
import os
import random
import socket
import time
from typing import Any

import msgpack
import pytest

from sandboxd.engine.descriptors import rights
from sandboxd_client import Client
from support import invariants
from support.daemon import running

pytestmark = pytest.mark.usefixtures("require_sandbox")

SHORT = {"wall_time_ns": 300_000_000, "cpu_time_ns": 300_000_000}
FULL = {
    "argv": ["true"], "stdin": b"x", "env": {"A": "b"}, "collect": ["**"], "output": True,
    "files": {"a/b": b"x", "c": {"data": "z", "mode": 0o755}}, "network": "loopback",
    "limits": {"memory_bytes": 1 << 24, "open_files": 16},
}  # fmt: skip
TWO = {"argv": ["cat"], "compile": {"argv": ["true"]}, "collect": ["*"]}
EXECUTE = {
    "language": "bash", "version": "*", "args": ["a", b"b"],
    "files": [{"data": "cat"}, {"name": "d/e", "data": b"x", "source": False, "mode": 0o600}],
    "run": {"limits": {"open_files": 16}}, "compile": {"limits": {"processes": 9}}, "client": "me",
}  # fmt: skip
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("job.run", FULL),
    ("job.run", TWO),
    ("job.run", {"argv": ["cat"], "fds": {"stdin": 0, "stdout": 1}}),
    ("job.run", TWO | {"fds": {"stdin": 0}}),
    ("job.start", {"argv": ["cat"], "stream": True, "stdin_stream": True}),
    ("job.start", {"argv": ["sh"], "stream": True, "tty": {"rows": 3, "columns": 9}}),
    ("job.start", TWO | {"stream": True}),
    ("job.write", {"job": "j1", "data": b"hello"}),
    ("job.close_stdin", {"job": "j1"}),
    ("job.signal", {"job": "j1", "signal": "SIGINT"}),
    ("job.resize", {"job": "j2", "rows": 5, "columns": 5}),
    ("job.cancel", {"job": "j1"}),
    ("job.wait", {"job": "j2"}),
    ("job.batch", {"jobs": [{"argv": ["true"]}, {"argv": ["x"], "compile": {"argv": ["true"]}}]}),
    ("runtime.list", {}),
    ("runtime.execute", EXECUTE),
    ("runtime.execute", EXECUTE | {"fds": {"stdout": 0}, "env": {"A": "b"}}),
    ("runtime.execute", EXECUTE | {"language": "c", "version": "^1 || *"}),
    ("runtime.start", EXECUTE | {"stream": True, "stdin_stream": True}),
    ("runtime.start", EXECUTE | {"stream": True, "tty": True}),
    ("server.stats", {}),
    ("server.info", {}),
]
ODD_VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2**63,
    2**64 - 1,
    1.5,
    "",
    b"",
    "x" * 300,
    b"\xff",
    [],
    {},
    "\0",
]


class Fuzzer:
    """One seed's worth of trouble."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._null = os.open(os.devnull, os.O_RDWR)

    def close(self) -> None:
        os.close(self._null)

    def message(self) -> bytes:
        method, params = self._random.choice(REQUESTS)
        request: Any = [0, self._random.randrange(20), method, [copy.deepcopy(params)]]
        if self._chance(0.4):
            request = self._changed(request)
        data: bytes = msgpack.packb(request)
        if self._chance(0.1):
            position = self._random.randrange(len(data))
            flipped = data[position] ^ 1 << self._random.randrange(8)
            data = data[:position] + bytes([flipped]) + data[position + 1 :]
        return data[: self._random.randrange(len(data))] if self._chance(0.04) else data

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _changed(self, value: Any) -> Any:
        if self._chance(0.06):
            return self._random.choice(ODD_VALUES)
        if isinstance(value, list):
            return [self._changed(item) for item in value if not self._chance(0.02)]
        if isinstance(value, dict):
            return {key: self._changed(item) for key, item in value.items() if self._chance(0.97)}
        return value

    def connection(self, path: str) -> None:
        """Some requests, perhaps some answers, and away."""
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(0.02)
            sock.connect(path)
            for _ in range(self._random.randint(1, 12)):
                fds = [self._null] * self._random.choice([0, 0, 0, 1, 2, 3, 5])
                sock.sendmsg([self.message()], rights(fds) if fds else [])
                if self._chance(0.3):
                    with contextlib.suppress(TimeoutError):
                        sock.recv(100_000)
            if self._chance(0.5):
                time.sleep(self._random.random() * 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_random_requests_leave_the_daemon_as_it_was(seed: int) -> None:
    with running(jobs=2, limits=SHORT) as daemon, Client(daemon.socket) as client:
        assert client.run(argv=["true"]).status == "ok"
        before = invariants.settle(daemon, client)
        fuzzer = Fuzzer(seed)
        for _ in range(250):
            fuzzer.connection(daemon.socket)
        fuzzer.close()
        invariants.settle_as(before, daemon, client)
        assert client.run(argv=["echo", "fine"]).stdout == b"fine\n"
        assert "Traceback" not in daemon.log_text(), daemon.log_text()
