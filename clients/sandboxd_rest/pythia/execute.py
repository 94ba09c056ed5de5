"""Executing a task, and what is said of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec
import trio

from sandboxd.protocol import functions as words
from sandboxd.protocol import status
from sandboxd.protocol.errors import (
    INVALID_ARGUMENT,
    LIMIT_EXCEEDED,
    NOT_FOUND,
    PERMISSION_DENIED,
    RequestError,
    SandboxdError,
)
from sandboxd_rest.http import Refusal, json_response, while_connected
from sandboxd_rest.link import unavailable
from sandboxd_rest.pythia import asking
from sandboxd_rest.pythia.asking import NOTHING, SPACE
from sandboxd_rest.pythia.models import PythiaHealth, PythiaResult, PythiaSubmission
from sandboxd_rest.pythia.tasks import environment_of, is_resolved, output_of
from sandboxd_rest.safety import client_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link
    from sandboxd_rest.pythia.callbacks import Callbacks
    from sandboxd_rest.pythia.environments import Environments
    from sandboxd_rest.pythia.tasks import Tasks

    Status = Literal["success", "timeout", "overflow", "abort", "crash", "error", "fatal"]

_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False", ""))
_MOST_PARAMETERS: Final = 32
_BEGIN_S: Final = 15.0
_STOP_S: Final = 5.0

_STATUSES: Final[dict[str, Status]] = {
    words.TIMEOUT: "timeout",
    words.OUTPUT_LIMIT: "overflow",
    words.OUT_OF_MEMORY: "crash",
    words.STOPPED: "abort",
    words.CANCELLED: "abort",
}
# Why an execution could not begin that no other try would change.
_FATAL: Final = frozenset((INVALID_ARGUMENT, NOT_FOUND, LIMIT_EXCEEDED, PERMISSION_DENIED))


class Execute:
    """What the endpoints need."""

    def __init__(
        self, link: Link, tasks: Tasks, environments: Environments, callbacks: Callbacks
    ) -> None:
        self._link = link
        self._tasks = tasks
        self._environments = environments
        self._callbacks = callbacks

    async def health(self, request: Request) -> Response:
        """GET /api/health."""
        try:
            await self._link.call(lambda client: client.health())
        except (Refusal, SandboxdError):
            return json_response(PythiaHealth(running=False))
        return json_response(PythiaHealth(running=True))

    async def of_body(self, request: Request) -> Response:
        """POST /api/execute: the task is named in the body."""
        submission = await asking.body(request, PythiaSubmission)
        return await self._execute(request, submission, missing=400)

    async def of_path(self, request: Request) -> Response:
        """POST /api/tasks/ID/execute."""
        submission = await asking.body(request, PythiaSubmission)
        submission = msgspec.structs.replace(submission, tid=request.path_params["taskid"])
        return await self._execute(request, submission, missing=404)

    async def _execute(
        self, request: Request, submission: PythiaSubmission, missing: int
    ) -> Response:
        asynchronous = _asynchronous(request)
        if asynchronous and not submission.callback:
            raise Refusal(400, "callback is required where async is true")
        try:
            task = await self._tasks.find(submission.tid)
        except RequestError as error:
            if asking.is_missing(error):
                raise Refusal(missing, error.message) from error
            raise
        client = client_label(request.peer)
        run = partial(self._result, task, submission.input, client)
        if asynchronous:
            await self._callbacks.begin(client, submission.callback, task["name"], run)
            return NOTHING
        return json_response(await while_connected(request, run))

    async def _result(self, task: Mapping[str, Any], input: str, client: str) -> PythiaResult:
        """Run it to its end. Raises RequestError and Refusal while the daemon takes none.

        Cancelled, it stops the execution.
        """
        if not is_resolved(task) and not await self._resolve(task):
            text = f"there is no environment {environment_of(task)!r}"
            return PythiaResult(task["name"], "fatal", text)
        params = {"space": SPACE, "name": task["name"], "stdin": input, "client": client}
        try:
            begun = await self._begin(params)
        except RequestError as error:
            if error.code not in _FATAL:
                raise
            return PythiaResult(task["name"], "fatal", _why(error.message))
        ended = await self._wait(begun["id"])
        return result(task["name"], ended, output_of(task))

    async def _begin(self, params: Mapping[str, Any]) -> Any:
        """`execution.run`, to its answer: of one that was cancelled before it, nobody would know
        what there is to be stopped."""
        with trio.move_on_after(_BEGIN_S, shield=True):
            return await self._link.once(lambda client: client.call("execution.run", params))
        raise unavailable()

    async def _resolve(self, task: Mapping[str, Any]) -> bool:
        """Whether its environment has come since the task was made."""
        environment = await self._environments.resolve(environment_of(task))
        if environment is None:
            return False
        params = {
            "space": SPACE,
            "name": task["name"],
            "environment": environment,
            "metadata": {**task["metadata"], "resolved": True},
            "check": False,
        }
        await self._link.once(lambda client: client.call("function.update", params))
        return True

    async def _wait(self, id: str) -> Any:
        params = {"id": id, "log": True}
        try:
            return await self._link.call(lambda client: client.call("execution.wait", params))
        except trio.Cancelled:
            with trio.CancelScope(shield=True), trio.move_on_after(_STOP_S):
                await self._stop(id)
            raise

    async def _stop(self, id: str) -> None:
        try:
            await self._link.call(lambda client: client.call("execution.stop", {"id": id}))
        except (Refusal, SandboxdError):
            return  # It has ended, or the daemon has.


def result(tid: str, ended: Mapping[str, Any], most: int | None) -> PythiaResult:
    """From the end of an execution to Pythia's result; `most` bytes of output at most."""
    reason = ended["end_reason"]
    if reason in (words.ERROR, words.INTERRUPTED):
        error = ended.get("error") or {}
        fatal = error.get("kind") in _FATAL
        text = ended["message"] or error.get("message") or "the execution was interrupted"
        return PythiaResult(tid, "fatal" if fatal else "error", _why(text))
    log = ended["log"]
    found = _STATUSES.get(reason)
    if most is not None and len(log) > most:
        found = "overflow"
    if found is None:
        found = "success" if ended["job_status"] == status.OK else "crash"
    text = log[:most].replace(b"\r\n", b"\n").decode("utf-8", "replace")
    return PythiaResult(tid, found, text)


def _why(message: str) -> str:
    """Whoever executes a task gave no `files`."""
    return message.removeprefix("files: ")


def _asynchronous(request: Request) -> bool:
    """`async` of the query, as Go reads a bool. Raises Refusal."""
    text = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise Refusal(400, "the query cannot be understood") from None
    value = next((value for name, value in pairs if name == "async"), "")
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise Refusal(400, f"async must be true or false, not {value[:40]!r}")
