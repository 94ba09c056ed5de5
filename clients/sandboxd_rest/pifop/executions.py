"""Executions: from new, by uploads and start, to outputs and the end."""

from __future__ import annotations

import mimetypes
import posixpath
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sandboxd_rest.http import Refusal, Response, json_response
from sandboxd_rest.link import retry_after
from sandboxd_rest.pifop import models
from sandboxd_rest.pifop.asking import ask, bearer, flag, function_of, query
from sandboxd_rest.pifop.increments import Positions

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxd_rest.http import Request
    from sandboxd_rest.link import Link
    from sandboxd_rest.pifop.settings import Settings

# Their clients ask again after 3 s.
_RETRY_S: Final = 3
_PENDING: Final = "pending"
_ENDED: Final = "ended"
# What a program wrote is for who asked for it, not for a browser to show as a page of ours.
_OUTPUT_HEADERS: Final = ((b"content-security-policy", b"sandbox; default-src 'none'"),)
# The table in the library, and no file of the host's.
_TYPES: Final = mimetypes.MimeTypes(filenames=())
_MOST_LISTED: Final = 1000


class Executions:
    """What the endpoints need."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._settings = settings
        self._positions = Positions()
        self._places = Places(settings.max_transfer_bytes)

    async def create(self, request: Request) -> Response:
        """POST executions."""
        info = await ask(self._link, request, "execution.create", **function_of(request))
        return json_response(models.execution(info))

    async def entries(self, request: Request) -> Response:
        """GET executions: the newest first."""
        text = query(request).get("limit", "") or "100"
        if not (
            text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= _MOST_LISTED
        ):
            raise Refusal(400, f"limit must be a whole number from 1 to {_MOST_LISTED}")
        answer = await ask(
            self._link, request, "execution.list", **function_of(request), limit=int(text)
        )
        return json_response([models.execution(info) for info in answer["executions"]])

    async def upload(self, request: Request) -> Response:
        """POST executions/ID/input/INPUT."""
        info = await self._named(request)
        if info["status"] != _PENDING or info.get("submitted_ns"):
            raise Refusal(
                409, "inputs are uploaded before the start; make a new execution for other ones"
            )
        place = self._places.take(bearer(request), self._size(request))
        try:
            answer = await ask(
                self._link,
                request,
                "execution.upload",
                id=info["id"],
                input=request.path_params["input"],
                data=await self._input(request),
            )
        finally:
            place()
        return json_response(models.file(answer))

    async def start(self, request: Request) -> Response:
        """POST executions/ID/start."""
        return await self._act(request, "execution.start")

    async def stop(self, request: Request) -> Response:
        """POST executions/ID/stop: one that has ended stays as it is."""
        return await self._act(request, "execution.stop")

    async def terminate(self, request: Request) -> Response:
        """DELETE executions/ID: it and all of its files are gone then."""
        return await self._act(request, "execution.delete")

    async def info(self, request: Request) -> Response:
        """GET executions/ID, with the log unless `include_log=false`, and with what is new in it
        where `stdout=true`."""
        parameters = query(request)
        stdout = flag(parameters, "stdout", default=False)
        log = flag(parameters, "include_log", default=True)
        if not stdout:
            return json_response(models.execution(await self._named(request, log=log), log=log))
        name = (request.path_params["id"], bearer(request))
        position = self._positions.of(*name)
        async with position.lock:
            start = 0 if log else position.offset
            info = await self._named(request, log=True, log_from=start)
            self._positions.keep(*name, position)
            new = info["log"][position.offset - start :]
            part = position.take(new, ended=info["status"] == _ENDED)
        return json_response(models.execution(info, log=log, stdout=part))

    async def download(self, request: Request) -> Response:
        """GET executions/ID/output/OUTPUT: the file as it is."""
        info = await self._named(request)
        if info["status"] != _ENDED:
            raise Refusal(409, "outputs are there when the execution has ended; it has not yet")
        name = request.path_params["output"]
        size = sum(output["bytes"] for output in info["outputs"] if output["id"] == name)
        place = self._places.take(bearer(request), size)
        try:
            found = await ask(self._link, request, "execution.output", id=info["id"], output=name)
        except BaseException:
            place()
            raise
        return Response(
            found["data"],
            content_type=content_type(found["path"]),
            headers=(*_OUTPUT_HEADERS, _disposition(found["path"])),
            sent=place,
        )

    # -- parts -------------------------------------------------------------------------------

    async def _act(self, request: Request, method: str) -> Response:
        info = await self._named(request)
        return json_response(
            models.execution(await ask(self._link, request, method, id=info["id"]))
        )

    async def _named(self, request: Request, **log: Any) -> dict[str, Any]:
        """The execution in the path, which must be one of the function in the path."""
        id = request.path_params["id"]
        info: dict[str, Any] = await ask(self._link, request, "execution.get", id=id, **log)
        named = function_of(request)
        if (info["space"], info["function"]) != (named["space"], named["name"]):
            raise Refusal(404, f"{named['space']}/{named['name']} has no execution {id}")
        return info

    def _size(self, request: Request) -> int:
        """Of the body, at most. Raises Refusal."""
        most = self._settings.max_input_bytes
        said = request.headers.get(b"content-length", b"")
        if not said.isdigit():
            return most
        size = int(said[:20])
        if size > most:
            raise _too_large(most)
        return size

    async def _input(self, request: Request) -> bytes:
        """The body, which may be larger than other requests. Raises Refusal."""
        most = self._settings.max_input_bytes
        request.body_limit = most
        request.body_timeout_s = self._settings.input_timeout_ns / 1e9
        try:
            return await request.body()
        except Refusal as exc:
            raise _too_large(most) if exc.of_body else exc from None


class Places:
    """The memory for files on their way. Who has one key gets half of it at most, but for one file
    at a time, which may be as large as it is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._by_key: Counter[str] = Counter()

    def take(self, key: str, size: int) -> Callable[[], None]:
        """Room for a file; call what is returned, once, to give it back. Raises Refusal (503) when
        there is none."""
        own = self._by_key[key]
        full = self._taken and self._taken + size > self._most
        if full or (own and own + size > self._most // 2):
            raise Refusal(503, "too many files are on their way; try again", retry_after(_RETRY_S))
        self._taken += size
        self._by_key[key] += size
        return partial(self._give_back, key, size)

    def _give_back(self, key: str, size: int) -> None:
        self._taken -= size
        self._by_key[key] -= size
        if not self._by_key[key]:
            del self._by_key[key]


def content_type(path: str) -> bytes:
    """Of an output, by its name; text is UTF-8."""
    kind, coding = _TYPES.guess_type(posixpath.basename(path))
    if kind is None or coding is not None:
        return b"application/octet-stream"
    return (f"{kind}; charset=utf-8" if kind.startswith("text/") else kind).encode()


def _disposition(path: str) -> tuple[bytes, bytes]:
    name = quote(posixpath.basename(path), safe="")
    return (b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode())


def _too_large(most: int) -> Refusal:
    text = f"the input is too large: at most {most} bytes; see pifop.max_input_bytes"
    return Refusal(413, text, ((b"connection", b"close"),))
