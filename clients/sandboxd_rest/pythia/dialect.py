"""Puts Pythia's API together: routes, description, error shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from sandboxd_rest.app import Dialect
from sandboxd_rest.openapi import NOTHING, array, json_body, operation, reference
from sandboxd_rest.pythia import models
from sandboxd_rest.pythia.asking import Methods, empty_body
from sandboxd_rest.pythia.callbacks import Callbacks
from sandboxd_rest.pythia.environments import Environments
from sandboxd_rest.pythia.execute import Execute
from sandboxd_rest.pythia.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.app import Handler
    from sandboxd_rest.config import Config
    from sandboxd_rest.http import Request
    from sandboxd_rest.link import Link

PREFIXES: Final = ("/api/environments", "/api/execute", "/api/health", "/api/tasks")
_SUBMISSION: Final = models.with_null(models.PythiaSubmission)
_WANTED_LIMITS: Final = models.with_null(models.PythiaLimits, "PythiaWantedLimits")
_CREATION: Final = models.with_null(models.PythiaTaskCreation, limits=_WANTED_LIMITS)
_TYPES: Final = (
    models.PythiaEnvironment,
    models.PythiaHealth,
    models.PythiaLimits,
    models.PythiaResult,
    _SUBMISSION,
    models.PythiaTask,
    _CREATION,
    models.PythiaTaskEntry,
    _WANTED_LIMITS,
)


def dialect(config: Config, link: Link) -> Dialect:
    """Pythia's API on this daemon."""
    settings = config.pythia
    environments = Environments(link)
    tasks = Tasks(link, environments, settings)
    callbacks = Callbacks(settings)
    execute = Execute(link, tasks, environments, callbacks)
    table: dict[str, Mapping[str, Handler]] = {
        "/api/environments": {"GET": environments.entries},
        "/api/environments/{envid}": {"GET": environments.entry},
        "/api/execute": {"POST": execute.of_body},
        "/api/health": {"GET": execute.health},
        "/api/tasks": {"GET": tasks.entries, "POST": tasks.create},
        "/api/tasks/{taskid}": {"GET": tasks.entry, "DELETE": tasks.delete},
        "/api/tasks/{taskid}/execute": {"POST": execute.of_path},
    }

    def admit(request: Request) -> None:
        executes = request.scope["path"].rstrip("/").endswith("/execute")
        request.body_limit = settings.max_input_bytes if executes else settings.max_request_bytes
        request.body_timeout_s = settings.upload_timeout_ns / 1e9

    return Dialect(
        "pythia",
        PREFIXES,
        [
            Route(path, Methods(handlers), methods=list(handlers))
            for path, handlers in table.items()
        ],
        _described(),
        _TYPES,
        admit,
        empty_body,
        run=callbacks.run,
    )


def _described() -> dict[str, Any]:
    submission = json_body(_SUBMISSION)
    result = reference(models.PythiaResult)
    failures = {"400": NOTHING, "503": NOTHING}
    missing = {"404": NOTHING, **failures}
    unread = {"503": NOTHING}
    task = json_body(_CREATION)
    return {
        "/api/environments": {
            "get": operation("What tasks run in.", array(models.PythiaEnvironment), unread)
        },
        "/api/environments/{envid}": {
            "get": operation("One of them.", reference(models.PythiaEnvironment), missing)
        },
        "/api/execute": {"post": operation("Execute a task.", result, failures, submission)},
        "/api/health": {
            "get": operation("Whether there is a daemon.", reference(models.PythiaHealth), {})
        },
        "/api/tasks": {
            "get": operation("The tasks there are.", array(models.PythiaTaskEntry), unread),
            "post": operation("Make a task.", NOTHING, failures, task),
        },
        "/api/tasks/{taskid}": {
            "get": operation("Describe a task.", reference(models.PythiaTask), missing),
            "delete": operation("Delete a task.", NOTHING, missing),
        },
        "/api/tasks/{taskid}/execute": {
            "post": operation("Execute a task.", result, missing, submission)
        },
    }
