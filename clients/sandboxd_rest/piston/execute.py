"""POST /execute and GET /runtimes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from sandboxd.protocol import status
from sandboxd.protocol.errors import NOT_FOUND, RequestError
from sandboxd_rest.http import Refusal, Request, Response, while_connected
from sandboxd_rest.link import retry_after
from sandboxd_rest.piston import request as requests
from sandboxd_rest.piston.results import execute_response
from sandboxd_rest.safety import client_label

if TYPE_CHECKING:
    from sandboxd_client.result import ExecuteResult, Result
    from sandboxd_rest.link import Link
    from sandboxd_rest.metrics import HttpCounts
    from sandboxd_rest.piston.catalogue import Runtimes
    from sandboxd_rest.piston.settings import Settings


class Execute:
    """What the endpoints need."""

    def __init__(
        self, link: Link, runtimes: Runtimes, settings: Settings, counts: HttpCounts
    ) -> None:
        self._link = link
        self._runtimes = runtimes
        self._settings = settings
        self._counts = counts

    async def entries(self, request: Request) -> Response:
        """GET /runtimes."""
        return Response((await self._runtimes.get()).entries)

    async def execute(self, request: Request) -> Response:
        """POST /execute."""
        values = decode(await request.body())
        params = await self.parse(values, request.peer)
        try:
            result = await while_connected(request, partial(self._link.execute, params))
        except RequestError as error:
            raise self.refusal(error, values) from error
        except Refusal:
            self._runtimes.forget()  # The daemon is gone; the next one may have others.
            raise
        self._count(result)
        last = result.run or result.compile
        if last is not None and last.status == status.CANCELLED:
            raise Refusal(503, last.message or "the job was cancelled", retry_after(1))
        response = execute_response(result.language, result.version, result.compile, result.run)
        return Response(msgspec.json.encode(response))

    async def parse(self, values: object, peer: str) -> dict[str, Any]:
        """Params of `runtime.execute`. Raises Refusal."""
        _, params = await requests.parse(
            values, self._runtimes.find, self._settings, self._link.maxima
        )
        params["client"] = client_label(peer)
        return params

    def refusal(self, error: RequestError, values: Any) -> Exception:
        """What the client is told: also of a runtime that went away a moment ago."""
        if error.code != NOT_FOUND:
            return error
        self._runtimes.forget()
        text = f"{values['language']}-{values['version']} runtime is unknown"
        return Refusal(400, text)

    def _count(self, result: ExecuteResult) -> None:
        for name, stage in (("compile", result.compile), ("run", result.run)):
            if stage is not None:
                self.count_stage(result.language, name, stage)

    def count_stage(self, language: str, name: str, stage: Result) -> None:
        self._counts.add_stage(language, name, stage.status, stage.wall_time_ns / 1e9)


def decode(body: bytes) -> object:
    """The JSON of a body, as Express reads it: nothing is `{}`, and only objects and arrays are
    taken. Raises Refusal."""
    if not body:
        return {}
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Refusal(400, f"the body is not JSON: {exc}", of_body=True) from None
    if not isinstance(value, dict | list):
        raise Refusal(400, "the body is neither an object nor an array", of_body=True)
    return value
