"""The ``package.*`` methods."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sandboxd.connection import LATER, Connection
from sandboxd.passed import input_from
from sandboxd.protocol.errors import CANCELLED, RequestError
from sandboxd.protocol.packages import (
    PackageInstallParams,
    PackageRef,
    check_package,
    check_sha256,
)

if TYPE_CHECKING:
    from sandboxd.packages.installed import Package
    from sandboxd.protocol.models import NoParams


def list_all(connection: Connection, msgid: int, params: NoParams) -> object:
    connection.peer.require_run()
    return {"packages": [_shown(package) for package in connection.server.packages.list()]}


def _shown(package: Package) -> dict[str, object]:
    found = package.found
    return {
        "language": found.language,
        "version": found.version,
        "size_bytes": found.record.size_bytes,
        "installed_ns": found.installed_ns,
        "runtimes": [runtime.language for runtime in package.runtimes],
    }


def install(connection: Connection, msgid: int, params: PackageInstallParams) -> object:
    connection.peer.require_admin()
    check_package(params.language, params.version)
    check_sha256(params.sha256)
    if connection.server.stopping:
        raise RequestError(CANCELLED, "sandboxd is shutting down; connect again in a moment")
    archive = input_from(connection.passed, "fds.archive", params.fds.archive)
    connection.start_soon(partial(_install, connection, msgid, params, archive))
    return LATER


async def _install(
    connection: Connection, msgid: int, params: PackageInstallParams, archive: int
) -> None:
    name = {"language": params.language, "version": params.version}

    def progress(phase: str, done: int, total: int | None) -> None:
        known = {} if total is None else {"total": total}
        connection.notify("package.progress", {**name, "phase": phase, "bytes": done, **known})

    try:
        await connection.server.packages.install(
            params.language, params.version, params.sha256, archive, progress
        )
    except RequestError as error:
        connection.answer(msgid, error)
    else:
        connection.answer(msgid, name)


def uninstall(connection: Connection, msgid: int, params: PackageRef) -> object:
    connection.peer.require_admin()
    check_package(params.language, params.version)
    connection.start_soon(partial(_uninstall, connection, msgid, params))
    return LATER


async def _uninstall(connection: Connection, msgid: int, params: PackageRef) -> None:
    try:
        await connection.server.packages.uninstall(params.language, params.version)
    except RequestError as error:
        connection.answer(msgid, error)
    else:
        connection.answer(msgid, {"language": params.language, "version": params.version})
