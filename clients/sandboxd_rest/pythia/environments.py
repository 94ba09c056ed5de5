"""Environments: the root file systems that were imported, and the languages of the host.

A task of Pythia's names the image it wants. Here that is an imported environment of this name, or
else a language: `python3`, `go1.12` and `busybox` all run on the host's /usr.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import trio

from sandboxd_rest.http import Refusal, json_response
from sandboxd_rest.pythia.models import PythiaEnvironment

if TYPE_CHECKING:
    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link

HOST: Final = ""
"""The daemon's word for the host's /usr."""
_KEPT_S: Final = 5.0
_VERSION: Final = re.compile(r"[-_ ]?[0-9][0-9.]*")
# Pythia's own environments. Of them it need not be found out whether the host has the language,
# which takes a while at first: a task will tell.
_PYTHIA: Final = frozenset(
    ("ada", "algol68", "bash", "c", "cpp", "golang", "java", "lua", "nodejs", "php7", "prolog",
     "python", "rexx", "rust", "tcl")
)  # fmt: skip
_NAMES: Final = {
    "busybox": "bash", "c++": "cpp", "go": "golang", "javascript": "nodejs", "node": "nodejs",
    "php": "php7", "sh": "bash", "shell": "bash",
}  # fmt: skip


class Environments:
    """What there is, asked for anew now and then."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._found: dict[str, PythiaEnvironment] = {}
        self._aliases: dict[str, str] = {}
        self._until = 0.0

    async def entries(self, request: Request) -> Response:
        """GET /api/environments."""
        await self._refresh()
        return json_response([self._found[name] for name in sorted(self._found)])

    async def entry(self, request: Request) -> Response:
        """GET /api/environments/ID."""
        name = request.path_params["envid"]
        await self._refresh()
        found = self._found.get(name) or self._found.get(self._language(name) or "")
        if found is None:
            raise Refusal(404, f"there is no environment {name[:80]!r}")
        return json_response(found)

    async def resolve(self, name: str) -> str | None:
        """The daemon's name for an environment; None when there is none. Raises RequestError."""
        if name in {entry["name"] for entry in await self._imported()}:
            return name
        if not name or not _PYTHIA.isdisjoint(_candidates(name)):
            return HOST
        await self._refresh()
        return None if self._language(name) is None else HOST

    async def _imported(self) -> list[Any]:
        return await self._link.call(lambda client: client.environments())

    def _language(self, name: str) -> str | None:
        """The name in `_found` of the language that a name stands for."""
        found = (self._aliases.get(candidate) for candidate in _candidates(name))
        return next((language for language in found if language is not None), None)

    async def _refresh(self) -> None:
        if trio.current_time() < self._until:
            return
        runtimes = await self._link.call(lambda client: client.runtimes())
        imported = await self._imported()
        found, aliases = _languages(runtimes)
        for entry in imported:
            text = f"Imported from {entry.get('source') or 'an archive'}."
            found[entry["name"]] = PythiaEnvironment(entry["name"], entry["name"], [], text)
        self._found, self._aliases = found, aliases
        self._until = trio.current_time() + _KEPT_S


def _candidates(name: str) -> tuple[str, str]:
    """A name as Pythia has it, and without a version behind it."""
    name = name.lower()
    match = _VERSION.search(name)
    without = name[: match.start()] if match and match.end() == len(name) else name
    return _NAMES.get(name, name), _NAMES.get(without, without)


def _languages(runtimes: list[Any]) -> tuple[dict[str, PythiaEnvironment], dict[str, str]]:
    """(environments by name, their names by language and alias) of what the host has itself."""
    found: dict[str, PythiaEnvironment] = {}
    aliases: dict[str, str] = {}
    for runtime in runtimes:
        if runtime["package"] or runtime.get("environment"):
            continue
        language = runtime["language"]
        name = _NAMES.get(language, language)
        text = f"{language} {runtime['version']} of the host."
        found[name] = PythiaEnvironment(name, f"{language} {runtime['version']}", [], text)
        for alias in (name, language, *runtime["aliases"]):
            aliases.setdefault(alias, name)
    return found, aliases
