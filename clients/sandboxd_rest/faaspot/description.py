"""FaaSpot's API for the OpenAPI document."""

from __future__ import annotations

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


def paths() -> dict[str, Any]:
    """The path items."""
    return {**_of_functions(), **_of_runs(), **_of_executions()}


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
        "/v1/functions/{application}/": every,
        "/v1/functions/{name}": one,
        "/v1/functions/{application}/{name}": one,
    }


def _of_runs() -> dict[str, Any]:
    failed = {**_REFUSED, "422": _ERROR, "500": _ERROR}
    run = "Run a function with the arguments in the {}."
    wait = "Run a function with the arguments in the {} and wait for its end."
    found = {}
    for name in ("functions/{name}", "functions/{application}/{name}"):
        found[f"/v1/{name}/rpc"] = {
            "get": operation(run.format("query"), _TEXT, _REFUSED),
            "post": operation(run.format("body"), _TEXT, _REFUSED),
        }
        found[f"/v1/{name}/bulk_rpc"] = {
            "post": operation("Run a function many times.", _TEXTS, _REFUSED),
        }
        found[f"/v1/sync/{name}/rpc"] = {
            "get": operation(wait.format("query"), _RETURNED, failed),
            "post": operation(wait.format("body"), _RETURNED, failed),
        }
    return found


def _of_executions() -> dict[str, Any]:
    one, many = reference(models.FaaspotExecution), array(models.FaaspotExecution)
    return {
        "/v1/executions": {"get": operation("Executions.", many, _REFUSED)},
        "/v1/executions/bulk": {"post": operation("Executions by their ids.", many, _REFUSED)},
        "/v1/executions/{id}": {
            "get": operation("An execution.", one, _REFUSED),
            "delete": operation("Stop an execution.", one, _REFUSED),
        },
        "/v1/spots": {"get": operation("This host.", array(models.FaaspotNode), _REFUSED)},
    }
