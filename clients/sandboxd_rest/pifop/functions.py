"""What a function is, and its API keys."""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from sandboxd.protocol.errors import EXISTS, RequestError
from sandboxd_rest.http import Refusal, json_response
from sandboxd_rest.pifop import models
from sandboxd_rest.pifop.asking import ask, function_of, query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.http import Request, Response
    from sandboxd_rest.link import Link

_MIB: Final = 1024 * 1024
# PIFOP says no units. Its client's own example is `max_memory=10`, which makes sense in megabytes
# only; of times, seconds are what a person writes.
_SIZES: Final = {"": _MIB, "B": 1, "K": 1024, "M": _MIB, "G": 1024 * _MIB}
_TIMES: Final = {"": 10**9, "MS": 10**6, "S": 10**9, "MIN": 60 * 10**9, "H": 3600 * 10**9}
_AMOUNT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
_MOST: Final = 2**63 - 1
_MOST_EXECUTIONS: Final = 2**31 - 1

# PIFOP's key names are a function's own, the daemon's are a tenant's: there a key's name ends in a
# digest of its function.
_DIGEST: Final = 10
_MOST_NAME: Final = 64 - 1 - _DIGEST
_KEY_NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{_MOST_NAME - 1}}}")


class Functions:
    """What the endpoints need."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def info(self, request: Request) -> Response:
        """GET the function: for everybody who may run it."""
        info = await ask(self._link, request, "function.get", **function_of(request), code=False)
        return json_response(models.function(info))

    async def create_key(self, request: Request) -> Response:
        """POST api_keys, with the documented names of parameters or those of PIFOP's client."""
        parameters = query(request)
        name = _either(parameters, "key_name", "name")
        if not name:
            raise Refusal(400, "key_name is missing: the name of the new key")
        if not _KEY_NAME.fullmatch(name):
            raise Refusal(
                400,
                f"key_name: {name[:80]!r} is no name: at most {_MOST_NAME} letters, digits and"
                " '.', '_', '-', the first neither '.' nor '-'",
            )
        limits = _limits(parameters)
        function = function_of(request)
        try:
            info = await ask(
                self._link,
                request,
                "key.create",
                name=_native(function, name),
                role="run",
                space=function["space"],
                function=function["name"],
                **limits,
            )
        except RequestError as error:
            if error.code != EXISTS:
                raise
            text = f"there is a key {name} already; delete it first, or choose another name"
            raise Refusal(409, text) from None
        return json_response(models.api_key(info, name))

    async def keys(self, request: Request) -> Response:
        """GET api_keys: without their secrets."""
        function = function_of(request)
        found = [
            models.api_key(info, _shown(function, info["name"]))
            for info in await self._keys(request, function)
        ]
        return json_response(found)

    async def delete_key(self, request: Request) -> Response:
        """DELETE api_keys/NAME: what runs with it is ended."""
        function, name = function_of(request), request.path_params["key_name"]
        keys = {info["name"]: info for info in await self._keys(request, function)}
        # One that was not made here has the name it was given.
        for native in (_native(function, name), name):
            if native in keys:
                info = await ask(self._link, request, "key.delete", name=native)
                return json_response(models.api_key(info, name))
        raise Refusal(404, f"{function['space']}/{function['name']} has no key {name}")

    async def _keys(self, request: Request, function: Mapping[str, str]) -> list[dict[str, Any]]:
        """The API keys of the function."""
        answer = await ask(self._link, request, "key.list")
        wanted = ("run", function["space"], function["name"])
        return [
            info
            for info in answer["keys"]
            if (info["role"], info["space"], info["function"]) == wanted
        ]


def _native(function: Mapping[str, str], name: str) -> str:
    path = f"{function['space']}/{function['name']}"
    return f"{name}.{hashlib.sha256(path.encode()).hexdigest()[:_DIGEST]}"


def _shown(function: Mapping[str, str], native: str) -> str:
    name = native[: -_DIGEST - 1]
    return name if native == _native(function, name) else native


# -- limits --------------------------------------------------------------------------------------


def _limits(parameters: Mapping[str, str]) -> dict[str, int]:
    """By the protocol's names; what is not given is not in it. Raises Refusal."""
    found = {}
    if text := parameters.get("max_memory"):
        right = "megabytes, as in 512, or with a unit: 65536K, 512M, 2G"
        found["max_memory_bytes"] = _amount("max_memory", text, _SIZES, right)
    if text := parameters.get("max_time"):
        right = "seconds, as in 10 or 0.5, or with a unit: 500ms, 10s, 5min, 1h"
        found["max_time_ns"] = _amount("max_time", text, _TIMES, right)
    if text := _either(parameters, "max_executions", "max_parallel_jobs"):
        if not re.fullmatch("[0-9]{1,10}", text) or not 0 < int(text) <= _MOST_EXECUTIONS:
            raise Refusal(400, f"max_executions: {text[:40]!r} is not a whole number above 0")
        found["max_executions"] = int(text)
    return found


def _amount(name: str, text: str, units: Mapping[str, int], right: str) -> int:
    match = _AMOUNT.fullmatch(text)
    unit = match[2].upper() if match else ""
    if units is _SIZES and len(unit) > 1:
        unit = unit.removesuffix("IB").removesuffix("B")
    if match is None or unit not in units:
        raise Refusal(400, f"{name}: {text[:40]!r} is not an amount: {right}")
    value = int(Fraction(match[1]) * units[unit])
    if not 0 < value <= _MOST:
        raise Refusal(400, f"{name}: {text[:40]!r} is not above 0, or far too much: {right}")
    return value


def _either(parameters: Mapping[str, str], documented: str, of_client: str) -> str:
    """A parameter that has two names. Raises Refusal when both are there and differ."""
    values = {parameters[name] for name in (documented, of_client) if parameters.get(name)}
    if len(values) > 1:
        raise Refusal(400, f"{documented} and {of_client} mean the same and differ; give one")
    return values.pop() if values else ""
