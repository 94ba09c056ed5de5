"""PIFOP's API: what can be told without a daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.protocol.errors import BUSY, INVALID_ARGUMENT, PERMISSION_DENIED, RequestError
from sandboxd_rest.http import Refusal, Request
from sandboxd_rest.link import Link
from sandboxd_rest.pifop import models, paths
from sandboxd_rest.pifop.asking import admit, ask, bearer, error_body, flag, query, refusal
from sandboxd_rest.pifop.executions import Places, content_type
from sandboxd_rest.pifop.functions import _limits, _native, _shown
from sandboxd_rest.pifop.increments import Positions, whole_characters
from support import scripted

if TYPE_CHECKING:
    from pathlib import Path


def request(
    method: str = "GET", query_string: bytes = b"", *, secure: bool = True, **headers: str
) -> Request:
    async def receive() -> Any:
        raise AssertionError("nothing is read")

    names = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    scope = {"method": method, "query_string": query_string}
    return Request(scope, receive, names, "peer", 1, 1.0, secure=secure)


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/joe/tsp", "/joe/tsp/", "/joe/tsp/executions", "/joe/tsp/executions/1/input/x",
        "/joe/tsp/executions/1/no/such/thing", "/joe/tsp/api_keys/x", "/apis/tsp", "/v10/f",
        "/joe/not a name", "/-joe/tsp", "/../etc", "/" + "a" * 65 + "/f",
    ],
)  # fmt: skip
def test_paths_that_are_pifops(path: str) -> None:
    assert paths.owns(path)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/docs", "/openapi.json", "/metrics", "/joe", "/joe/tsp/other", "/api/v2/execute",
        "/api/tasks", "/v1/functions", "/v1/functions/executions", "/api/x/executions",
        "//tsp", "/nothing/of/anybodys/choice",
    ],
)  # fmt: skip
def test_paths_that_are_not(path: str) -> None:
    assert not paths.owns(path)


# -- who asks ------------------------------------------------------------------------------------


def test_the_key_of_a_request() -> None:
    assert bearer(request(authorization="Bearer apikey_ABC123")) == "apikey_ABC123"
    assert bearer(request(authorization="bearer  x ")) == "x"


@pytest.mark.parametrize(
    "header", ["", "apikey_ABC123", "Token x", "Basic eDp5", "Bearer", "Bearer a b", "Bearer ä",
               "Bearer " + "x" * 129, "Bearer a, Bearer b"]
)  # fmt: skip
def test_no_key(header: str) -> None:
    with pytest.raises(Refusal) as caught:
        bearer(request(authorization=header))
    assert caught.value.status == 401
    assert caught.value.headers[0][0] == b"www-authenticate"


def test_what_is_not_looked_at() -> None:
    key = "Bearer x"
    admit(request(authorization=key), plain_http=False)
    admit(request(authorization=key, secure=False), plain_http=True)
    admit(request("OPTIONS", secure=False), plain_http=False)
    for refused, status in (
        (request(authorization=key, secure=False), 403),
        (request(), 401),
        (request("POST", authorization=key, content_encoding="gzip"), 415),
    ):
        with pytest.raises(Refusal) as caught:
            admit(refused, plain_http=False)
        assert caught.value.status == status


def test_errors_of_the_daemon() -> None:
    for code, data, status in (
        (PERMISSION_DENIED, {"field": "key"}, 401),
        (INVALID_ARGUMENT, {"state": "running"}, 409),
    ):
        found = refusal(RequestError(code, "why", data))
        assert isinstance(found, Refusal)
        assert (found.status, found.message) == (status, "why")
    for error in (RequestError(PERMISSION_DENIED, ""), RequestError(BUSY, "")):
        assert refusal(error) is error


def test_the_shape_of_an_error() -> None:
    assert json.loads(error_body(Refusal(400, 'no "such"'))) == {"errorMessage": 'no "such"'}


# -- queries -------------------------------------------------------------------------------------


def test_queries() -> None:
    assert query(request(query_string=b"a=1&b=&a=%C3%A4")) == {"a": "ä", "b": ""}
    for wrong in (b"a=%ff", b"&".join([b"a=1"] * 33)):
        with pytest.raises(Refusal):
            query(request(query_string=wrong))


def test_flags() -> None:
    given_ = {"a": "true", "b": "FALSE", "c": "", "d": "0"}
    found = [flag(given_, name, default=True) for name in ("a", "b", "c", "d", "e")]
    assert found == [True, False, True, False, True]
    with pytest.raises(Refusal):
        flag({"a": "perhaps"}, "a", default=True)


@pytest.mark.parametrize(
    ("parameters", "limits"),
    [
        ({}, {}),
        ({"max_memory": "10"}, {"max_memory_bytes": 10 * 1024**2}),
        ({"max_memory": "1.5"}, {"max_memory_bytes": 3 * 1024**2 // 2}),
        ({"max_memory": "64KiB"}, {"max_memory_bytes": 65536}),
        ({"max_memory": "2G"}, {"max_memory_bytes": 2 * 1024**3}),
        ({"max_memory": "4096B"}, {"max_memory_bytes": 4096}),
        ({"max_time": "10"}, {"max_time_ns": 10**10}),
        ({"max_time": "0.1"}, {"max_time_ns": 10**8}),
        ({"max_time": "500 ms"}, {"max_time_ns": 5 * 10**8}),
        ({"max_time": "2min"}, {"max_time_ns": 120 * 10**9}),
        ({"max_executions": "2"}, {"max_executions": 2}),
        ({"max_parallel_jobs": "3"}, {"max_executions": 3}),
        ({"max_parallel_jobs": "3", "max_executions": "3"}, {"max_executions": 3}),
        ({"max_memory": "", "max_time": "", "max_executions": ""}, {}),
    ],
)
def test_limits_of_keys(parameters: dict[str, str], limits: dict[str, int]) -> None:
    assert _limits(parameters) == limits


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_memory": "0"}, {"max_memory": "-1"}, {"max_memory": "ten"}, {"max_memory": "1e9"},
        {"max_memory": "9" * 15 + "G"}, {"max_memory": "1 T"}, {"max_memory": "0.0000001"},
        {"max_time": "0"}, {"max_time": "1d"}, {"max_time": "9" * 15}, {"max_time": "1" * 99},
        {"max_executions": "0"}, {"max_executions": "2.5"}, {"max_executions": "9" * 10},
        {"max_executions": "1", "max_parallel_jobs": "2"}, {"max_executions": "٣"},
    ],
)  # fmt: skip
def test_limits_that_are_none(parameters: dict[str, str]) -> None:
    with pytest.raises(Refusal) as caught:
        _limits(parameters)
    assert caught.value.status == 400


def test_names_of_keys_are_a_functions_own() -> None:
    one, other = {"space": "joe", "name": "tsp"}, {"space": "joe", "name": "knapsack"}
    assert _native(one, "david") != _native(other, "david")
    assert _shown(one, _native(one, "david")) == "david"
    assert _shown(other, _native(one, "david")) == _native(one, "david")
    assert _shown(one, "made-by-hand") == "made-by-hand"


# -- the log, piece by piece ---------------------------------------------------------------------


@given(st.text(), st.lists(st.integers(0, 200)))
def test_pieces_of_a_log_are_whole_and_add_up(text: str, cuts: list[int]) -> None:
    data = text.encode()
    positions = Positions()
    got = ""
    for end in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        position = positions.of("id", "key")
        part = position.take(data[position.offset : end], ended=False)
        positions.keep("id", "key", position)
        got += part.decode()  # Strictly: no half of a character.
    assert got == text


@given(st.binary())
def test_bytes_that_are_no_text_get_through_in_the_end(data: bytes) -> None:
    assert len(data) - 3 <= whole_characters(data) <= len(data)
    position = Positions().of("id", "key")
    early = position.take(data, ended=False)
    assert early + position.take(data[position.offset :], ended=True) == data


def test_positions_are_of_one_execution_and_key_and_bounded() -> None:
    positions = Positions(most=2)
    for name in (("a", "k"), ("a", "l"), ("b", "k")):
        assert positions.of(*name).offset == 0
        position = positions.of(*name)
        position.offset = 7
        positions.keep(*name, position)
    assert positions.of("a", "k").offset == 0  # Not asked for the longest.
    assert positions.of("b", "k").offset == 7
    positions.of("nobody's", "k")
    assert positions.of("a", "l").offset == 7  # What the daemon does not know takes no place.


# -- answers -------------------------------------------------------------------------------------

INFO: dict[str, Any] = {
    "id": "1", "space": "joe", "function": "tsp", "revision": 1, "status": "pending",
    "created_ns": 1_700_000_000_123_456_789, "end_reason": None, "submitted_ns": None,
    "started_ns": None, "ended_ns": None, "exit_code": None, "message": "", "inputs": [],
    "outputs": [], "log": b"a\xff",
}  # fmt: skip


def test_an_execution_that_waits_for_its_turn_is_running() -> None:
    made = models.execution(INFO)
    assert (made.status, made.start_date) == ("pending", None)
    assert made.init_date == "2023-11-14T22:13:20.123Z"
    made = models.execution(INFO | {"submitted_ns": 1_700_000_001_000_000_000})
    assert (made.status, made.start_date) == ("running", "2023-11-14T22:13:21.000Z")
    assert models.execution(INFO, log=True).log == "a\ufffd"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("result.json", "application/json"),
        ("a/b.csv", "text/csv; charset=utf-8"),
        ("log.txt", "text/plain; charset=utf-8"),
        ("page.html", "text/html; charset=utf-8"),
        ("picture.png", "image/png"),
        ("archive.tar.gz", "application/octet-stream"),
        ("no-extension", "application/octet-stream"),
        ("data.nosuch", "application/octet-stream"),
    ],
)
def test_types_of_outputs(path: str, kind: str) -> None:
    assert content_type(path) == kind.encode()


def test_one_key_gets_half_of_the_memory() -> None:
    places = Places(100)
    first = places.take("a", 30)
    places.take("a", 20)
    with pytest.raises(Refusal) as caught:
        places.take("a", 1)
    assert caught.value.status == 503
    places.take("b", 50)
    with pytest.raises(Refusal):
        places.take("c", 1)
    first()
    places.take("c", 30)
    with pytest.raises(Refusal):
        places.take("d", 1)


def test_a_file_that_is_larger_than_that_goes_alone() -> None:
    places = Places(100)
    alone = places.take("a", 1000)
    for key in ("a", "b"):
        with pytest.raises(Refusal):
            places.take(key, 1)
    alone()
    places.take("b", 60)
    places.take("a", 40)


# -- a daemon that is lost -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["execution.create", "execution.start", "execution.upload", "key.create"]
)
async def test_what_changes_something_is_not_done_twice(tmp_path: Path, method: str) -> None:
    seen = []

    def lost(peer: scripted.Peer) -> None:
        while True:
            msgid, asked, _ = peer.request()
            seen.append(asked)
            if asked == method:
                return  # Nobody knows whether it was done.
            peer.answer(msgid, {"max_limits": {}})

    daemon = scripted.Daemon(tmp_path / "s", (lost,))
    link = Link(daemon.path)
    try:
        with trio.fail_after(5), pytest.raises(Refusal) as caught:
            await ask(link, request(authorization="Bearer k"), method)
    finally:
        await link.aclose()
        daemon.close()
    assert (caught.value.status, seen.count(method)) == (503, 1)


async def test_what_changes_nothing_is_asked_for_again(tmp_path: Path) -> None:
    def lost(peer: scripted.Peer) -> None:
        peer.answer(peer.request()[0], {"max_limits": {}})
        peer.request()

    def there(peer: scripted.Peer) -> None:
        peer.answer(peer.request()[0], {"max_limits": {}})
        peer.answer(peer.request()[0], {"keys": []})

    daemon = scripted.Daemon(tmp_path / "s", (lost, there))
    link = Link(daemon.path)
    try:
        with trio.fail_after(5):
            answer = await ask(link, request(authorization="Bearer k"), "key.list")
    finally:
        await link.aclose()
        daemon.close()
    assert answer == {"keys": []}
