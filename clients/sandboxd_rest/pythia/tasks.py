"""Tasks: functions of the kind `task`, in a space of their own."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sandboxd.protocol.errors import NOT_FOUND, RequestError
from sandboxd_rest.http import Refusal, json_response
from sandboxd_rest.link import retry_after
from sandboxd_rest.pythia import asking
from sandboxd_rest.pythia.asking import NOTHING, SPACE
from sandboxd_rest.pythia.models import (
    PythiaLimits,
    PythiaTask,
    PythiaTaskCreation,
    PythiaTaskEntry,
)
from sandboxd_rest.safety import client_label
from sandboxd_rest.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link
    from sandboxd_rest.pythia.environments import Environments
    from sandboxd_rest.pythia.settings import Settings

_MIB: Final = 1024 * 1024
_SECOND: Final = 1_000_000_000
_PAGE: Final = 1000
_BUSY_S: Final = 1
_SPACE_OR_PADDING: Final = re.compile(r"[\s=]+")
# What Pythia's programs find: vm/init of Pythia says so.
_ENV: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C", "HOME": "/tmp"}  # noqa: S108
_PROCESSES: Final = 100
_OPEN_FILES: Final = 1024
_INODES: Final = 4096
# In Pythia's own documentation it stands for what is left out.
_PLACEHOLDER: Final = "..."


class Tasks:
    """What the endpoints need."""

    def __init__(self, link: Link, environments: Environments, settings: Settings) -> None:
        self._link = link
        self._environments = environments
        self._uploads = Shares(settings.max_uploads)

    async def entries(self, request: Request) -> Response:
        """GET /api/tasks."""
        found: list[PythiaTaskEntry] = []
        params: dict[str, Any] = {"space": SPACE, "kind": "task", "limit": _PAGE}
        while True:
            page = await self._ask("function.list", params)
            found += [_entry(function) for function in page["functions"]]
            if page.get("next") is None:
                return json_response(found)
            params["after"] = page["next"]

    async def entry(self, request: Request) -> Response:
        """GET /api/tasks/ID."""
        return json_response(_task(await self.find(request.path_params["taskid"])))

    async def find(self, taskid: str) -> dict[str, Any]:
        """A task as the daemon has it. Raises RequestError (`not_found`)."""
        params = {"space": SPACE, "name": taskid[:65], "code": False}
        try:
            found = dict(await self._ask("function.get", params))
        except RequestError as error:
            if error.data.get("field") == "name":  # None has such a name.
                raise RequestError(NOT_FOUND, f"there is no task {taskid[:80]!r}") from error
            raise
        if found["kind"] != "task":
            raise RequestError(NOT_FOUND, f"{taskid[:80]!r} is no task")
        return found

    async def delete(self, request: Request) -> Response:
        """DELETE /api/tasks/ID."""
        taskid = request.path_params["taskid"]
        await self.find(taskid)
        params = {"space": SPACE, "name": taskid}
        await self._link.once(lambda client: client.call("function.delete", params))
        return NOTHING

    async def create(self, request: Request) -> Response:
        """POST /api/tasks."""
        with self._upload(client_label(request.peer)):
            await self._create(await asking.body(request, PythiaTaskCreation))
        return NOTHING

    @contextmanager
    def _upload(self, peer: str) -> Iterator[None]:
        """One of the places for tasks that are being made. Raises Refusal."""
        if not self._uploads.take(peer):
            text = "too many tasks are being made; try again later"
            raise Refusal(503, text, retry_after(_BUSY_S))
        try:
            yield
        finally:
            self._uploads.give_back(peer)

    async def _create(self, task: PythiaTaskCreation) -> None:
        # This asks the daemon, whose limits are known from then on.
        environment = await self._environments.resolve(task.environment)
        limits = self._limits(task.limits)
        params: dict[str, Any] = {
            "space": SPACE,
            "name": task.taskid,
            "kind": "task",
            "environment": environment or "",
            "env": _ENV,
            "limits": limits,
            "metadata": {
                "name": task.name,
                "authors": task.authors,
                "description": task.description,
                "environment": task.environment,
                "resolved": environment is not None,
                "type": task.type,
                "limits": msgspec.to_builtins(task.limits),
            },
            "check": False,  # What is malformed is found out by executing it.
        }
        params |= _content(task)
        made = await self._link.once(lambda client: client.call("function.create", params))
        await self._make_room(made, limits)

    async def _make_room(self, made: Mapping[str, Any], limits: dict[str, int]) -> None:
        """The files of a task count as memory and as disk here, which they do not in Pythia."""
        size = sum(-(-file["bytes"] // 4096) * 4096 for file in made["files"])
        if not size:
            return
        more = {
            "memory_bytes": limits["memory_bytes"] + size,
            "disk_bytes": limits["disk_bytes"] + size,
            "file_size_bytes": limits["disk_bytes"] + size,
            "disk_inodes": limits["disk_inodes"] + 2 * len(made["files"]),
        }
        params = {
            "space": SPACE,
            "name": made["name"],
            "limits": limits | self._at_most(more),
            "check": False,
        }
        await self._link.once(lambda client: client.call("function.update", params))

    def _limits(self, asked: PythiaLimits) -> dict[str, int]:
        """By the protocol's names. Raises Refusal for more than the daemon allows."""
        default = PythiaLimits()
        memory, time = asked.memory * _MIB, asked.time * _SECOND
        wanted = {
            "wall_time_ns": (time, asked.time == default.time),
            "memory_bytes": (memory, asked.memory == default.memory),
            "output_bytes": (asked.output, asked.output == default.output),
        }
        for name, (value, usual) in wanted.items():
            most = self._link.maxima.get(name, value)
            if value > most and not usual:
                raise Refusal(400, f"limits: {name} is {value}; this server allows {most}")
        disk = max(4096, memory * asked.disk // 100)
        return self._at_most(
            {name: value for name, (value, _) in wanted.items()}
            | {
                "cpu_time_ns": 2 * time,  # Of several processors, each counts.
                "disk_bytes": disk,
                "file_size_bytes": disk,
                "disk_inodes": _INODES,
                "processes": _PROCESSES,
                "open_files": _OPEN_FILES,
            }
        )

    def _at_most(self, limits: dict[str, int]) -> dict[str, int]:
        maxima = self._link.maxima
        return {name: min(value, maxima.get(name, value)) for name, value in limits.items()}

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        return await self._link.call(lambda client: client.call(method, params))


def _content(task: PythiaTaskCreation) -> dict[str, Any]:
    """The files of a task, in whatever form they come. Raises Refusal."""
    config = task.config if task.config is not None else {}
    if not isinstance(config, dict):
        raise Refusal(400, "config must be an object")
    found: dict[str, Any] = {}
    archive = _archive(config.get("taskfs"))
    if archive:
        found["archive"] = archive
    if task.type != "raw":
        values = {name: value for name, value in config.items() if name != "taskfs"}
        language = values.pop("language", task.environment)
        if not isinstance(language, str) or len(language) > 64:
            raise Refusal(400, "config.language must be the name of a language")
        found["template"] = {"type": task.type, "language": language, "config": values}
    return found


def _archive(text: object) -> bytes:
    """Both alphabets of base64, with or without padding and white space."""
    if text is None or text == _PLACEHOLDER:
        return b""
    if not isinstance(text, str):
        raise Refusal(400, "config.taskfs must be the base64 of an archive")
    plain = _SPACE_OR_PADDING.sub("", text).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "config.taskfs is not valid base64") from None


