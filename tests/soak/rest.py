"""The kinds of load that go through the gateway: all four dialects, and clients that leave."""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio_websocket

from compat.gateway import JSON
from soak.kinds import Kind, expect
from soak.world import WORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from compat.gateway import Answer
    from soak.world import World

_POLL_S = 0.05
SLEEP = {"language": "bash", "version": "*", "files": [{"content": "sleep 60"}]}


class Rest:
    """Each request has a connection of its own, in a thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._gateway = world.gateway
        self._token = {"Authorization": f"Token {world.key}", **JSON}
        self._bearer = {"Authorization": f"Bearer {world.key}"}

    def kinds(self) -> list[Kind]:
        return [
            Kind("piston", 1.0, self.piston),
            Kind("piston, compiled", 0.1, self.piston_compiled),
            Kind("piston, socket", 0.3, self.piston_socket),
            Kind("piston, left", 0.3, self.piston_left),
            Kind("faaspot, sync", 1.0, self.faaspot_sync),
            Kind("faaspot", 0.3, self.faaspot),
            Kind("pifop", 0.2, self.pifop),
            Kind("pythia", 0.5, self.pythia),
            Kind("metrics", 0.1, self.metrics),
        ]

    async def _request(
        self, method: str, path: str, value: object = None, headers: Any = JSON
    ) -> Answer:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        given = None if value is None else body
        work: Callable[[], Answer] = partial(self._gateway.request, method, path, given, headers)
        return await trio.to_thread.run_sync(work)

    async def _json(self, *args: Any) -> Any:
        answer = await self._request(*args)
        expect((answer.status, answer.body[:200] if answer.status != 200 else b""), (200, b""))
        return answer.json

    async def _polled(self, path: str, headers: Any, ends: tuple[str, ...]) -> Any:
        """The execution when its status is one of ``ends``, as clients over HTTP find that out."""
        while True:
            found = await self._json("GET", path, None, headers)
            if found["status"] in ends:
                return found
            await trio.sleep(_POLL_S)

    # -- Piston

    async def piston(self) -> None:
        files = [{"content": "print(input())"}]
        value = {"language": "python", "version": "*", "files": files, "stdin": "words"}
        found = await self._json("POST", "/api/v2/execute", value)
        expect(found["run"]["stdout"], "words\n")

    async def piston_compiled(self) -> None:
        files = [{"content": "int main(void) { return 5; }"}]
        value = {"language": "c", "version": "*", "files": files}
        found = await self._json("POST", "/api/v2/execute", value)
        expect((found["compile"]["code"], found["run"]["code"]), (0, 5))

    async def piston_socket(self) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self._gateway.port)
        async with stream, trio.open_nursery() as nursery:
            path = "/api/v2/connect"
            connection = await trio_websocket.wrap_client_stream(nursery, stream, "127.0.0.1", path)
            files = [{"content": "read x; echo got $x"}]
            await _send(connection, type="init", language="bash", version="*", files=files)
            await _send(connection, type="data", stream="stdin", data="it\n")
            expect(await _output(connection), "got it\n")
            nursery.cancel_scope.cancel()

    async def piston_left(self) -> None:
        """The client goes away while its program runs."""
        body = json.dumps(SLEEP).encode()
        head = (
            "POST /api/v2/execute HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        stream = await trio.open_tcp_stream("127.0.0.1", self._gateway.port)
        async with stream:
            await stream.send_all(head.encode() + body)
            await trio.sleep(0.1)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    # -- the other three

    async def faaspot_sync(self) -> None:
        path = "/v1/sync/functions/echo/rpc/?a=1"
        found = await self._json("GET", path, None, self._token)
        expect(found, [{"a": "1"}, WORD])

    async def faaspot(self) -> None:
        id = await self._json("POST", "/v1/functions/echo/rpc/", {"a": 2}, self._token)
        ends = ("Success", "Failed", "Cancelled")
        found = await self._polled(f"/v1/executions/{id}", self._token, ends)
        expect(found["status"], "Success")

    async def pifop(self) -> None:
        """From nothing to the result, as PIFOP's clients do it."""
        path = "/main/copy/executions"
        id = (await self._json("POST", path, None, self._bearer))["id"]
        path = f"{path}/{id}"
        await self._json("POST", f"{path}/input/in", b"some input", self._bearer)
        await self._json("POST", f"{path}/start", None, self._bearer)
        found = await self._polled(path, self._bearer, ("ended",))
        expect((found["end_reason"], found["log"]), ("normal", "copied\n"))
        output = await self._request("GET", f"{path}/output/out", None, self._bearer)
        expect(output.body, b"some input")
        await self._json("DELETE", path, None, self._bearer)

    async def pythia(self) -> None:
        value = {"tid": self._world.task, "input": "it\n"}
        found = await self._json("POST", "/api/execute", value)
        expect((found["status"], found["output"]), ("success", "solved it\n"))

    async def metrics(self) -> None:
        answer = await self._request("GET", "/metrics")
        expect(answer.status, 200)


async def _send(connection: Any, **message: object) -> None:
    await connection.send_message(json.dumps(message))


async def _output(connection: Any) -> str:
    """What the program prints until it ends."""
    printed = ""
    while True:
        frame = json.loads(await connection.get_message())
        if frame["type"] == "data":
            printed += frame["data"]
        elif frame["type"] == "exit":
            return printed
