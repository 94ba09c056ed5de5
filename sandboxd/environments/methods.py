"""The ``environment.*`` methods."""

from functools import partial

from sandboxd.connection import LATER, Connection
from sandboxd.environments.description import Description
from sandboxd.passed import input_from
from sandboxd.protocol.environments import EnvironmentImportParams, EnvironmentRef
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.models import NoParams


def list_all(connection: Connection, msgid: int, params: NoParams) -> object:
    connection.peer.require_run()
    return {"environments": [_shown(found) for found in connection.server.environments.list()]}


def _shown(found: Description) -> dict[str, object]:
    return {
        "name": found.name,
        "source": found.source,
        "size_bytes": found.size_bytes,
        "files": found.files,
        "imported_ns": found.imported_ns,
        "env": found.defaults.env,
        "working_directory": found.defaults.working_directory,
    }


def import_archive(connection: Connection, msgid: int, params: EnvironmentImportParams) -> object:
    connection.peer.require_admin()
    archive = input_from(connection.passed, "fds.archive", params.fds.archive)
    connection.start_soon(partial(_import, connection, msgid, params.name, archive))
    return LATER


async def _import(connection: Connection, msgid: int, name: str, archive: int) -> None:
    try:
        made = await connection.server.environments.import_archive(name, archive)
    except RequestError as error:
        connection.answer(msgid, error)
    else:
        connection.answer(msgid, _shown(made))


def remove(connection: Connection, msgid: int, params: EnvironmentRef) -> object:
    connection.peer.require_admin()
    connection.server.environments.remove(params.name)
    return {"name": params.name}
