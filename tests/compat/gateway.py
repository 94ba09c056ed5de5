"""Starts and stops a real gateway, and talks to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import rootless
from support.requirements import CLEAN_ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
JSON = {"content-type": "application/json"}


class NotStarted(Exception):
    """The gateway ended before it was ready; carries its exit status and its last words."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Of an error; every one has it."""
        assert self.headers["content-type"].startswith("application/json"), self
        text = self.json["message"]
        assert isinstance(text, str)
        return text


class Gateway:
    """One running gateway."""

    def __init__(
        self,
        directory: Path,
        *args: str,
        environment: Mapping[str, str] | None = None,
        bind: str = "127.0.0.1:0",
    ) -> None:
        self.log = directory / "rest.log"
        address = str(directory / "rest-notify")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(address)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*rootless.python_module("sandboxd_rest"), "--bind", bind, *args],
                stdin=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                env=CLEAN_ENVIRONMENT | {"NOTIFY_SOCKET": address} | dict(environment or {}),
                start_new_session=True,
            )
        try:
            self._await_ready(self.notify)
        except BaseException:
            self.stop()
            raise
        found = re.search(r"listening on=\S+?:([0-9]+)$", self.log_text(), re.MULTILINE)
        self.port = int(found[1]) if found else 0

    def _await_ready(self, notify: socket.socket) -> None:
        ended = os.pidfd_open(self.process.pid)
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while True:
                wait = max(0.0, deadline - time.monotonic())
                ready = select.select([notify, ended], [], [], wait)[0]
                if notify in ready and b"READY=1" in notify.recv(4096):
                    return
                if not ready or ready == [ended]:
                    raise NotStarted(self.process.wait(1), self.log_text())
        finally:
            os.close(ended)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+([0-9]+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def stop(self) -> int:
        """SIGTERM, and SIGKILL when that does not help. Returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.notify.close()
        return self.process.returncode

    # -- requests ----------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, headers=headers)

    def send(self, method: str, path: str, value: object, **headers: str) -> Answer:
        return self.request(method, path, json.dumps(value).encode(), JSON | headers)

    def execute(self, language: str = "python", content: str = "", **fields: Any) -> Answer:
        files = fields.pop("files", [{"content": content}])
        values = {"language": language, "version": "*", "files": files, **fields}
        return self.send("POST", "/api/v2/execute", values)

    def run(self, language: str, content: str, **fields: Any) -> Any:
        """The answer of an execution that must have been taken."""
        answer = self.execute(language, content, **fields)
        assert answer.status == 200, answer
        return answer.json


@contextlib.contextmanager
def running(
    socket_path: str, *args: str, environment: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[Gateway]:
    """A gateway of this daemon for as long as the block runs. `settings` are in its file."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-rest-test-", dir="/tmp") as name:
        config = Path(name) / "rest.toml"
        config.write_text("".join(_toml(settings)))
        bind = settings.get("bind", ["127.0.0.1:0"])[0]
        gateway = Gateway(
            Path(name),
            *("--socket", socket_path, "--config", str(config), *args),
            environment=environment,
            bind=bind,
        )
        try:
            yield gateway
        finally:
            gateway.stop()


def _toml(settings: Mapping[str, Any]) -> Iterator[str]:
    tables = {key: value for key, value in settings.items() if isinstance(value, dict)}
    for key, value in settings.items():
        if key not in tables:
            yield f"{key} = {json.dumps(value)}\n"
    for key, table in tables.items():
        yield f"[{key}]\n"
        for inner, value in table.items():
            yield f"{inner} = {_inline(value)}\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
