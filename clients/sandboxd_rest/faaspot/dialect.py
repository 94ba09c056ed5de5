"""Puts FaaSpot's API together: routes, description, error shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.routing import Route

from sandboxd.protocol.errors import RequestError
from sandboxd_rest.app import Dialect, Endpoint
from sandboxd_rest.faaspot.auth import secret
from sandboxd_rest.faaspot.changes import Changes
from sandboxd_rest.faaspot.description import TYPES, paths
from sandboxd_rest.faaspot.errors import error_body, refusal, refused_by_daemon
from sandboxd_rest.faaspot.executions import Executions
from sandboxd_rest.faaspot.functions import Functions
from sandboxd_rest.faaspot.large import Large
from sandboxd_rest.faaspot.nodes import Nodes
from sandboxd_rest.faaspot.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sandboxd_rest.config import Config
    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link

    Handler = Callable[[Request], Awaitable[Response]]
    # A path below the prefix, and what answers its methods.
    Known = tuple[str, Mapping[str, Handler]]

PREFIX: Final = "/v1/"


def dialect(config: Config, link: Link) -> Dialect:
    """FaaSpot's API on this daemon."""
    changes = Changes()
    large = Large(link, config.faaspot)
    known = [
        *_execution_routes(Executions(link, changes, large)),
        *_run_routes(Runs(link)),
        *_function_routes(Functions(link, config.faaspot, changes)),
        *_node_routes(Nodes(link)),
    ]
    routes = [
        Route(f"{PREFIX}{path}", _Methods(large, handlers), methods=[*handlers])
        for path, handlers in known
    ]

    def admit(request: Request) -> None:
        """Before it is known what a request is for, it has to have a key: then no web page can
        make one, not even with GET."""
        if request.scope["method"] == "OPTIONS":
            return  # A browser asks what a listed page may do; it sends no key with that.
        coding = request.headers.get(b"content-encoding", b"identity").decode("latin-1")
        if coding.lower() != "identity":
            text = f"unsupported content encoding {coding[:40]!r}"
            raise refusal(415, "unsupported_media_type", text)
        secret(request)

    return Dialect("faaspot", (PREFIX,), routes, paths(), TYPES, admit, error_body)


class _Methods(Endpoint):
    """The methods of one path; what the daemon refuses keeps its code."""

    def __init__(self, large: Large, handlers: Mapping[str, Handler]) -> None:
        async def handle(request: Request) -> Response:
            method = request.scope["method"]
            handler = handlers["GET" if method == "HEAD" else method]
            try:
                async with large.request(request):
                    return await handler(request)
            except RequestError as error:
                raise refused_by_daemon(error) from error

        super().__init__(handle)


def _route(path: str, **handlers: Handler) -> Known:
    return path, handlers


# The order matters: `functions/NAME/rpc` is no function `rpc` of the application NAME.


def _execution_routes(executions: Executions) -> list[Known]:
    return [
        _route("executions", GET=executions.entries),
        _route("executions/bulk", POST=executions.get_many),
        _route("executions/{id}", GET=executions.get, DELETE=executions.cancel),
    ]


def _run_routes(runs: Runs) -> list[Known]:
    found = []
    for name in ("functions/{name}", "functions/{application}/{name}"):
        found += [
            _route(f"{name}/rpc", GET=runs.run, POST=runs.run),
            _route(f"{name}/bulk_rpc", POST=runs.run_many),
            _route(f"sync/{name}/rpc", GET=runs.call, POST=runs.call),
        ]
    return found


def _function_routes(functions: Functions) -> list[Known]:
    one: dict[str, Handler] = {
        "GET": functions.get,
        "PATCH": functions.update,
        "DELETE": functions.delete,
    }
    return [
        _route("functions", GET=functions.entries, PUT=functions.create),
        _named("functions/{name}", functions.create, one),
        _route("functions/{application}/{name}", **one),
    ]


def _named(path: str, create: Handler, one: Mapping[str, Handler]) -> Known:
    """A name alone is an application for PUT, and for the rest a function first."""

    async def put(request: Request) -> Response:
        request.path_params = {"application": request.path_params["name"]}
        return await create(request)

    return _route(path, PUT=put, **one)


def _node_routes(nodes: Nodes) -> list[Known]:
    found = []
    for base in ("spots", "nodes/{application}"):
        found += [
            _route(
                base, GET=nodes.entries, PUT=nodes.change, PATCH=nodes.change, DELETE=nodes.change
            ),
            _route(f"{base}/replace/{{ip}}", GET=nodes.change),
            _route(f"{base}/{{ip}}", GET=nodes.get, DELETE=nodes.change),
        ]
    return found
