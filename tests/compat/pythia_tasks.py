"""Makes Pythia's tasks and executes them, and listens for callbacks."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from compat.gateway import Answer, Gateway

_count = itertools.count(1)


def taskfs(**files: str | bytes) -> str:
    """Base64 of a tar of these files, all of them executable."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return base64.b64encode(packed.getvalue()).decode()


class Pythia:
    """A gateway's tasks."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def create(self, **fields: Any) -> Answer:
        return self.gateway.send("POST", "/api/tasks", fields)

    def task(self, config: Any = None, *, environment: str = "busybox", **fields: Any) -> str:
        """The id of a new task, which must have been taken."""
        taskid = f"task-{next(_count)}"
        answer = self.create(taskid=taskid, environment=environment, config=config, **fields)
        assert (answer.status, answer.body) == (200, b""), answer
        return taskid

    def script(self, text: str, *, control: str = "/task/run.sh\n", **fields: Any) -> str:
        """The id of a new task that runs a shell script."""
        files = {"control": control, "run.sh": f"#!/bin/sh\n{text}\n"}
        return self.task({"taskfs": taskfs(**files)}, **fields)

    def execute(self, taskid: str, input: str = "", timeout: float = 60) -> Any:
        """The result of an execution, which must have been taken."""
        answer = self.gateway.request(
            "POST",
            "/api/execute",
            json.dumps({"tid": taskid, "input": input}).encode(),
            {"content-type": "application/json"},
            timeout=timeout,
        )
        assert answer.status == 200, answer
        assert answer.json.keys() == {"tid", "status", "output"}
        assert answer.json["tid"] == taskid
        return answer.json

    def outcome(self, text: str, input: str = "", **fields: Any) -> tuple[str, str]:
        """(status, output) of a shell script."""
        result = self.execute(self.script(text, **fields), input)
        return result["status"], result["output"]

    def verdict(self, taskid: str, **fields: str) -> Any:
        """What a task that is made from a template says."""
        result = self.execute(taskid, json.dumps({"tid": "mine", "fields": fields}))
        assert result["status"] == "success", result
        verdict = json.loads(result["output"])
        assert verdict["tid"] == "mine"
        return verdict


class Listener:
    """Takes callbacks, and answers them as it is told."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.statuses: list[int] = []
        """Of the next answers; then 200."""
        self.location = ""
        self.hold = threading.Event()
        self.hold.set()
        self._bodies: list[tuple[str, dict[str, str], bytes]] = []
        self._came = threading.Condition()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                listener.hold.wait(30)
                status = listener.statuses.pop(0) if listener.statuses else 200
                self.send_response(status)
                if listener.location:
                    self.send_header("location", listener.location)
                self.send_header("content-length", "0")
                self.end_headers()
                listener.note(self.path, dict(self.headers), body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def note(self, path: str, headers: dict[str, str], body: bytes) -> None:
        with self._came:
            self._bodies.append((path, headers, body))
            self._came.notify_all()

    def wait(self, count: int = 1, timeout: float = 30) -> list[tuple[str, dict[str, str], bytes]]:
        """The first so many that came."""
        with self._came:
            assert self._came.wait_for(lambda: len(self._bodies) >= count, timeout), self._bodies
            return list(self._bodies)

    @property
    def count(self) -> int:
        return len(self._bodies)

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def listening(tls: ssl.SSLContext | None = None) -> Iterator[Listener]:
    """A server for callbacks on the loopback interface."""
    listener = Listener(tls)
    try:
        yield listener
    finally:
        listener.close()
