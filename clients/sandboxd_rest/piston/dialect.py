"""Puts Piston's API together: routes, description, error shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.routing import Route, WebSocketRoute

from sandboxd_rest.app import Dialect, Endpoint, SessionEndpoint
from sandboxd_rest.http import Refusal, Request, Response, json_response
from sandboxd_rest.openapi import array, json_body, operation, reference
from sandboxd_rest.piston import models
from sandboxd_rest.piston.catalogue import Runtimes
from sandboxd_rest.piston.connect import Connect
from sandboxd_rest.piston.execute import Execute
from sandboxd_rest.piston.packages import Packages

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from sandboxd_rest.config import Config
    from sandboxd_rest.link import Link
    from sandboxd_rest.metrics import HttpCounts

VERSION: Final = "3.1.1"
"""Of the Piston whose API this is."""
# The second is where Piston's public instance has it.
PREFIXES: Final = ("/api/v2", "/api/v2/piston")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# npm's piston-client says nothing of JSON; its library then says text/plain. No web page can pass
# for it: a page that sets this header has to ask first, which is refused.
_FORGETFUL: Final = b"node-fetch/"
_TYPES: Final = (
    models.ExecuteRequest,
    models.ExecuteResponse,
    models.RuntimeEntry,
    models.PackageEntry,
    models.PackageRequest,
    models.PackageResponse,
    models.Message,
)


def dialect(config: Config, link: Link, counts: HttpCounts) -> Dialect:
    """Piston's API on this daemon."""
    runtimes = Runtimes(link)
    execute = Execute(link, runtimes, config.piston, counts)
    packages = Packages(link, runtimes, config.piston)
    connect = Connect(link, execute)
    routes: list[BaseRoute] = []
    for prefix in PREFIXES:
        routes += [
            Route(f"{prefix}/execute", Endpoint(execute.execute), methods=["POST"]),
            Route(f"{prefix}/runtimes", Endpoint(execute.entries), methods=["GET"]),
            Route(f"{prefix}/packages", _Packages(packages), methods=["GET", "POST", "DELETE"]),
            WebSocketRoute(f"{prefix}/connect", SessionEndpoint(connect.session)),
        ]
    routes.append(Route("/", Endpoint(_hello), methods=["GET"]))
    return Dialect(
        "piston",
        PREFIXES,
        routes,
        _paths(),
        _TYPES,
        _admit,
        _error_body,
        prepare=runtimes.get,  # The daemon finds out the versions of all there is.
    )


class _Packages(Endpoint):
    """Three methods of one path."""

    def __init__(self, packages: Packages) -> None:
        handlers = {
            "GET": packages.entries,
            "HEAD": packages.entries,
            "POST": packages.install,
            "DELETE": packages.uninstall,
        }

        async def handle(request: Request) -> Response:
            return await handlers[request.scope["method"]](request)

        super().__init__(handle)


async def _hello(request: Request) -> Response:
    return json_response({"message": f"Piston v{VERSION}"})


def _admit(request: Request) -> None:
    """What is not said to be JSON is refused before it is known what it is for. A web page can
    only send JSON where it was allowed to."""
    if request.scope["method"] not in _WITH_BODY:
        return
    says_json = request.content_type.lower().startswith("application/json")
    if not says_json and not request.headers.get(b"user-agent", b"").startswith(_FORGETFUL):
        raise Refusal(415, "requests must be of type application/json")
    coding = request.headers.get(b"content-encoding", b"identity").decode("latin-1")
    if coding.lower() != "identity":
        raise Refusal(415, f"unsupported content encoding {coding[:40]!r}")


def _error_body(refusal: Refusal) -> bytes:
    values = {"message": refusal.message}
    if refusal.of_body:  # Piston has only this then.
        values["stack"] = f"Error: {refusal.message}"
    return msgspec.json.encode(values)


def _paths() -> dict[str, Any]:
    message = reference(models.Message)
    runtimes = operation("The languages there are.", array(models.RuntimeEntry), {"503": message})
    execute = operation(
        "Run a program and wait for its end.",
        reference(models.ExecuteResponse),
        {str(status): message for status in (400, 408, 415, 500, 503)},
        json_body(models.ExecuteRequest),
    )
    failures = {str(status): message for status in (400, 403, 404, 408, 415, 500, 503)}
    chosen = reference(models.PackageResponse)
    package = json_body(models.PackageRequest)
    packages = {
        "get": operation(
            "The packages there are.",
            array(models.PackageEntry),
            {"500": message, "503": message},
        ),
        "post": operation("Install a package.", chosen, failures, package),
        "delete": operation("Uninstall a package.", chosen, failures, package),
    }
    session = {"description": "Talk to a program by WebSocket; see sandboxd-rest(8)."}
    found: dict[str, Any] = {
        "/": {"get": operation("Says who this is.", message, {})},
    }
    for prefix in PREFIXES:
        found[f"{prefix}/runtimes"] = {"get": runtimes}
        found[f"{prefix}/execute"] = {"post": execute}
        found[f"{prefix}/packages"] = packages
        found[f"{prefix}/connect"] = session
    return found
