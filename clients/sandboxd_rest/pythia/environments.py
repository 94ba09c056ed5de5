"""Environments: the root file systems that were imported, and the languages of the host.

A task of Pythia's names the image it wants. Here that is an imported environment of this name, or
else a language that the host has: `python3`, `go1.12` and `busybox` all run on the host's /usr.
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
# Pythia's names, where they are no alias of the language.
_NAMES: Final = {
    "algol68": "algol68", "busybox": "bash", "cpp": "c++", "golang": "go", "nodejs": "javascript",
    "node": "javascript", "php7": "php", "python3": "python", "shell": "bash",
}  # fmt: skip
_PYTHIA_NAMES: Final = {"c++": "cpp", "go": "golang", "javascript": "nodejs", "php": "php7"}


class Environments:
    """What there is, asked for anew now and then."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._found: dict[str, PythiaEnvironment] = {}
        self._aliases: dict[str, str] = {}
        self._imported: frozenset[str] = frozenset()
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
        await self._refresh()
        if name in self._imported:
            return name
        return HOST if not name or self._language(name) is not None else None

    def _language(self, name: str) -> str | None:
        """The name in `_found` of the language that a name stands for."""
        name = name.lower()
        match = _VERSION.search(name)
        without = name[: match.start()] if match and match.end() == len(name) else name
        for candidate in (name, without):
            language = self._aliases.get(_NAMES.get(candidate, candidate))
            if language is not None:
                return language
        return None

    async def _refresh(self) -> None:
        if trio.current_time() < self._until:
            return
        runtimes = await self._link.call(lambda client: client.runtimes())
        imported = await self._link.call(lambda client: client.environments())
        found, aliases = _languages(runtimes)
        for entry in imported:
            text = f"Imported from {entry.get('source') or 'an archive'}."
            found[entry["name"]] = PythiaEnvironment(entry["name"], entry["name"], [], text)
        self._found, self._aliases = found, aliases
        self._imported = frozenset(entry["name"] for entry in imported)
        self._until = trio.current_time() + _KEPT_S


def _languages(runtimes: list[Any]) -> tuple[dict[str, PythiaEnvironment], dict[str, str]]:
    """(environments by name, their names by language and alias) of what the host has itself."""
    found: dict[str, PythiaEnvironment] = {}
    aliases: dict[str, str] = {}
    for runtime in runtimes:
        if runtime["package"] or runtime.get("environment"):
            continue
        language = runtime["language"]
        name = _PYTHIA_NAMES.get(language, language)
        text = f"{language} {runtime['version']} of the host."
        found[name] = PythiaEnvironment(name, f"{language} {runtime['version']}", [], text)
        for alias in (language, *runtime["aliases"]):
            aliases.setdefault(alias, name)
    return found, aliases
