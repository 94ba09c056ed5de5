"""A gateway's FaaSpot API for tests: a key, and requests with it."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from compat.gateway import Answer, Gateway
    from sandboxd_client import Client

    T = TypeVar("T")

HELLO = """
def main(args, context):
    return 'Hello {0}'.format(args['name'])
"""
ECHO = """
def main(args, context):
    return {'args': args, 'context': context}
"""
ENDED = ("success", "failure", "completed", "failed", "cancelled")
"""The statuses, in lower case, at which FaaSpot's client stops asking."""
_PATIENCE_S = 20.0
_AT_ONCE = 32


class Faaspot:
    """One key's view of a gateway."""

    def __init__(self, gateway: Gateway, client: Client, role: str = "admin", **fields: Any):
        self.gateway = gateway
        self.client = client
        self.key_name = f"faaspot-{uuid.uuid4().hex[:12]}"
        self.key: str = client.create_key(self.key_name, role, **fields)["secret"]

    def close(self) -> None:
        self.client.delete_key(self.key_name)

    def clean(self) -> None:
        """Delete every function and execution there is."""
        while functions := self.client.functions(limit=1000)["functions"]:
            self.at_once(functions, lambda c, f: c.delete_function(f["name"], space=f["space"]))
        while executions := self.client.executions(limit=1000)["executions"]:
            self.at_once(executions, lambda c, execution: c.delete_execution(execution["id"]))

    def at_once(self, items: Sequence[T], act: Callable[[Client, T], object]) -> None:
        """`act` for each item, on some connections: the daemon writes many changes at once."""

        def some(part: Sequence[T]) -> None:
            with type(self.client)(self.client._connection.path) as client:
                for item in part:
                    act(client, item)

        parts = [items[at::_AT_ONCE] for at in range(min(_AT_ONCE, len(items)))]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(some, parts))

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        given = {"Authorization": f"Token {self.key}", "Content-type": "application/json"}
        return self.gateway.request(method, f"/v1/{path}", body, given | headers)

    def send(self, method: str, path: str, value: object) -> Answer:
        return self.request(method, path, json.dumps(value).encode())

    def ok(self, method: str, path: str, *value: object) -> Any:
        """The JSON of an answer that must be exactly 200; `value` is the body."""
        answer = self.send(method, path, *value) if value else self.request(method, path)
        assert answer.status == 200, answer
        assert answer.headers["content-type"].startswith("application/json")
        return answer.json

    def refused(self, status: int, method: str, path: str, *value: object) -> dict[str, Any]:
        """The JSON of an error, which is in the form that the clients read."""
        answer = self.send(method, path, *value) if value else self.request(method, path)
        assert answer.status == status, answer
        error: dict[str, Any] = answer.json
        assert error["message"] == error["detail"] != ""
        assert error["error_code"]
        return error

    def create(self, name: str, code: str, context: str = "", application: str = "") -> str:
        path = f"functions/{application}/" if application else "functions/"
        id = self.ok("PUT", path, {"name": name, "code": code, "context": context})
        assert isinstance(id, str)
        assert len(id) == 36
        return id

    def ended(self, id: str) -> dict[str, Any]:
        """The execution when it has ended, asked for as FaaSpot's client does."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            execution: dict[str, Any] = self.ok("GET", f"executions/{id}")
            if execution["status"].lower() in ENDED:
                return execution
            assert time.monotonic() < deadline, execution
            time.sleep(0.02)
