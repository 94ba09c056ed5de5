"""A function as PIFOP's page has it, and clients that do what its clients do."""

from __future__ import annotations

import http.client
import json
import shlex
import subprocess
import time
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compat.gateway import Answer, Gateway, running

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

HOST = "func.pifop.com"

# Reads numbers, says how far it is, and writes what it found.
TSP = """
import json, sys, time
numbers = [int(text) for text in open("coords.txt").read().split(",")]
try:
    options = json.load(open("in/options.json"))
except FileNotFoundError:
    options = {}
for line in options.get("lines", ["reading", "done"]):
    print(line, flush=True)
    time.sleep(options.get("pause", 0))
while options.get("hang"):
    time.sleep(60)
if options.get("fill"):
    held = []
    while True:
        held.append(bytearray(1 << 20))
json.dump({"tour": sorted(numbers)}, open("result.json", "w"))
if options.get("both"):
    import os
    os.makedirs("out", exist_ok=True)
    open("out/table.csv", "w").write("a;b\\n1;\\u00e4\\n")
sys.exit(options.get("status", 0))
"""
FUNCTION: dict[str, Any] = {
    "space": "joe",
    "kind": "program",
    "command": ["python3", "tsp.py"],
    "files": [{"path": "tsp.py", "data": TSP}],
    "inputs": [
        {"id": "coords", "path": "coords.txt", "name": "Coordinates", "required": True},
        {"id": "options", "path": "in/options.json"},
    ],
    "outputs": [{"id": "result", "path": "result.json"}, {"id": "table", "path": "out/table.csv"}],
    "metadata": {"title": "Travelling salesman"},
}
COORDS = "150, 254, 145, 222, 478, 644, 98, 51"
TOUR = sorted(int(text) for text in COORDS.split(","))


