"""/v1/spots and /v1/nodes: the machines that run functions, of which there is one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sandboxd_rest.faaspot.errors import refusal
from sandboxd_rest.faaspot.large import check_key
from sandboxd_rest.faaspot.models import FaaspotNode
from sandboxd_rest.faaspot.shapes import moment
from sandboxd_rest.http import json_response

if TYPE_CHECKING:
    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link


class Nodes:
    """What the endpoints need."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def entries(self, request: Request) -> Response:
        """GET: this host."""
        return json_response([await self._here(request)])

    async def get(self, request: Request) -> Response:
        """GET IP."""
        here = await self._here(request)
        if request.path_params["ip"] != here.ip:
            text = f"there is one node, {here.ip}"
            raise refusal(404, "not_found", text)
        return json_response(here)

    async def change(self, request: Request) -> Response:
        """Everything that would change something."""
        await self._here(request)
        text = "all functions run on this host: nodes can be neither added, changed nor removed"
        raise refusal(403, "permission_denied", text)

    async def _here(self, request: Request) -> FaaspotNode:
        """The address that the client reached, since when the daemon runs. Raises RequestError for
        a key that is not known."""
        await check_key(self._link, request)
        stats = await self._link.call(lambda client: client.stats())
        address = request.scope.get("server") or ("localhost", None)
        return FaaspotNode(str(address[0]), moment(time.time_ns() - int(stats["uptime_ns"])))
