"""GET, POST and DELETE /packages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from sandboxd.protocol.errors import (
    BUSY,
    CANCELLED,
    PERMISSION_DENIED,
    RequestError,
    SandboxdError,
)
from sandboxd_client import Client
from sandboxd_client.errors import ConnectionLost, DaemonUnreachable
from sandboxd_packages import NoSuchPackage, Package, fetch_index, install, matching, select
from sandboxd_rest.http import Refusal, json_response
from sandboxd_rest.link import unavailable
from sandboxd_rest.piston.execute import decode
from sandboxd_rest.piston.models import PackageEntry, PackageResponse

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link
    from sandboxd_rest.piston.catalogue import Runtimes
    from sandboxd_rest.piston.settings import Settings

    T = TypeVar("T")

# Installing takes minutes and a thread each.
_AT_ONCE: Final = 8
# What Piston does not answer with 500.
_OF_APP: Final = frozenset({BUSY, CANCELLED, PERMISSION_DENIED})


class Packages:
    """What the endpoints need. All of it blocks, so it is done in threads."""

    def __init__(self, link: Link, runtimes: Runtimes, settings: Settings) -> None:
        self._link = link
        self._runtimes = runtimes
        self._url = settings.repo_url or None
        self._threads = trio.CapacityLimiter(_AT_ONCE)

    async def entries(self, request: Request) -> Response:
        """GET: everything the index has or that is installed."""
        installed = {(p.language, p.version) for p in await self._installed()}
        index = await self._blocking(partial(fetch_index, self._url))
        known = {(package.language, package.version) for package in index.packages}
        names = [(p.language, p.version) for p in index.packages] + sorted(installed - known)
        return json_response([PackageEntry(*name, name in installed) for name in names])

    async def install(self, request: Request) -> Response:
        """POST."""
        language, version = _named(decode(await request.body()))
        index = await self._blocking(partial(fetch_index, self._url))
        package = _select(index.packages, language, version)
        await self._blocking(partial(_install, self._link.socket, package))
        self._runtimes.forget()
        return json_response(PackageResponse(package.language, package.version))

    async def uninstall(self, request: Request) -> Response:
        """DELETE: of those that are installed the highest version in the range."""
        language, version = _named(decode(await request.body()))
        found = matching(await self._installed(), language, version)
        if not found:
            index = await self._blocking(partial(fetch_index, self._url))
            package = _select(index.packages, language, version)
            raise Refusal(500, f"{package.language}-{package.version} is not installed")
        params = {"language": found[0].language, "version": found[0].version}
        try:
            await self._link.call(lambda client: client.call("package.uninstall", params))
        except RequestError as error:
            raise _failed(error) from error
        self._runtimes.forget()
        return json_response(PackageResponse(**params))

    async def _installed(self) -> list[Package]:
        answer = await self._link.call(lambda client: client.call("package.list", {}))
        return [Package(p["language"], p["version"], "", "") for p in answer["packages"]]

    async def _blocking(self, call: Callable[[], T]) -> T:
        """A thread that is still at work when the gateway ends is not waited for: its connection
        to the daemon ends with the process, and with that what it began."""
        try:
            return await trio.to_thread.run_sync(
                call, abandon_on_cancel=True, limiter=self._threads
            )
        except (DaemonUnreachable, ConnectionLost):
            raise unavailable() from None
        except RequestError as error:
            raise _failed(error) from error
        except SandboxdError as error:
            raise Refusal(500, str(error)) from error


def _named(body: object) -> tuple[str, str]:
    values: dict[str, Any] = body if isinstance(body, dict) else {}
    for name in ("language", "version"):
        if not isinstance(values.get(name), str) or not values[name]:
            raise Refusal(400, f"{name} is required as a string")
    return values["language"], values["version"]


def _select(packages: tuple[Package, ...], language: str, version: str) -> Package:
    try:
        return select(packages, language, version)
    except NoSuchPackage as exc:
        raise Refusal(404, str(exc)) from None


def _install(socket: str | None, package: Package) -> None:
    with Client(socket) as client:
        install(client, package)


def _failed(error: RequestError) -> Exception:
    return error if error.code in _OF_APP else Refusal(500, error.message)
