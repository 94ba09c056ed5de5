"""FaaSpot's API for the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any, Final

from sandboxd_rest.faaspot import models
from sandboxd_rest.openapi import array, json_body, operation, reference

TYPES: Final = (
    models.FaaspotCreateRequest,
    models.FaaspotUpdateRequest,
    models.FaaspotFunctionEntry,
    models.FaaspotFunction,
    models.FaaspotExecution,
    models.FaaspotNode,
    models.FaaspotError,
)

_ERROR: Final = reference(models.FaaspotError)
_REFUSED: Final = {str(status): _ERROR for status in (400, 401, 403, 404, 503)}
_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_RETURNED: Final = {"description": "anything: what the function returned"}


_ARGUMENTS: Final = {"type": "object"}
_PARAMETER: Final = re.compile(r"{([a-z]+)}")


def paths() -> dict[str, Any]:
    """The path items."""
    found = {**_of_functions(), **_of_runs(), **_of_executions()}
    return {
        path: {method: {**what, "parameters": _parameters(path)} for method, what in item.items()}
        for path, item in found.items()
    }


def _parameters(path: str) -> list[dict[str, Any]]:
    """Those in the path; every one is a name or an id."""
    return [
        {"name": name, "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
        for name in _PARAMETER.findall(path)
    ]


def _body(schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _of_functions() -> dict[str, Any]:
    conflict = {**_REFUSED, "409": _ERROR}
    create = json_body(models.FaaspotCreateRequest)
    every = {
        "get": operation("The functions there are.", array(models.FaaspotFunctionEntry), _REFUSED),
        "put": operation("Make a function.", _TEXT, conflict, create),
    }
    execution = reference(models.FaaspotExecution)
    update = json_body(models.FaaspotUpdateRequest)
    one = {
        "get": operation("A function.", reference(models.FaaspotFunction), _REFUSED),
        "patch": operation("Change a function.", execution, conflict, update),
        "delete": operation("Delete a function.", execution, _REFUSED),
    }
    return {
        "/v1/functions": every,
        # With the name of an application: its functions, and a new one of it.
        "/v1/functions/{name}": {**one, "put": every["put"]},
        "/v1/functions/{application}/{name}": one,
    }


def _of_runs() -> dict[str, Any]:
    failed = {**_REFUSED, "422": _ERROR, "500": _ERROR}
    run = "Run a function with the arguments in the {}."
    wait = "Run a function with the arguments in the {} and wait for its end."
    arguments = _body(_ARGUMENTS, required=False)
    many = _body({"type": "array", "items": _ARGUMENTS, "minItems": 1}, required=True)
    found = {}
    for name in ("functions/{name}", "functions/{application}/{name}"):
        found[f"/v1/{name}/rpc"] = {
            "get": operation(run.format("query"), _TEXT, _REFUSED),
            "post": operation(run.format("body"), _TEXT, _REFUSED, arguments),
        }
        found[f"/v1/{name}/bulk_rpc"] = {
            "post": operation("Run a function many times.", _TEXTS, _REFUSED, many),
        }
        found[f"/v1/sync/{name}/rpc"] = {
            "get": operation(wait.format("query"), _RETURNED, failed),
            "post": operation(wait.format("body"), _RETURNED, failed, arguments),
        }
    return found


def _of_executions() -> dict[str, Any]:
    one, many = reference(models.FaaspotExecution), array(models.FaaspotExecution)
    ids = _body(_TEXTS, required=True)
    return {
        "/v1/executions": {"get": operation("Executions.", many, _REFUSED)},
        "/v1/executions/bulk": {"post": operation("Executions by their ids.", many, _REFUSED, ids)},
        "/v1/executions/{id}": {
            "get": operation("An execution.", one, _REFUSED),
            "delete": operation("Stop an execution.", one, _REFUSED),
        },
        **{base: _of_nodes() for base in ("/v1/spots", "/v1/nodes/{application}")},
    }


def _of_nodes() -> dict[str, Any]:
    found = {"get": operation("This host.", array(models.FaaspotNode), _REFUSED)}
    for method in ("put", "patch", "delete"):
        found[method] = operation("Refused: there is one host.", _ERROR, _REFUSED)
        del found[method]["responses"]["200"]
    return found
