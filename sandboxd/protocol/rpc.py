"""MessagePack-RPC: request, response, notification and error as bytes.

A message that is not a request is a `RemoteProtocolError`: nobody could be answered. A request
with wrong params is a `RequestError`, because its msgid is known.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from sandboxd.protocol import environments, functions, models, packages, parts, runtimes
from sandboxd.protocol.errors import NOT_FOUND, RemoteProtocolError, RequestError
from sandboxd.protocol.explain import explain

REQUEST: Final = 0
RESPONSE: Final = 1
NOTIFICATION: Final = 2

Msgid = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Request(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One request; `params` is still bytes, for `decode_params`."""

    type: int
    msgid: Msgid
    method: str
    params: Raw


# Every method and the type of its params.
METHODS: Final[dict[str, type[Struct]]] = {
    "server.info": models.NoParams,
    "server.health": models.NoParams,
    "server.stats": models.NoParams,
    "server.check": models.NoParams,
    "job.run": models.JobParams,
    "job.start": models.JobParams,
    "job.wait": models.JobRef,
    "job.write": models.WriteParams,
    "job.close_stdin": models.JobRef,
    "job.signal": models.SignalParams,
    "job.resize": models.ResizeParams,
    "job.cancel": models.JobRef,
    "job.batch": models.BatchParams,
    "environment.list": models.NoParams,
    "environment.import": environments.EnvironmentImportParams,
    "environment.remove": environments.EnvironmentRef,
    "package.list": models.NoParams,
    "package.install": packages.PackageInstallParams,
    "package.uninstall": packages.PackageRef,
    "runtime.list": models.NoParams,
    "runtime.execute": runtimes.ExecuteParams,
    "runtime.start": runtimes.ExecuteParams,
    **functions.METHODS,
}

_request_decoder = msgspec.msgpack.Decoder(Request)
_params_decoders = {
    # A list with one map in it, hence the tuple; mypy cannot see types made from values.
    method: msgspec.msgpack.Decoder(tuple[params])  # type: ignore[valid-type]
    for method, params in METHODS.items()
}
_job_decoder = msgspec.msgpack.Decoder(models.JobParams)
_encode = msgspec.msgpack.Encoder().encode


def decode_request(frame: bytes | bytearray | memoryview) -> Request:
    """The request in one whole frame of `FrameDecoder`. Raises RemoteProtocolError."""
    try:
        request = _request_decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteProtocolError(_why_no_request(exc)) from exc
    if request.type != REQUEST:
        raise RemoteProtocolError(
            f"message type {request.type} from a client; only requests [0, msgid, method, params]"
            " are taken"
        )
    return request


def _why_no_request(exc: Exception) -> str:
    return f"not a request [0, msgid, method, params]: {exc}"


def decode_params(method: str, params: Raw) -> Struct:
    """The params of a request as the type in `METHODS`. Raises RequestError."""
    decoder = _params_decoders.get(method)
    if decoder is None:
        raise RequestError(NOT_FOUND, f"there is no method {method[:64]!r}")
    try:
        return decoder.decode(params)[0]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise explain(exc, params, prefix="$[0]") from exc


def decode_job(job: Raw, field: str) -> models.JobParams:
    """One job of a batch; `field` is its name in messages (`jobs[3]`). Raises RequestError."""
    try:
        return _job_decoder.decode(job)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise explain(exc, job, prefix="$", field=field) from exc


def error_map(error: RequestError) -> dict[str, object]:
    """`error` as it stands in a response, in a batch and in the notification `error`."""
    return {"code": error.code, "message": error.message, "data": error.data}


def encode_response(msgid: int, result: object) -> bytes:
    """The answer to a request that succeeded; `result` is a model or plain values."""
    return _encode((RESPONSE, msgid, None, result))


def response_parts(msgid: int, result: object) -> list[bytes]:
    """`encode_response` of a large result, to be sent one after the other."""
    return parts.encode((RESPONSE, msgid, None, result))


def encode_error(msgid: int, error: RequestError) -> bytes:
    """The answer to a request that failed."""
    return _encode((RESPONSE, msgid, error_map(error), None))


def encode_notification(method: str, params: object) -> bytes:
    """A message that has no answer; `params` is one map or model."""
    return _encode((NOTIFICATION, method, (params,)))


def notification_parts(method: str, params: object) -> list[bytes]:
    """`encode_notification` with large params."""
    return parts.encode((NOTIFICATION, method, (params,)))


def encode_request(msgid: int, method: str, params: object) -> bytes:
    """A request, as a client sends it."""
    return _encode((REQUEST, msgid, method, (params,)))
