"""The client's half of the protocol, without a socket: bytes from requests, answers from bytes."""

from __future__ import annotations

from sandboxd.protocol.errors import (
    INVALID_ARGUMENT,
    LocalProtocolError,
    RemoteProtocolError,
    RequestError,
)
from sandboxd_client.result import read_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, Protocol

    from sandboxd_client.result import Result, StagesResult
    from sandboxd_client.types import SourceFile, Text

# Nothing larger can come from a sane daemon: its own limits are far below.
MAX_MESSAGE_BYTES = 2**31 - 1
WRITE_BYTES = 64 * 1024
# What an unpacker is made with; it grows when it has to.
_BUFFER_BYTES = 16 * 1024
# And is made anew after so much.
_RENEW_BYTES = 1024 * 1024
_MAX_MSGID = 2**32 - 1


class Response:
    """The answer to request `msgid`: `error` or `result`."""

    __slots__ = ("error", "msgid", "result")

    def __init__(self, msgid: int, error: RequestError | None, result: Any) -> None:
        self.msgid = msgid
        self.error = error
        self.result = result


class Notification:
    """Something that happened to a job (`job.output`, `job.stage`, `job.exit`), or how far a
    request has come (`package.progress`)."""

    __slots__ = ("method", "params")

    def __init__(self, method: str, params: Mapping[str, Any]) -> None:
        self.method = method
        self.params = params


if TYPE_CHECKING:

    class Unpacker(Protocol):
        """What takes bytes in any pieces and gives the values in them."""

        def feed(self, data: bytes) -> None: ...
        def __iter__(self) -> Iterator[Any]: ...

    Codec = tuple[Callable[[Any], bytes], Unpacker]


def msgpack_codec() -> Codec:
    """Encoder and decoder of the msgpack package."""
    import msgpack

    return msgpack.Packer(use_bin_type=True).pack, _Unpacker()


class _Unpacker:
    """msgpack's, without its habits: it would take 1 MiB from the start, write to all of that one
    message after the other, and stay as large as the largest message was."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        import msgpack

        self._fed = 0
        self._inner = msgpack.Unpacker(
            read_size=_BUFFER_BYTES,
            max_buffer_size=MAX_MESSAGE_BYTES,
            unicode_errors="surrogateescape",
        )

    def feed(self, data: bytes) -> None:
        self._fed += len(data)
        self._inner.feed(data)

    def __iter__(self) -> Iterator[Any]:
        whole = 0  # `tell` counts parts of a message, too.
        for value in self._inner:
            whole = self._inner.tell()
            yield value
        if whole == self._fed >= _RENEW_BYTES:
            self._renew()


class Wire:
    """Encodes requests, decodes what the daemon sends. One for each connection."""

    def __init__(self, codec: Codec | None = None) -> None:
        """`codec` is for who cannot wait until msgpack is imported."""
        self._msgid = 0
        self._pack, self._unpacker = codec or msgpack_codec()

    def request(self, method: str, params: Mapping[str, Any]) -> tuple[int, bytes]:
        """(msgid, bytes to send). Raises LocalProtocolError for what cannot be encoded."""
        self._msgid = msgid = (self._msgid + 1) & _MAX_MSGID
        try:
            return msgid, self._pack((0, msgid, method, (params,)))
        except (TypeError, ValueError, OverflowError) as exc:
            raise LocalProtocolError(f"{method}: {exc}") from exc

    def receive(self, data: bytes) -> Iterator[Response | Notification]:
        """Take bytes from the daemon and give the whole messages in them.

        Raises RemoteProtocolError for what is no message; LocalProtocolError or RequestError when
        the daemon says why it closes the connection.
        """
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                yield _message(message)
        except ValueError as exc:  # Of which msgpack's own exceptions are subclasses.
            raise RemoteProtocolError(f"sandboxd sent what is not MessagePack: {exc}") from exc


def _message(message: Any) -> Response | Notification:
    match message:
        case [1, int() as msgid, None, result]:
            return Response(msgid, None, result)
        case [1, int() as msgid, dict() as error, None]:
            return Response(msgid, request_error(error), None)
        case [2, "error", [dict() as error]]:
            raise _refusal(request_error(error))
        case [2, str() as method, [dict() as params]]:
            return Notification(method, params)
    raise RemoteProtocolError("sandboxd sent a message that is no answer and no notification")


def _refusal(error: RequestError) -> RequestError | LocalProtocolError:
    """Why the daemon closes the connection: it takes no more of them, or we spoke nonsense."""
    if error.code == INVALID_ARGUMENT:
        return LocalProtocolError(f"sandboxd refused the message: {error.message}")
    return error


def request_error(error: Mapping[str, Any]) -> RequestError:
    """The exception for an error map of the protocol."""
    return RequestError(
        str(error.get("code")), str(error.get("message")), error.get("data") or None
    )


def ended(params: Mapping[str, Any]) -> Result | StagesResult | RequestError:
    """What `job.exit` says: the result, or why a job that was taken could not be run."""
    error = params.get("error")
    return request_error(error) if error else read_result(params["result"])


def progress(message: Notification) -> tuple[str, int, int | None]:
    """How far a request has come: the phase, bytes, and their total where it is known."""
    params = message.params
    return params["phase"], params.get("bytes", 0), params.get("total")


def chunks(data: bytes) -> Iterator[bytes]:
    """`data` for job.write in pieces of a pipe's capacity: each is answered when the job has taken
    the one before, and between them there is time to take its output."""
    view = memoryview(data)
    for start in range(0, len(data), WRITE_BYTES):
        yield bytes(view[start : start + WRITE_BYTES])


def job_params(
    argv: Sequence[Text], options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[int]]:
    """(params of job.run or job.start, descriptors to pass with them)."""
    if isinstance(argv, str | bytes):
        raise LocalProtocolError("argv must be a list of strings, not one string")
    params = {**options, "argv": argv}
    return params, _passed(params)


def execute_params(
    language: str, files: Sequence[Text | SourceFile], options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[int]]:
    """(params of runtime.execute or runtime.start, descriptors to pass with them)."""
    if isinstance(files, str | bytes):
        files = [files]
    sources = [{"data": file} if isinstance(file, str | bytes) else file for file in files]
    params = {**options, "language": language, "files": sources}
    return params, _passed(params)


def _passed(params: dict[str, Any]) -> list[int]:
    """Put indices into `fds` of `params`, and return the descriptors they mean."""
    descriptors = params.get("fds")
    if not descriptors:
        return []
    passed = list(dict.fromkeys(descriptors.values()))
    params["fds"] = {name: passed.index(fd) for name, fd in descriptors.items()}
    return passed