@dataclass
class Curl:
    """Runs command lines of PIFOP's page as they are typed; only secrets and ids are put in."""

    directory: Path

    def __call__(self, line: str, **given: str) -> Any:
        """What it prints, as JSON. `given` replaces words of the line."""
        return json.loads(self.raw(line, **given)[1])

    def raw(self, line: str, **given: str) -> tuple[int, bytes]:
        """(HTTP status, body)."""
        for word, text in given.items():
            assert word in line, word
            line = line.replace(word, text)
        done = subprocess.run(
            [*shlex.split(line), "--silent", "--show-error", "--write-out", "\n%{http_code}"],
            env={"PATH": "/usr/bin:/bin", "CURL_HOME": str(self.directory)},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        body, _, status = done.stdout.rpartition(b"\n")
        return int(status), body


def curl(gateway: Gateway, directory: Path) -> Curl:
    """A curl for which `func.pifop.com` is this gateway, whose certificate it does not check."""
    text = f'insecure\nconnect-to = "{HOST}:443:127.0.0.1:{gateway.port}"\n'
    (directory / ".curlrc").write_text(text)
    return Curl(directory)


@contextmanager
def serving(socket: str, directory: Path, **settings: Any) -> Iterator[Gateway]:
    """A gateway that serves HTTPS with a certificate it makes itself."""
    environment = {"XDG_RUNTIME_DIR": str(directory)}
    settings = {"allowed_hosts": [HOST], **settings}
    with running(socket, "--dev-tls", environment=environment, **settings) as gateway:
        yield gateway


def certificate(directory: Path) -> Path:
    return directory / "sandboxd-rest-tls" / "localhost.crt"


@dataclass
class Caller:
    """Requests with one key."""

    gateway: Gateway
    key: str | None
    context: ssl.SSLContext | None = None

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        kind = http.client.HTTPSConnection if self.context else http.client.HTTPConnection
        given: dict[str, Any] = {"context": self.context} if self.context else {}
        connection = kind("localhost", self.gateway.port, timeout=30, **given)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None:
            names.setdefault("authorization", f"Bearer {self.key}")
        try:
            connection.request(method, path, body, names)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: bytes | None = None) -> Any:
        answer = self(method, path, body)
        assert answer.status == 200, answer
        return answer.json

    def refused(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        """(status, errorMessage)."""
        answer = self(method, path, body, **headers)
        assert answer.status >= 400, answer
        assert answer.headers["content-type"].startswith("application/json"), answer
        assert answer.json.keys() == {"errorMessage"}
        assert answer.json["errorMessage"]
        return answer.status, answer.json["errorMessage"]


class Failed(Exception):
    """An operation failed; carries its name, the status and the errorMessage."""


@dataclass
class Client:
    """Does what PIFOP's JavaScript client does, in the order in which it does it: each request is
    tried up to 6 times, 3 s apart, as long as it is answered with 503; the state is asked for once
    a second, and only while it is `running`."""

    call: Caller
    function: str
    incremental: bool = False
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self.events: list[str] = []
        self.config: Any = None
        self.data: Any = None
        self.log = ""
        self.outputs: dict[str, Any] = {}
        self.id = ""

    @property
    def endpoint(self) -> str:
        return f"/{self.function}/executions/{self.id}"

    def request(self, operation: str, method: str, path: str, body: bytes | None = None) -> Answer:
        for attempt in range(1, 7):
            answer = self.call(method, path, body)
            if answer.status == 200:
                return answer
            if answer.status != 503 or attempt == 6:
                break
            self.events.append("retry")
            self.sleep(3)
        self.events.append("error")
        raise Failed(operation, answer.status, answer.json["errorMessage"])

    def execute(self, inputs: Mapping[str, bytes] | bytes | None = None) -> Any:
        """From nothing to the result; the execution is terminated then."""
        self.initialize()
        for id, content in self.by_id(inputs).items():
            uploaded = self.request("upload", "POST", f"{self.endpoint}/input/{id}", content)
            assert uploaded.json["id"] == id
            self.events.append("input_uploaded")
        self.start()
        return self.finish()

    def by_id(self, inputs: Mapping[str, bytes] | bytes | None) -> Mapping[str, bytes]:
        if inputs is None:
            return {}
        assert len(self.config["input"]) > 0, "this function does not accept inputs"
        if isinstance(inputs, bytes):
            return {self.config["input"][0]["id"]: inputs}
        return inputs

    def initialize(self) -> None:
        self.config = self.request("function", "GET", f"/{self.function}").json
        self.events.append("function_initialized")
        self.data = self.request("init", "POST", f"/{self.function}/executions").json
        self.id = self.data["id"]
        self.events.append("execution_initialized")

    def start(self) -> None:
        self.events.append("ready_to_start")
        self.request("start", "POST", f"{self.endpoint}/start")
        self.events.append("execution_started")

    def resume(self, id: str) -> Any:
        """Go on with an execution that another client has started."""
        self.config = self.request("function", "GET", f"/{self.function}").json
        self.id = id
        self.events.append("resuming")
        info = self.request("info", "GET", f"{self.endpoint}?include_log=false").json
        assert "log" not in info
        return self.finish()

    def finish(self) -> Any:
        while self.info()["status"] == "running":
            pass
        self.events.append("execution_ended")
        assert self.data["status"] == "ended", "the client would wait for ever"
        for output in self.data["output"]:
            self.download(output)
        self.events.append("result_ready")
        self.request("terminate", "DELETE", self.endpoint)
        self.events.append("execution_terminated")
        if len(self.outputs) == 1:
            return next(iter(self.outputs.values()))
        return self.outputs

    def info(self) -> Any:
        self.sleep(1)
        query = "?stdout=true" if self.incremental else ""
        self.data = self.request("info", "GET", f"{self.endpoint}{query}").json
        self.log = self.log + self.data["stdout"] if self.incremental else self.data["log"]
        self.events.append("execution_info")
        return self.data

    def download(self, output: Mapping[str, str]) -> None:
        id = urllib.parse.quote(output["id"])
        body = self.request("output", "GET", f"{self.endpoint}/output/{id}").body
        path = output["path"]
        text = body.decode() if path.endswith((".json", ".csv", ".txt")) else body
        self.outputs[output["id"]] = json.loads(body) if path.endswith(".json") else text
        self.events.append("output_retrieved")
