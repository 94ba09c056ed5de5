"""Puts PIFOP's API together: routes, description, error shape."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from sandboxd_rest.app import Dialect, Endpoint
from sandboxd_rest.openapi import array, operation, reference
from sandboxd_rest.pifop import models, paths
from sandboxd_rest.pifop.asking import admit, error_body
from sandboxd_rest.pifop.executions import Executions
from sandboxd_rest.pifop.functions import Functions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.app import Handler
    from sandboxd_rest.config import Config
    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link

_TYPES: Final = (
    models.PifopFunction,
    models.PifopExecution,
    models.PifopFile,
    models.PifopPort,
    models.PifopApiKey,
    models.PifopError,
)
_INPUT: Final = f"{paths.EXECUTION}/input/{{input:pifop_name}}"
_START: Final = f"{paths.EXECUTION}/start"
_STOP: Final = f"{paths.EXECUTION}/stop"
_OUTPUT: Final = f"{paths.EXECUTION}/output/{{output:pifop_name}}"
_KEY: Final = f"{paths.API_KEYS}/{{key_name:pifop_name}}"
_CODES: Final = {
    _INPUT: (408, 409, 413),
    _START: (409,),
    _OUTPUT: (409,),
    paths.API_KEYS: (409,),
}
_BODY: Final = {
    "content": {"application/octet-stream": {"schema": {"description": "the content of the file"}}}
}
# What behind the `?` changes the answer.
_FLAG: Final = {"type": "boolean"}
_AMOUNT: Final = {"type": "string", "pattern": "^[1-9][0-9]{0,5}$"}
_QUERY: Final[dict[tuple[str, str], dict[str, Any]]] = {
    (paths.EXECUTION, "get"): {"include_log": _FLAG, "stdout": _FLAG},
    (paths.EXECUTIONS, "get"): {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}},
    (paths.API_KEYS, "post"): {
        "key_name": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,52}$"},
        "max_memory": _AMOUNT,
        "max_time": _AMOUNT,
        "max_executions": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    },
}


def dialect(config: Config, link: Link) -> Dialect:
    """PIFOP's API on this daemon."""
    executions = Executions(link, config.pifop)
    functions = Functions(link)
    table: dict[str, dict[str, Handler]] = {
        paths.FUNCTION: {"GET": functions.info},
        paths.EXECUTIONS: {"GET": executions.entries, "POST": executions.create},
        paths.EXECUTION: {"GET": executions.info, "DELETE": executions.terminate},
        _INPUT: {"POST": executions.upload},
        _START: {"POST": executions.start},
        _STOP: {"POST": executions.stop},
        _OUTPUT: {"GET": executions.download},
        paths.API_KEYS: {"GET": functions.keys, "POST": functions.create_key},
        _KEY: {"DELETE": functions.delete_key},
    }
    return Dialect(
        "pifop",
        (),
        [
            Route(path, _Methods(handlers), methods=list(handlers))
            for path, handlers in table.items()
        ],
        _described(),
        _TYPES,
        partial(admit, plain_http=config.pifop.plain_http),
        error_body,
        owns=paths.owns,
    )


class _Methods(Endpoint):
    """The methods of one path."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        async def handle(request: Request) -> Response:
            method = request.scope["method"]
            return await handlers["GET" if method == "HEAD" else method](request)

        super().__init__(handle)


def _described() -> dict[str, Any]:
    execution = reference(models.PifopExecution)
    key = reference(models.PifopApiKey)
    file = {"type": "string", "description": "the content of the file"}
    operations = {
        paths.FUNCTION: {"get": ("Describe a function.", reference(models.PifopFunction))},
        paths.EXECUTIONS: {
            "get": ("List executions, the newest first.", array(models.PifopExecution)),
            "post": ("Make an execution, which is pending.", execution),
        },
        paths.EXECUTION: {
            "get": ("Describe an execution, with its log.", execution),
            "delete": ("End an execution and delete all of it.", execution),
        },
        _INPUT: {"post": ("Upload an input; the body is the file.", reference(models.PifopFile))},
        _START: {"post": ("Start an execution.", execution)},
        _STOP: {"post": ("End an execution.", execution)},
        _OUTPUT: {"get": ("Download an output.", file)},
        paths.API_KEYS: {
            "get": ("List the API keys.", array(models.PifopApiKey)),
            "post": ("Make an API key.", key),
        },
        _KEY: {"delete": ("Delete an API key.", key)},
    }
    return {
        paths.plain(path): {
            method: _operation(path, method, summary, answer)
            for method, (summary, answer) in methods.items()
        }
        for path, methods in operations.items()
    }


# Where the author has a name that is the beginning of another wire format's paths.
_NOT_OURS: Final = {
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string"}},
}


def _operation(path: str, method: str, summary: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    error = reference(models.PifopError)
    codes = sorted((400, 401, 403, 404, 415, 503, *_CODES.get(path, ())))
    body = _BODY if path == _INPUT else None
    failures = {str(code): error for code in codes} | {"404": {"anyOf": [error, _NOT_OURS]}}
    found = operation(summary, answer, failures, body)
    text = {"type": "string", "pattern": f"^{paths.NAME}$"}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in re.findall(r"\{(\w+)\}", paths.plain(path))
    ]
    for name, kind in _QUERY.get((path, method), {}).items():
        parameters.append({"name": name, "in": "query", "schema": kind})
    return found | {"parameters": parameters, "security": [{"bearer": []}]}
