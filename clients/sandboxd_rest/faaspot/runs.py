"""Running functions: rpc, sync rpc and bulk_rpc."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sandboxd_rest.faaspot.request import (
    body_arguments,
    many_arguments,
    named,
    query_arguments,
)
from sandboxd_rest.faaspot.shapes import failure, succeeded
from sandboxd_rest.http import Response, json_response, while_connected
from sandboxd_rest.safety import client_label

if TYPE_CHECKING:
    from sandboxd_rest.http import Request
    from sandboxd_rest.link import Link


class Runs:
    """What the endpoints need."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def run(self, request: Request) -> Response:
        """GET or POST functions/NAME/rpc/: the id of the execution."""
        params = {**named(request), "args": await _arguments(request)}
        started = await self._link.once(lambda client: client.call("execution.run", params))
        return json_response(started["id"])

    async def call(self, request: Request) -> Response:
        """GET or POST sync/functions/NAME/rpc/: what the function returned."""
        params = {**named(request), "args": await _arguments(request)}
        params["client"] = client_label(request.peer)
        called = await while_connected(request, partial(self._link.job, "function.call", params))
        if not succeeded(called):
            raise failure(called)
        text = called["result"]
        return Response(b"null" if text is None else text.encode())

    async def run_many(self, request: Request) -> Response:
        """POST functions/NAME/bulk_rpc/: the ids of the executions."""
        params = {**named(request), "calls": await many_arguments(request)}
        started = await self._link.once(lambda client: client.call("execution.run_many", params))
        return json_response(started["ids"])


async def _arguments(request: Request) -> bytes:
    """GET has them in the query, POST in the body."""
    if request.scope["method"] == "POST":
        return await body_arguments(request)
    await request.body()  # There is none, or nobody wants it; what comes after it is a disconnect.
    return query_arguments(request)
