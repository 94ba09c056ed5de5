"""MessagePack-RPC: what is a request, whose fault it is when it is not, how answers look."""

import subprocess
import sys

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.protocol import errors, models, rpc, status
from sandboxd.protocol.errors import RemoteProtocolError, RequestError
from sandboxd.protocol.jobs import job_spec


def pack(value: object) -> bytes:
    return bytes(msgpack.packb(value))


def test_a_request_is_decoded() -> None:
    request = rpc.decode_request(pack([0, 7, "job.wait", [{"job": "3"}]]))
    assert (request.msgid, request.method) == (7, "job.wait")
    assert rpc.decode_params(request.method, request.params) == models.JobRef(job="3")


@pytest.mark.parametrize("msgid", [0, 1, 2**32 - 1])
def test_msgid_is_32_bits(msgid: int) -> None:
    assert rpc.decode_request(pack([0, msgid, "server.info", [{}]])).msgid == msgid


NO_REQUEST = {
    "nil": None,
    "map": {"type": 0},
    "text": "GET / HTTP/1.1",
    "empty": [],
    "too short": [0, 1, "job.run"],
    "too long": [0, 1, "job.run", [{}], None],
    "response": [1, 1, None, None],
    "type 1 with a request's form": [1, 1, "job.run", [{}]],
    "notification": [2, "job.run", [{}]],
    "type 3": [3, 1, "job.run", [{}]],
    "type true": [True, 1, "job.run", [{}]],
    "type 0.0": [0.0, 1, "job.run", [{}]],
    "msgid -1": [0, -1, "job.run", [{}]],
    "msgid 2^32": [0, 2**32, "job.run", [{}]],
    "msgid 2^64-1": [0, 2**64 - 1, "job.run", [{}]],
    "msgid 1.0": [0, 1.0, "job.run", [{}]],
    "msgid text of 1 MB": [0, "1" * 10**6, "job.run", [{}]],
    "msgid nil": [0, None, "job.run", [{}]],
    "msgid ext": [0, msgpack.ExtType(1, b"x"), "job.run", [{}]],
    "method bytes": [0, 1, b"job.run", [{}]],
    "method nil": [0, 1, None, [{}]],
    "ext": msgpack.ExtType(1, b"x"),
    "timestamp": msgpack.Timestamp(1),
}


@pytest.mark.parametrize("message", NO_REQUEST.values(), ids=NO_REQUEST.keys())
def test_what_is_no_request_is_the_peers_fault(message: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        rpc.decode_request(pack(message))
    assert len(str(caught.value)) < 300


def test_method_that_is_not_utf8_is_the_peers_fault() -> None:
    with pytest.raises(RemoteProtocolError):
        rpc.decode_request(b"\x94\x00\x01\xa2\xff\xfe\x91\x80")


def test_bytes_after_the_request_are_the_peers_fault() -> None:
    with pytest.raises(RemoteProtocolError):
        rpc.decode_request(pack([0, 1, "server.info", [{}]]) + b"\x00")


def test_an_unknown_method_is_answered() -> None:
    request = rpc.decode_request(pack([0, 1, "job.fly" + "y" * 1000, [{}]]))
    with pytest.raises(RequestError) as caught:
        rpc.decode_params(request.method, request.params)
    assert caught.value.code == errors.NOT_FOUND
    assert "job.fly" in caught.value.message
    assert len(caught.value.message) < 120


PARAMS: list[object] = [
    None,
    [],
    {},
    [None],
    [[]],
    [{}, {}],
    ["x"],
    [{"job": 1}],
    [{"job": "1", "x": 2}],
]


@pytest.mark.parametrize("params", PARAMS, ids=repr)
def test_wrong_params_are_answered(params: object) -> None:
    request = rpc.decode_request(pack([0, 1, "job.wait", params]))
    with pytest.raises(RequestError) as caught:
        rpc.decode_params(request.method, request.params)
    assert caught.value.code == errors.INVALID_ARGUMENT
    assert caught.value.message.startswith(f"{caught.value.data['field']}: ")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.just(msgpack.ExtType(9, b"x")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*models.JobParams.__struct_fields__, "x"]), inner)
        | st.dictionaries(st.integers(-9, 9) | st.binary(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 2]),
        st.integers(0, 2**33),
        st.sampled_from([*rpc.METHODS, "x"]),
        anything | st.tuples(anything),
    )
    | anything
)
def test_any_message_is_a_job_or_blamed_on_the_peer(message: object) -> None:
    try:
        request = rpc.decode_request(pack(message))
    except RemoteProtocolError:
        return
    refused = None
    try:
        params = rpc.decode_params(request.method, request.params)
        if isinstance(params, models.JobParams):
            job_spec(params)
    except RequestError as error:
        refused = error
    if refused:
        assert refused.code in errors.ERROR_CODES
        assert "\n" not in refused.message
        msgspec.msgpack.encode(rpc.error_map(refused))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_blamed_on_the_peer(data: bytes) -> None:
    for frame in (data, b"\x94\x00\x01\xa7job.run\x91" + data):
        try:
            request = rpc.decode_request(frame)
            rpc.decode_params(request.method, request.params)
        except (RemoteProtocolError, RequestError):
            pass


