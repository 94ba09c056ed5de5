"""go-judge as it is meant to be used: its REST service with containers forked ahead."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from times import Round
from tools import BUILD, BenchError

if TYPE_CHECKING:
    from pathlib import Path

START_TIMEOUT = 10
PARALLEL = 10
MEMORY_LIMIT = 256 << 20

MOUNTS = f"""\
mount:
  - {{type: bind, source: /usr, target: /usr, readonly: true}}
  - {{type: bind, source: {BUILD}, target: /bench, readonly: true}}
  - {{type: tmpfs, target: /w, data: "size=16m"}}
  - {{type: tmpfs, target: /tmp, data: "size=16m"}}
proc: true
workDir: /w
hostName: bench
"""

REQUEST = {
    "cmd": [
        {
            "args": ["/bench/true"],
            "files": [
                {"content": ""},
                {"name": "stdout", "max": 65536},
                {"name": "stderr", "max": 65536},
            ],
            "cpuLimit": 10**9,
            "clockLimit": 2 * 10**9,
            "memoryLimit": MEMORY_LIMIT,
            "procLimit": 64,
        }
    ]
}


class GoJudge:
    """The running service; `run` sends it jobs over connections that are kept open."""

    name = "go-judge"
    how = "REST, containers forked ahead, cgroups"

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port

    @classmethod
    def start(cls, program: str, work: Path) -> GoJudge:
        (work / "mount.yaml").write_text(MOUNTS)
        (work / "go-judge").mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        argv = [program, "-silent", "-http-addr", f"127.0.0.1:{port}", "-pre-fork", str(PARALLEL)]
        argv += ["-parallelism", str(PARALLEL), "-mount-conf", str(work / "mount.yaml")]
        argv += ["-dir", str(work / "go-judge"), "-cgroup-prefix", f"bench-{os.getpid()}"]
        peer = cls(subprocess.Popen(argv, cwd=work, stderr=subprocess.DEVNULL), port)
        peer._wait_ready()
        return peer

    def _wait_ready(self) -> None:
        """It has no way to say that it is ready, so ask until it answers."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                _post(self._connect(), 1)
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.close()
        raise BenchError("go-judge did not come up")

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)

    def run(self, runs: int, workers: int) -> Round:
        connections = [self._connect() for _ in range(workers)]
        each: list[list[int]] = [[] for _ in connections]

        def work(number: int) -> None:
            each[number] = _post(connections[number], max(1, runs // workers))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
        start = time.monotonic_ns()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.monotonic_ns() - start
        for connection in connections:
            connection.close()
        times = [ns for part in each for ns in part]
        if len(times) < workers:
            raise BenchError("a request to go-judge failed")
        return Round(elapsed, times)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _post(connection: http.client.HTTPConnection, runs: int) -> list[int]:
    body = json.dumps(REQUEST)
    times = []
    for _ in range(runs):
        start = time.monotonic_ns()
        connection.request("POST", "/run", body, {"Content-Type": "application/json"})
        results = json.loads(connection.getresponse().read())
        times.append(time.monotonic_ns() - start)
        if not isinstance(results, list) or results[0]["status"] != "Accepted":
            raise BenchError(f"go-judge answered {results}")
    return times
