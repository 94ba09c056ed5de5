"""The client's half of the protocol, without a socket."""

import tracemalloc

import msgpack
import pytest

from sandboxd.protocol import models, rpc
from sandboxd.protocol.errors import BUSY, INVALID_ARGUMENT
from sandboxd_client import LocalProtocolError, RemoteProtocolError, RequestError
from sandboxd_client._wire import Notification, Response, Wire, chunks, ended, job_params
from sandboxd_client.result import Result, StagesResult, read_result


def receive(wire: Wire, data: bytes) -> list[Response | Notification]:
    return list(wire.receive(data))


def test_a_request_is_what_the_daemon_decodes() -> None:
    msgid, data = Wire().request("job.run", {"argv": ("a", b"\xff"), "limits": {"processes": 3}})
    request = rpc.decode_request(data)
    assert (request.msgid, request.method) == (msgid, "job.run")
    params = rpc.decode_params(request.method, request.params)
    assert params == models.JobParams(argv=["a", b"\xff"], limits=models.Limits(processes=3))


def test_msgids_differ_and_stay_within_32_bits() -> None:
    wire = Wire()
    first = [wire.request("server.info", {})[0] for _ in range(3)]
    assert len(set(first)) == 3
    wire._msgid = 2**32 - 1
    assert wire.request("server.info", {})[0] == 0


@pytest.mark.parametrize("value", [object(), 2**64, -(2**63) - 1, {1, 2}], ids=repr)
def test_what_cannot_be_encoded_is_the_callers_fault(value: object) -> None:
    with pytest.raises(LocalProtocolError, match=r"^job\.run: "):
        Wire().request("job.run", {"argv": [value]})


def test_messages_are_found_however_the_bytes_are_cut() -> None:
    data = rpc.encode_response(1, {"a": 1}) + rpc.encode_notification("job.stage", {"job": "1"})
    for size in (1, 3, len(data)):
        wire = Wire()
        found = [m for n in range(0, len(data), size) for m in wire.receive(data[n : n + size])]
        assert isinstance(found[0], Response)
        assert (found[0].msgid, found[0].error, found[0].result) == (1, None, {"a": 1})
        assert isinstance(found[1], Notification)
        assert (found[1].method, found[1].params) == ("job.stage", {"job": "1"})


def test_an_error_keeps_code_message_and_data() -> None:
    refused = RequestError(BUSY, "later", {"retry_after_ns": 5})
    (answer,) = receive(Wire(), rpc.encode_error(7, refused))
    assert isinstance(answer, Response)
    assert answer.error is not None
    assert (answer.error.code, str(answer.error)) == (BUSY, "later")
    assert answer.error.data == {"retry_after_ns": 5}


def test_the_daemons_last_words() -> None:
    nonsense = rpc.error_map(RequestError(INVALID_ARGUMENT, "byte 0xc1"))
    with pytest.raises(LocalProtocolError, match=r"refused the message: byte 0xc1$"):
        receive(Wire(), rpc.encode_notification("error", nonsense))
    full = rpc.error_map(RequestError(BUSY, "too many connections"))
    with pytest.raises(RequestError, match=r"^too many connections$"):
        receive(Wire(), rpc.encode_notification("error", full))


NO_MESSAGE = {
    "nil": msgpack.packb(None),
    "request": msgpack.packb([0, 1, "x", [{}]]),
    "both error and result": msgpack.packb([1, 1, {"code": "busy"}, {}]),
    "error text": msgpack.packb([1, 1, "no", None]),
    "notification without a map": msgpack.packb([2, "job.exit", []]),
    "0xc1": b"\xc1",
    "map of maps": msgpack.packb({"a": {}}),
}


@pytest.mark.parametrize("data", NO_MESSAGE.values(), ids=NO_MESSAGE.keys())
def test_nonsense_is_the_daemons_fault(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^sandboxd sent"):
        receive(Wire(), data)


def test_names_of_files_need_not_be_utf8() -> None:
    result = models.Result("ok", files={"a": b"1", b"\xff": b"2"})
    (answer,) = receive(Wire(), rpc.encode_response(1, result))
    assert isinstance(answer, Response)
    assert Result(answer.result).files == {"a": b"1", b"\xff": b"2"}


def test_a_result_has_every_field() -> None:
    sent = models.Result(
        "signaled", None, 9, "gone", 1, 2, 3, 4, "memory.peak", b"o", b"e", True, False, b"oe"
    )
    (answer,) = receive(Wire(), rpc.encode_response(1, sent))
    assert isinstance(answer, Response)
    result = read_result(answer.result)
    assert isinstance(result, Result)
    for name in models.Result.__struct_fields__:
        # The last two are for the daemon's own: no method answers with them.
        if name not in ("files", "files_truncated", "result", "result_truncated"):
            assert getattr(result, name) == getattr(sent, name)
    assert (result.files, result.files_truncated, result.ok) == ({}, False, False)
    assert repr(result) == "<Result signaled signal=9 message='gone' stdout=b'o' stderr=b'e'>"
    assert result == Result(answer.result)


@pytest.mark.parametrize("ran", [True, False])
def test_two_stages(ran: bool) -> None:
    compile_ = models.Result("ok" if ran else "nonzero_exit")
    sent = models.StagesResult(compile_, models.Result("ok", stdout=b"x") if ran else None)
    (answer,) = receive(Wire(), rpc.encode_response(1, sent))
    assert isinstance(answer, Response)
    result = read_result(answer.result)
    assert isinstance(result, StagesResult)
    assert result.ok is ran
    assert (result.run is not None) is ran
    assert result.last is (result.run if ran else result.compile)


def test_how_a_started_job_ended() -> None:
    assert isinstance(ended({"job": "1", "result": {"status": "ok"}}), Result)
    error = ended({"job": "1", "error": {"code": "busy", "message": "m", "data": {}}})
    assert isinstance(error, RequestError)


def test_descriptors_become_indices() -> None:
    params, fds = job_params(["a"], {"fds": {"stdin": 9, "stdout": 4, "stderr": 4}, "cwd": "x"})
    assert fds == [9, 4]
    assert params == {"argv": ["a"], "cwd": "x", "fds": {"stdin": 0, "stdout": 1, "stderr": 1}}
    assert job_params(["a"], {}) == ({"argv": ["a"]}, [])


@pytest.mark.parametrize("argv", ["ls -l", b"ls"])
def test_one_string_is_no_argv(argv: str | bytes) -> None:
    with pytest.raises(LocalProtocolError, match="list of strings"):
        job_params(argv, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 200_000])
def test_chunks(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    parts = list(chunks(data[:size]))
    assert b"".join(parts) == data[:size]
    assert all(0 < len(part) <= 65536 for part in parts)


def test_a_connection_takes_no_more_memory_than_its_present_message() -> None:
    """Its buffer is neither large from the start nor as large as a message once was."""
    large = rpc.encode_response(1, {"data": bytes(8 << 20)})
    small = rpc.encode_response(2, {"a": 1})
    tracemalloc.start()
    try:
        wire = Wire()
        assert tracemalloc.get_traced_memory()[0] < 400_000
        for size in (1 << 16, 999_983):
            # The last part of one message comes with the first part of the next.
            data = large + small
            for n in range(0, len(data) - 3, size):
                ids = [m.msgid for m in wire.receive(data[n : min(n + size, len(data) - 3)])]  # type: ignore[union-attr]
            assert ids == [1]
            assert [m.msgid for m in wire.receive(data[-3:])] == [2]  # type: ignore[union-attr]
            del data
            assert tracemalloc.get_traced_memory()[0] < 400_000
    finally:
        tracemalloc.stop()