def test_a_result_has_every_field_of_the_document() -> None:
    response = msgpack.unpackb(rpc.encode_response(5, models.Result(status.OK, exit_code=0)))
    assert response[:3] == [1, 5, None]
    assert response[3] == {
        "status": "ok",
        "exit_code": 0,
        "signal": None,
        "message": "",
        "cpu_time_ns": 0,
        "wall_time_ns": 0,
        "memory_bytes": 0,
        "memory_peak_bytes": 0,
        "memory_source": "",
        "stdout": b"",
        "stderr": b"",
        "stdout_truncated": False,
        "stderr_truncated": False,
    }


def test_what_was_asked_for_is_in_the_result() -> None:
    result = models.Result(
        status.OK, output=b"x", files={"a": b"1", b"\xff": b"2"}, files_truncated=False
    )
    answer = msgpack.unpackb(rpc.encode_response(5, result), strict_map_key=False)[3]
    assert answer["output"] == b"x"
    assert answer["files"] == {"a": b"1", b"\xff": b"2"}
    assert answer["files_truncated"] is False


def test_two_stages_and_a_batch() -> None:
    stages = models.StagesResult(compile=models.Result(status.NONZERO_EXIT, exit_code=1))
    assert msgpack.unpackb(rpc.encode_response(1, stages))[3]["run"] is None
    error = rpc.error_map(RequestError(errors.BUSY, "later", {"retry_after_ns": 5}))
    batch = models.BatchResult([stages, {"error": error}])
    results = msgpack.unpackb(rpc.encode_response(1, batch))[3]["results"]
    assert results[0]["compile"]["status"] == "nonzero_exit"
    assert results[1]["error"] == {
        "code": "busy",
        "message": "later",
        "data": {"retry_after_ns": 5},
    }


def test_error_and_notification_have_the_published_form() -> None:
    error = RequestError(errors.NOT_FOUND, "no such job")
    assert msgpack.unpackb(rpc.encode_error(9, error)) == [
        1,
        9,
        {"code": "not_found", "message": "no such job", "data": {}},
        None,
    ]
    assert msgpack.unpackb(rpc.encode_notification("job.stage", {"job": "1"})) == [
        2,
        "job.stage",
        [{"job": "1"}],
    ]


@given(st.integers(0, 2**32 - 1), st.text(max_size=20))
def test_requests_come_back(msgid: int, token: str) -> None:
    request = rpc.decode_request(rpc.encode_request(msgid, "job.wait", models.JobRef(token)))
    assert request.msgid == msgid
    assert rpc.decode_params("job.wait", request.params) == models.JobRef(token)


def test_a_batch_is_decoded_job_by_job() -> None:
    request = rpc.decode_request(
        pack(
            [0, 1, "job.batch", [{"jobs": [{"argv": ["a"]}, {"argv": ["a"], "limits": {"x": 1}}]}]]
        )
    )
    batch = rpc.decode_params(request.method, request.params)
    assert isinstance(batch, models.BatchParams)
    assert rpc.decode_job(batch.jobs[0], "jobs[0]").argv == ["a"]
    with pytest.raises(RequestError, match=r"^jobs\[1\]\.limits\.x: there is no such field$"):
        rpc.decode_job(batch.jobs[1], "jobs[1]")


def test_the_protocol_needs_neither_trio_nor_the_native_extension_nor_a_socket() -> None:
    script = (
        "import sys, sandboxd.protocol.rpc, sandboxd.protocol.jobs, sandboxd.protocol.limits\n"
        "print(*(m for m in ('trio', 'sandboxd._native', 'socket') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
