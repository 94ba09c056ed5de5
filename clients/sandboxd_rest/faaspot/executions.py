"""/v1/executions: what became of runs, and of changes to functions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sandboxd.protocol import functions
from sandboxd.protocol.errors import INVALID_ARGUMENT, RequestError
from sandboxd.protocol.functions import MAX_PAGE
from sandboxd_rest.faaspot.auth import secret
from sandboxd_rest.faaspot.errors import invalid
from sandboxd_rest.faaspot.request import flag, ids, query
from sandboxd_rest.faaspot.shapes import execution
from sandboxd_rest.http import json_response

if TYPE_CHECKING:
    from sandboxd_rest.faaspot.changes import Changes
    from sandboxd_rest.faaspot.large import Large
    from sandboxd_rest.faaspot.models import FaaspotExecution
    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link

_MAX_LISTED: Final = 1000
# What executions returned together, held in memory for one answer.
_MAX_BULK_BYTES: Final = 64 * 1024 * 1024
_MAX_LIST_BYTES: Final = 16 * 1024 * 1024
_AT_ONCE: Final = 64
# To find those of one function among those of all applications.
_MAX_PAGES: Final = 10


class Executions:
    """What the endpoints need."""

    def __init__(self, link: Link, changes: Changes, large: Large) -> None:
        self._link = link
        self._changes = changes
        self._large = large

    async def entries(self, request: Request) -> Response:
        """GET: those that have not ended, with `include_completed` all, the newest first.

        `deployment` is the name of a function, of one application as APP/NAME. What very many
        executions returned is only in the answer for the first of them.
        """
        params: dict[str, Any] = {"key": secret(request), "limit": MAX_PAGE}
        application, slash, name = query(request, "deployment").rpartition("/")
        if slash:
            params |= {"space": application, "name": name}
        if flag(request, "include_completed"):
            found = await self._matching(params, name)
        else:
            running = await self._matching({**params, "status": functions.RUNNING}, name)
            found = await self._matching({**params, "status": functions.PENDING}, name) + running
        return await self._large.answer(
            request, partial(self._listed, found[:_MAX_LISTED], params["key"])
        )

    async def _listed(self, found: list[dict[str, Any]], key: str) -> list[FaaspotExecution]:
        listed = {info["id"]: info for info in found}
        ended = [id for id, info in listed.items() if info["status"] == functions.ENDED]
        # Lists of the daemon are without results.
        whole, _ = await self._infos(ended, key, _MAX_LIST_BYTES)
        listed |= {info["id"]: info for info in whole}
        return [execution(info) for info in listed.values()]

    async def _infos(
        self, ids: list[str], key: str, most: int
    ) -> tuple[list[dict[str, Any]], bool]:
        """(those of the executions that there are, whether it is all of them): it stops when they
        returned more than `most` bytes together."""
        found: list[dict[str, Any]] = []
        size = 0
        for at in range(0, len(ids), _AT_ONCE):
            params = {"ids": ids[at : at + _AT_ONCE], "key": key}
            for info in (await self._call("execution.get_many", params))["executions"]:
                size += len(info["result"] or "")
                if size > most:
                    return found, False
                found.append(info)
        return found, True

    async def _matching(self, params: dict[str, Any], name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for _ in range(_MAX_PAGES):
            page = await self._call("execution.list", params)
            found += [ex for ex in page["executions"] if not name or ex["function"] == name]
            if page.get("next") is None or len(found) >= _MAX_LISTED:
                break
            params = {**params, "after": page["next"]}
        return found

    async def get(self, request: Request) -> Response:
        """GET UUID."""
        key, id = secret(request), request.path_params["id"]
        change = self._changes.get(key, id)
        if change is not None:
            return json_response(change)
        return json_response(execution(await self._call("execution.get", {"id": id, "key": key})))

    async def get_many(self, request: Request) -> Response:
        """POST bulk: in the order that was asked for; what is not there is left out."""
        key, wanted = secret(request), await ids(request)
        return await self._large.answer(request, partial(self._many, wanted, key))

    async def _many(self, wanted: list[str], key: str) -> list[FaaspotExecution | None]:
        found = {id: self._changes.get(key, id) for id in wanted}
        asked = [id for id, change in found.items() if change is None]
        infos, all_of_them = await self._infos(asked, key, _MAX_BULK_BYTES)
        if not all_of_them:
            raise invalid(f"they returned more than {_MAX_BULK_BYTES} bytes; ask for fewer at once")
        found |= {info["id"]: execution(info) for info in infos}
        return [found[id] for id in wanted if found[id] is not None]

    async def cancel(self, request: Request) -> Response:
        """DELETE UUID: stop it. One that has ended already stays as it is."""
        key, id = secret(request), request.path_params["id"]
        change = self._changes.get(key, id)
        if change is not None:
            return json_response(change)
        params = {"id": id, "key": key}
        try:
            info = await self._call("execution.stop", params)
        except RequestError as error:
            if error.code != INVALID_ARGUMENT or error.data.get("state") != functions.ENDED:
                raise
            info = await self._call("execution.get", params)
        return json_response(execution(info))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return dict(await self._link.call(lambda client: client.call(method, params)))