def limits_of(function: Mapping[str, Any]) -> PythiaLimits:
    """As they were given; of a task that was made in another way, as near as can be."""
    given = function["metadata"].get("limits")
    if given is None:
        given = _by_pythia_s_names(function["limits"])
    try:
        return msgspec.convert(given, PythiaLimits)
    except msgspec.ValidationError:
        return PythiaLimits()


def _by_pythia_s_names(limits: Mapping[str, int]) -> dict[str, int]:
    memory, disk = limits.get("memory_bytes"), limits.get("disk_bytes")
    found = {
        "time": -(-limits.get("wall_time_ns", 0) // _SECOND),
        "memory": -(-(memory or 0) // _MIB),
        "disk": min(100, -(-100 * disk // memory)) if memory and disk else 0,
        "output": limits.get("output_bytes") or 0,
    }
    return {name: value for name, value in found.items() if value}


def output_of(function: Mapping[str, Any]) -> int | None:
    """The most that a task may print; None where only the daemon knows."""
    if "limits" in function["metadata"]:
        return limits_of(function).output
    limit = function["limits"].get("output_bytes")
    return limit if isinstance(limit, int) and limit > 0 else None


def environment_of(function: Mapping[str, Any]) -> str:
    """The name that the task was made with."""
    return _text(function["metadata"].get("environment")) or function["environment"]


def is_resolved(function: Mapping[str, Any]) -> bool:
    """Whether there was such an environment when the task was made."""
    return function["metadata"].get("resolved", True) is not False


def _entry(function: Mapping[str, Any]) -> PythiaTaskEntry:
    found = function["metadata"]
    name, text = _text(found.get("name")), _text(found.get("description"))
    return PythiaTaskEntry(function["name"], name, _texts(found.get("authors")), text)


def _task(function: Mapping[str, Any]) -> PythiaTask:
    entry = _entry(function)
    return PythiaTask(
        entry.taskid,
        entry.name,
        entry.authors,
        entry.description,
        environment_of(function),
        limits_of(function),
    )


def _text(value: object) -> str:
    """Metadata may be anything: functions are not only made here."""
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
