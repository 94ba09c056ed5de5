"""From what the daemon says to FaaSpot's objects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sandboxd.protocol import functions, status
from sandboxd.protocol.functions import DEFAULT_SPACE
from sandboxd_rest.faaspot.errors import CodedRefusal, refusal
from sandboxd_rest.faaspot.models import FaaspotExecution, FaaspotFunction, FaaspotFunctionEntry
from sandboxd_rest.faaspot.text import encode
from sandboxd_rest.link import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.http import Request

PENDING: Final = "Pending"
STARTED: Final = "Started"
SUCCESS: Final = "Success"
FAILURE: Final = "Failure"
CANCELLED: Final = "Cancelled"

_UNFINISHED: Final = {functions.PENDING: PENDING, functions.RUNNING: STARTED}
# What nobody asked the function about: the same call may do well later.
_LATER: Final = (functions.STOPPED, functions.CANCELLED, functions.INTERRUPTED)


def moment(ns: int) -> str:
    """A time in the form that FaaSpot's client shows as one."""
    when = datetime.fromtimestamp(ns / 1e9, UTC)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def entry(request: Request, info: Mapping[str, Any]) -> FaaspotFunctionEntry:
    return FaaspotFunctionEntry(
        name=info["name"],
        runner_url=_runner_url(request, info),
        application=info["space"],
        created=moment(info["created_ns"]),
        updated=moment(info["updated_ns"]),
    )


def function(request: Request, info: Mapping[str, Any]) -> FaaspotFunction:
    """Who may only run it sees neither code nor the names of the context."""
    return FaaspotFunction(
        **msgspec.structs.asdict(entry(request, info)),
        code=encode(info.get("code", "")),
        context=list(info.get("context", ())),
    )


def _runner_url(request: Request, info: Mapping[str, Any]) -> str:
    """Where it is run, at the address that the client knows the gateway by."""
    host = request.headers.get(b"host", b"localhost").decode("latin-1")
    space = "" if info["space"] == DEFAULT_SPACE else f"{info['space']}/"
    scheme = "https" if request.secure else "http"
    return f"{scheme}://{host}/v1/functions/{space}{info['name']}/rpc/"


def execution(info: Mapping[str, Any]) -> FaaspotExecution:
    return FaaspotExecution(
        uuid=info["id"],
        name=info["function"],
        status=_status(info),
        created=moment(info["created_ns"]),
        output=_output(info),
    )


def succeeded(info: Mapping[str, Any]) -> bool:
    """Whether an execution or call that has ended has a result, or ended as a program should."""
    if info["end_reason"] != functions.NORMAL or info.get("error"):
        return False
    return info.get("result") is not None or _job_status(info) == status.OK


def _job_status(info: Mapping[str, Any]) -> Any:
    """An execution has it beside its own status, a call has no other."""
    return info["job_status"] if "job_status" in info else info["status"]


def _status(info: Mapping[str, Any]) -> str:
    if info["status"] in _UNFINISHED:
        return _UNFINISHED[info["status"]]
    if succeeded(info):
        return SUCCESS
    reason = info["end_reason"]
    return CANCELLED if reason in (functions.STOPPED, functions.CANCELLED) else FAILURE


def _output(info: Mapping[str, Any]) -> object:
    if info["status"] in _UNFINISHED:
        return None
    return result(info) if succeeded(info) else problem(info)


def result(info: Mapping[str, Any]) -> msgspec.Raw | None:
    """What the function returned: JSON, as it is."""
    text = info.get("result")
    return None if text is None else msgspec.Raw(text.encode())


def problem(info: Mapping[str, Any]) -> str:
    """Why there is no result."""
    error = info.get("error")
    if error:
        return f"{error['type']}: {error['message']}" if error["type"] else str(error["message"])
    return str(info.get("message") or info["end_reason"])


def failure(info: Mapping[str, Any]) -> CodedRefusal:
    """The refusal for a call whose function failed."""
    reason = info["end_reason"]
    if reason in _LATER:
        return refusal(503, reason, problem(info), retry_after(1))
    if reason == functions.ERROR:
        return refusal(500, "internal", problem(info))
    error = info.get("error")
    if error:
        return refusal(422, error["kind"], problem(info), traceback=error.get("traceback", ""))
    code = reason if reason != functions.NORMAL else str(_job_status(info))
    return refusal(422, code, problem(info))
