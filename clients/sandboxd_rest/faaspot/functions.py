"""/v1/functions: making, changing, reading and deleting functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandboxd.protocol.errors import NOT_FOUND, RequestError
from sandboxd.protocol.functions import DEFAULT_SPACE, MAX_PAGE
from sandboxd_rest.faaspot.auth import secret
from sandboxd_rest.faaspot.models import FaaspotCreateRequest, FaaspotUpdateRequest
from sandboxd_rest.faaspot.request import fields, named, space_of
from sandboxd_rest.faaspot.shapes import entry, function
from sandboxd_rest.faaspot.text import decode_code, decode_context
from sandboxd_rest.http import json_response

if TYPE_CHECKING:
    from sandboxd_rest.faaspot.changes import Changes
    from sandboxd_rest.faaspot.settings import Settings
    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link

# The list is whole, as FaaSpot knows no pages; whoever has more asks the daemon.
_MAX_LISTED: Final = 10_000


class Functions:
    """What the endpoints need."""

    def __init__(self, link: Link, settings: Settings, changes: Changes) -> None:
        self._link = link
        self._settings = settings
        self._changes = changes

    async def entries(self, request: Request) -> Response:
        """GET functions/: the functions of the default space."""
        found = await self._all(secret(request), DEFAULT_SPACE)
        return json_response([entry(request, info) for info in found])

    async def create(self, request: Request) -> Response:
        """PUT functions/ and functions/APP/: the id of an execution that has ended."""
        key = secret(request)
        wanted = await fields(request, FaaspotCreateRequest)
        params = {
            "space": space_of(request),
            "name": wanted.name,
            "kind": "python",
            "code": decode_code(wanted.code),
            "context": decode_context(wanted.context or ""),
            "limits": await self._limits(),
            "key": key,
        }
        await self._link.once(lambda client: client.call("function.create", params))
        change = self._changes.add(key, "create_function", f"function {wanted.name} created")
        return json_response(change.uuid)

    async def get(self, request: Request) -> Response:
        """GET functions/NAME, functions/APP/NAME; also GET functions/APP/, which looks the same.

        A name alone is a function of the default space where there is one. Else it is an
        application, whose functions are listed: with a slash after it even when it has none.
        """
        params = named(request)
        try:
            info = await self._link.call(lambda client: client.call("function.get", params))
        except RequestError as error:
            if error.code != NOT_FOUND or "application" in request.path_params:
                raise
            return await self._list_application(request, error)
        return json_response(function(request, info))

    async def _list_application(self, request: Request, error: RequestError) -> Response:
        name = request.path_params["name"]
        found = await self._all(secret(request), name)
        asked_for_list = request.scope["raw_path"].endswith(b"/") and not name.endswith(".py")
        if not found and not asked_for_list:
            raise error
        return json_response([entry(request, info) for info in found])

    async def update(self, request: Request) -> Response:
        """PATCH functions/NAME: an execution that has ended."""
        params = named(request)
        wanted = await fields(request, FaaspotUpdateRequest)
        if wanted.code:
            params["code"] = decode_code(wanted.code)
        if wanted.context is not None:
            params["context"] = decode_context(wanted.context)
        if wanted.name:
            params["new_name"] = wanted.name
        await self._link.once(lambda client: client.call("function.update", params))
        text = f"function {params['name']} updated"
        return json_response(self._changes.add(params["key"], "update_function", text))

    async def delete(self, request: Request) -> Response:
        """DELETE functions/NAME: an execution that has ended."""
        params = named(request)
        await self._link.once(lambda client: client.call("function.delete", params))
        text = f"function {params['name']} deleted"
        return json_response(self._changes.add(params["key"], "delete_function", text))

    async def _all(self, key: str, space: str) -> list[dict[str, Any]]:
        """The functions of a space."""
        params: dict[str, Any] = {"space": space, "limit": MAX_PAGE, "key": key}
        found: list[dict[str, Any]] = []
        while len(found) < _MAX_LISTED:
            page = await self._page(dict(params))
            found += page["functions"]
            params["after"] = page.get("next")
            if params["after"] is None:
                break
        return found

    async def _page(self, params: dict[str, Any]) -> dict[str, Any]:
        return dict(await self._link.call(lambda client: client.call("function.list", params)))

    async def _limits(self) -> dict[str, int]:
        """A function has a minute, where the daemon allows that."""
        if not self._link.maxima:
            await self._link.call(lambda client: client.info())
        maxima, wanted = self._link.maxima, self._settings.run_time_ns
        return {
            name: min(wanted, maxima.get(name, wanted)) for name in ("wall_time_ns", "cpu_time_ns")
        }
