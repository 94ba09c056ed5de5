"""FaaSpot's API: every call, in every form that its clients and its documentation have."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pytest

from compat.faaspot import ECHO, HELLO, Faaspot
from compat.gateway import Gateway, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandboxd_client import Client
    from support.daemon import Daemon

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MOMENT = r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:.]{15}Z"
CONTEXT = 'access_key_is = "XYZ"\nsecret_access_key = "123"\n'


@pytest.fixture
def faaspot(gateway: Gateway, client: Client) -> Iterator[Faaspot]:
    """With nothing there, and nothing left."""
    faaspot = Faaspot(gateway, client)
    yield faaspot
    faaspot.clean()
    faaspot.close()


# -- functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [str, quote], ids=["plain", "percent-encoded"])
@pytest.mark.parametrize("application", ["", "shop"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_create_get_run_update_delete(
    faaspot: Faaspot, application: str, slash: str, write: Any
) -> None:
    below = f"functions/{application}" if application else "functions"
    body = {"name": "echo.py", "code": write(ECHO), "context": write(CONTEXT)}
    id = faaspot.ok("PUT", f"{below}{slash}", body)
    assert re.fullmatch(UUID, id)
    made = faaspot.ok("GET", f"executions/{id}{slash}")
    assert (made["uuid"], made["status"], made["name"]) == (id, "Success", "tasks.create_function")

    shown = faaspot.ok("GET", f"{below}/echo.py{slash}")
    assert unquote(shown["code"]) == ECHO
    assert re.fullmatch(r"[A-Za-z0-9._~%-]+", shown["code"])
    assert shown["name"] == "echo.py"
    assert shown["context"] == ["access_key_is", "secret_access_key"]
    assert "XYZ" not in json.dumps(shown)
    # Only with a slash is an application that is named alone told from a function.
    entries = faaspot.ok("GET", f"{below}/" if application else f"{below}{slash}")
    assert [(entry["name"], entry["application"]) for entry in entries] == [
        ("echo.py", application or "main")
    ]
    assert entries[0]["runner_url"] == shown["runner_url"]
    assert shown["runner_url"] == f"{faaspot.gateway.url}/v1/{below}/echo.py/rpc/"

    values = {"access_key_is": "XYZ", "secret_access_key": "123"}
    run = f"sync/{below}/echo.py/rpc{slash}"
    assert faaspot.ok("GET", f"{run}?a=1&b=%C3%A9+c") == {
        "args": {"a": "1", "b": "é c"}, "context": values,
    }  # fmt: skip

    changed = faaspot.ok("PATCH", f"{below}/echo.py{slash}", {"code": write(HELLO)})
    assert changed["status"] == "Success"
    assert faaspot.ok("GET", f"executions/{changed['uuid']}")["name"] == "tasks.update_function"
    assert faaspot.ok("GET", f"{run}?name=user1") == "Hello user1"
    deleted = faaspot.ok("DELETE", f"{below}/echo.py{slash}")
    assert re.fullmatch(UUID, deleted["uuid"])
    faaspot.refused(404, "GET", f"{below}/echo.py{slash}")
    faaspot.refused(404, "GET", run)


def test_an_update_changes_what_it_names(faaspot: Faaspot) -> None:
    faaspot.create("echo.py", ECHO, CONTEXT)
    faaspot.ok("PATCH", "functions/echo.py", {"context": 'other = "1"'})
    assert faaspot.ok("GET", "sync/functions/echo.py/rpc")["context"] == {"other": "1"}
    faaspot.ok("PATCH", "functions/echo.py", {"name": "renamed.py"})
    assert faaspot.ok("GET", "sync/functions/renamed.py/rpc")["context"] == {"other": "1"}
    faaspot.refused(404, "GET", "functions/echo.py")
    faaspot.ok("PATCH", "functions/renamed.py", {"context": ""})
    assert faaspot.ok("GET", "sync/functions/renamed.py/rpc")["context"] == {}


def test_applications_and_functions_that_look_alike(faaspot: Faaspot) -> None:
    assert faaspot.ok("GET", "functions/shop/") == []
    faaspot.refused(404, "GET", "functions/shop")
    faaspot.refused(404, "GET", "functions/shop.py/")
    faaspot.create("one.py", HELLO, application="shop")
    faaspot.create("rpc", HELLO, application="shop")
    assert [f["name"] for f in faaspot.ok("GET", "functions/shop")] == ["one.py", "rpc"]
    assert faaspot.ok("GET", "functions/") == []
    faaspot.create("shop", HELLO)
    assert faaspot.ok("GET", "functions/shop")["name"] == "shop"
    assert faaspot.ok("GET", "sync/functions/shop/rpc?name=x") == "Hello x"
    assert faaspot.ok("GET", "sync/functions/shop/rpc/rpc?name=x") == "Hello x"
    faaspot.ok("DELETE", "functions/shop")
    assert faaspot.ok("GET", "sync/functions/shop/one.py/rpc/?name=y") == "Hello y"


def test_a_list_is_whole(faaspot: Faaspot) -> None:
    faaspot.at_once(
        [f"f{number:04}" for number in range(1050)],
        lambda client, name: client.create_function(name, "python", code=HELLO, check=False),
    )
    names = [function["name"] for function in faaspot.ok("GET", "functions/")]
    assert sorted(names) == [f"f{number:04}" for number in range(1050)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "body"),
        (b"[]", 400, "body"),
        (b"{", 400, "body"),
        (b"\xff", 400, "body"),
        (b'{"name": "a.py"}', 400, "code"),
        (b'{"code": "def main(args, context): pass"}', 400, "name"),
        (b'{"name": 1, "code": ""}', 400, "name"),
        (b'{"name": "a.py", "code": "%FF"}', 400, "UTF-8"),
        (b'{"name": "a.py", "code": "def main(args, context): pass", "context": "x y"}', 400, "1"),
        (b'{"name": "a b.py", "code": "def main(args, context): pass"}', 400, "name"),
        (b'{"name": "../a.py", "code": "def main(args, context): pass"}', 400, "name"),
        (b'{"name": "a.py", "code": "def main(args, context) pass"}', 400, "line 1"),
        (b'{"name": "a.py", "code": "def other(args, context): pass"}', 400, "main"),
        (b'{"name": "a.py", "code": "def main(): pass"}', 400, "main"),
        (b"[" * 100_000, 400, "body"),
    ],
)
def test_a_function_that_cannot_be_made(
    faaspot: Faaspot, body: bytes, status: int, words: str
) -> None:
    answer = faaspot.request("PUT", "functions/", body)
    assert answer.status == status, answer
    assert words in answer.message
    assert answer.json["error_code"] == "invalid_argument"
    assert faaspot.ok("GET", "functions/") == []


def test_a_name_that_is_taken(faaspot: Faaspot) -> None:
    faaspot.create("a.py", HELLO)
    body = {"name": "a.py", "code": ECHO}
    assert faaspot.refused(409, "PUT", "functions/", body)["error_code"] == "exists"
    faaspot.create("b.py", HELLO)
    assert faaspot.refused(409, "PATCH", "functions/b.py", {"name": "a.py"})


def test_what_is_not_there(faaspot: Faaspot) -> None:
    nobody = str(uuid.uuid4())
    for method, path in (
        ("GET", "functions/no.py"),
        ("DELETE", "functions/no.py"),
        ("GET", "functions/shop/no.py"),
        ("POST", "functions/no.py/rpc/"),
        ("GET", "functions/no.py/rpc/"),
        ("GET", "sync/functions/no.py/rpc/"),
        ("GET", f"executions/{nobody}"),
        ("DELETE", f"executions/{nobody}"),
        ("GET", "nothing"),
    ):
        assert faaspot.refused(404, method, path)["error_code"] == "not_found"
    faaspot.refused(404, "PATCH", "functions/no.py", {"name": "yes.py"})
    faaspot.refused(404, "POST", "functions/no.py/bulk_rpc/", [{}])
    assert faaspot.refused(405, "POST", "functions/", {})["error_code"] == "method_not_allowed"


# -- runs ----------------------------------------------------------------------------------------


def test_a_run_by_post(faaspot: Faaspot) -> None:
    faaspot.create("echo.py", ECHO)
    id = faaspot.ok("POST", "functions/echo.py/rpc/", {"a": [1, 2.5, None], "é": {"b": True}})
    assert re.fullmatch(UUID, id)
    execution = faaspot.ended(id)
    assert execution == {
        "uuid": id,
        "name": "echo.py",
        "status": "Success",
        "output": {"args": {"a": [1, 2.5, None], "é": {"b": True}}, "context": {}},
        "created": execution["created"],
    }
    assert re.fullmatch(MOMENT, execution["created"])


def test_a_run_without_arguments(faaspot: Faaspot) -> None:
    faaspot.create("echo.py", ECHO)
    for id in (
        faaspot.ok("POST", "functions/echo.py/rpc/"),
        faaspot.ok("POST", "functions/echo.py/rpc/", None),
        faaspot.ok("GET", "functions/echo.py/rpc/"),
    ):
        assert faaspot.ended(id)["output"] == {"args": {}, "context": {}}
    assert faaspot.ok("POST", "sync/functions/echo.py/rpc/") == {"args": {}, "context": {}}


def test_arguments_in_a_query_are_texts(faaspot: Faaspot) -> None:
    faaspot.create("echo.py", ECHO)
    query = "n=1&t=True&empty=&twice=a&twice=b&%26=%3D"
    args = {"n": "1", "t": "True", "empty": "", "twice": "b", "&": "="}
    assert faaspot.ok("GET", f"sync/functions/echo.py/rpc/?{query}")["args"] == args
    id = faaspot.ok("GET", f"functions/echo.py/rpc/?{query}")
    assert faaspot.ended(id)["output"]["args"] == args


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None),
        ("''", ""),
        ("0", 0),
        ("2**80", 2**80),
        ("1.5", 1.5),
        ("[True, {'a': []}]", [True, {"a": []}]),
        ("'é\\u2028\\x00\"'", 'é\u2028\x00"'),
        ("(1, 2)", [1, 2]),
    ],
)
def test_values(faaspot: Faaspot, text: str, value: object) -> None:
    faaspot.create("value.py", f"def main(args, context):\n    return {text}\n")
    assert faaspot.ok("GET", "sync/functions/value.py/rpc/") == value
    id = faaspot.ok("POST", "functions/value.py/rpc/")
    execution = faaspot.ended(id)
    assert (execution["status"], execution["output"]) == ("Success", value)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("return args['name']", "exception", "KeyError"),
        ("raise ValueError('no é')", "exception", "ValueError: no é"),
        ("return {1, 2}", "not_json", "JSON"),
        ("return float('nan')", "not_json", "JSON"),
        ("import sys; sys.exit(3)", "exception", "3"),
        ("import os; os._exit(3)", "no_result", ""),
        ("import os; os.kill(os.getpid(), 9)", "", ""),
    ],
)
def test_a_function_that_fails(faaspot: Faaspot, line: str, code: str, words: str) -> None:
    faaspot.create("fails.py", f"def main(args, context):\n    {line}\n")
    error = faaspot.refused(422, "GET", "sync/functions/fails.py/rpc/")
    assert words in error["message"]
    if code:
        assert error["error_code"] == code
    if code == "exception":
        assert line in error["server_traceback"]
    id = faaspot.ok("POST", "functions/fails.py/rpc/")
    execution = faaspot.ended(id)
    assert execution["status"] == "Failure"
    assert words in execution["output"]


def test_a_function_that_takes_too_long(faaspot: Faaspot, client: Client) -> None:
    code = "def main(args, context):\n    while True: pass\n"
    client.create_function(
        "slow.py", "python", code=code,
        limits={"wall_time_ns": 300_000_000, "cpu_time_ns": 200_000_000},
    )  # fmt: skip
    error = faaspot.refused(422, "GET", "sync/functions/slow.py/rpc/")
    assert error["error_code"] == "timeout"
    assert faaspot.ended(faaspot.ok("POST", "functions/slow.py/rpc/"))["status"] == "Failure"


def test_a_function_has_a_minute(faaspot: Faaspot, client: Client) -> None:
    faaspot.create("echo.py", ECHO)
    limits = client.function("echo.py")["limits"]
    assert limits["wall_time_ns"] == limits["cpu_time_ns"] == 60_000_000_000


def test_a_bulk_run(faaspot: Faaspot) -> None:
    faaspot.create("echo.py", ECHO)
    calls = [{"k1": "v1", "k2": "v2"}, {"k3": "v3", "k4": [4]}, {}, None]
    ids = faaspot.ok("POST", "functions/echo.py/bulk_rpc/", calls)
    assert len(set(ids)) == 4
    for id in ids:
        faaspot.ended(id)
    for path in ("executions/bulk", "executions/bulk/"):
        found = faaspot.ok("POST", path, [*reversed(ids), str(uuid.uuid4())])
        assert [execution["uuid"] for execution in found] == list(reversed(ids))
        outputs = [execution["output"]["args"] for execution in reversed(found)]
        assert outputs == [*calls[:3], {}]
    assert faaspot.ok("POST", "executions/bulk", []) == []


def test_a_bulk_run_of_a_thousand(faaspot: Faaspot) -> None:
    faaspot.create("add.py", "def main(args, context):\n    return args['n'] + 1\n")
    ids = faaspot.ok("POST", "functions/add.py/bulk_rpc/", [{"n": n} for n in range(1000)])
    for id in ids[-3:]:
        faaspot.client.wait_execution(id)
    found = faaspot.ok("POST", "executions/bulk", ids)
    ended = {execution["uuid"]: execution["output"] for execution in found}
    assert len(ended) == 1000
    assert [faaspot.ended(id)["output"] for id in ids[:3]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("functions/echo.py/rpc/", b"[1]"),
        ("functions/echo.py/rpc/", b'"text"'),
        ("functions/echo.py/rpc/", b"{"),
        ("functions/echo.py/rpc/", b'{"a": NaN}'),
        ("functions/echo.py/rpc/", b'{"a": "\xff"}'),
        ("sync/functions/echo.py/rpc/", b"[1]"),
        ("sync/functions/echo.py/rpc/", b'{"a":' * 50_000),
        ("functions/echo.py/bulk_rpc/", b""),
        ("functions/echo.py/bulk_rpc/", b"{}"),
        ("functions/echo.py/bulk_rpc/", b"[]"),
        ("functions/echo.py/bulk_rpc/", b"[1]"),
        ("functions/echo.py/bulk_rpc/", b"[{}, []]"),
        ("functions/echo.py/bulk_rpc/", b"[" + b"{}," * 10_000 + b"{}]"),
        ("executions/bulk", b'"id"'),
        ("executions/bulk", b"[1]"),
        ("executions/bulk", b"[" + b'"a",' * 10_000 + b'"a"]'),
    ],
)
def test_arguments_that_are_none(faaspot: Faaspot, path: str, body: bytes) -> None:
    faaspot.create("echo.py", ECHO)
    answer = faaspot.request("POST", path, body)
    assert answer.status == 400, answer
    assert answer.json["error_code"] == "invalid_argument"
    assert faaspot.ok("GET", "executions/?include_completed=True") == []


def test_a_query_that_is_none(faaspot: Faaspot) -> None:
    faaspot.create("echo.py", ECHO)
    faaspot.refused(400, "GET", "sync/functions/echo.py/rpc/?a=%FF")
    faaspot.refused(400, "GET", "functions/echo.py/rpc/?" + "a=1&" * 1001)
    faaspot.refused(400, "GET", "executions/?" + "a=1&" * 1001)


def test_a_browser_s_question_has_no_key(daemon: Daemon) -> None:
    page = "https://play.example"
    asks = {
        "access-control-request-method": "PUT",
        "access-control-request-headers": "authorization",
    }
    with running(daemon.socket, allowed_origins=[page]) as gateway:
        answer = gateway.request("OPTIONS", "/v1/functions/", headers={"origin": page, **asks})
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == page
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert gateway.get("/v1/functions/", {"origin": page}).status == 401
        other = gateway.request("OPTIONS", "/v1/functions/", headers={"origin": "http://e", **asks})
        assert "access-control-allow-origin" not in other.headers


def test_what_is_too_large(faaspot: Faaspot) -> None:
    faaspot.create("size.py", "def main(args, context):\n    return len(args['a'])\n")
    large = {"a": "x" * 1_000_000}
    assert faaspot.ok("POST", "sync/functions/size.py/rpc/", large) == 1_000_000
    huge = {"a": "x" * 100_000_000}
    for path in ("functions/size.py/rpc/", "sync/functions/size.py/rpc/"):
        error = faaspot.refused(400, "POST", path, huge)
        assert "too large" in error["message"]


# -- executions ----------------------------------------------------------------------------------


def test_executions_that_run_are_listed_and_cancelled(faaspot: Faaspot) -> None:
    faaspot.create("sleep.py", "import time\ndef main(args, context):\n    time.sleep(30)\n")
    faaspot.create("echo.py", ECHO)
    done = faaspot.ok("POST", "functions/echo.py/rpc/")
    faaspot.ended(done)
    id = faaspot.ok("POST", "functions/sleep.py/rpc/")
    (listed,) = faaspot.ok("GET", "executions/?include_completed=True&deployment=echo.py")
    assert listed == faaspot.ok("GET", f"executions/{done}")
    assert listed["output"] == {"args": {}, "context": {}}
    (listed,) = faaspot.ok("GET", "executions/")
    assert listed["uuid"] == id
    assert listed["status"] in ("Pending", "Started")
    assert listed["output"] is None
    for query, ids in {
        "include_completed=False": [id],
        "include_completed=True": [id, done],
        "include_completed=true&deployment=echo.py": [done],
        "include_completed=true&deployment=main%2Fecho.py": [done],
        "include_completed=true&deployment=shop%2Fecho.py": [],
        "deployment=echo.py": [],
    }.items():
        found = [execution["uuid"] for execution in faaspot.ok("GET", f"executions/?{query}")]
        assert found == ids, query
    assert faaspot.ok("DELETE", f"executions/{id}")["uuid"] == id
    assert faaspot.ended(id)["status"] == "Cancelled"
    assert faaspot.ok("DELETE", f"executions/{id}/")["status"] == "Cancelled"
    assert faaspot.ok("DELETE", f"executions/{done}")["status"] == "Success"
    assert faaspot.ok("GET", "executions/") == []


def test_a_function_that_is_deleted_while_it_runs(faaspot: Faaspot) -> None:
    code = "import time\ndef main(args, context):\n    time.sleep(0.5)\n    return 1\n"
    faaspot.create("sleep.py", code)
    id = faaspot.ok("POST", "functions/sleep.py/rpc/")
    faaspot.client.call("execution.get", {"id": id})
    while faaspot.ok("GET", f"executions/{id}")["status"] == "Pending":
        pass
    faaspot.ok("DELETE", "functions/sleep.py")
    assert faaspot.ended(id)["output"] == 1


def test_what_is_returned_at_once_is_bounded(faaspot: Faaspot) -> None:
    faaspot.create("large.py", "def main(args, context):\n    return 'x' * 1_000_000\n")
    ids = faaspot.ok("POST", "functions/large.py/bulk_rpc/", [{}] * 68)
    for id in ids:
        faaspot.client.wait_execution(id)
    assert len(faaspot.ok("POST", "executions/bulk", ids[:60])) == 60
    error = faaspot.refused(400, "POST", "executions/bulk", ids)
    assert "ask for fewer" in error["message"]
    listed = faaspot.ok("GET", "executions/?include_completed=True")
    assert len(listed) == 68
    assert 14 <= sum(execution["output"] is not None for execution in listed) <= 17


# -- nodes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["spots", "nodes/shop"])
def test_there_is_one_node(faaspot: Faaspot, base: str) -> None:
    (node,) = faaspot.ok("GET", f"{base}/")
    assert node["ip"] == "127.0.0.1"
    assert re.fullmatch(MOMENT, node["created"])
    assert faaspot.ok("GET", f"{base}/127.0.0.1")["ip"] == node["ip"]
    faaspot.refused(404, "GET", f"{base}/10.0.0.1")
    for method, path, *body in (
        ("PUT", f"{base}/", {"availability_zone": "x"}),
        ("PUT", f"{base}/"),
        ("PATCH", f"{base}/", {"min_workers": 1, "max_workers": 2}),
        ("PATCH", f"{base}/", {"refresh_ip": "all"}),
        ("DELETE", f"{base}/127.0.0.1"),
        ("DELETE", f"{base}/"),
        ("GET", f"{base}/replace/127.0.0.1"),
    ):
        error = faaspot.refused(403, str(method), str(path), *body)
        assert "this host" in error["message"]


# -- keys ----------------------------------------------------------------------------------------


def test_a_key_in_every_form(faaspot: Faaspot) -> None:
    key = faaspot.key
    pair = base64.b64encode(f"user:{key}".encode()).decode()
    for value in (f"Token {key}", f"Bearer {key}", f"Basic {pair}", f"Basic b'{pair}'"):
        assert faaspot.request("GET", "functions/", Authorization=value).json == []


@pytest.mark.parametrize(
    "path", ["functions/", "functions/a.py", "executions/", "spots/", "sync/functions/a.py/rpc/"]
)
def test_a_request_without_a_key(faaspot: Faaspot, path: str) -> None:
    faaspot.create("a.py", HELLO)
    answer = faaspot.gateway.get(f"/v1/{path}")
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Token"
    assert answer.json["error_code"] == "not_authenticated"
    wrong = faaspot.gateway.get(f"/v1/{path}", {"authorization": f"Token {faaspot.key[:-1]}!"})
    assert (wrong.status, wrong.json["error_code"]) == (401, "authentication_failed")
    assert faaspot.key[:-1] not in wrong.message


def test_a_run_key_runs_its_function_and_nothing_else(
    faaspot: Faaspot, gateway: Gateway, client: Client
) -> None:
    faaspot.create("mine.py", HELLO, CONTEXT)
    faaspot.create("other.py", HELLO)
    limited = Faaspot(gateway, client, "run", space="main", function="mine.py")
    try:
        assert limited.ok("GET", "sync/functions/mine.py/rpc/?name=x") == "Hello x"
        id = limited.ok("POST", "functions/mine.py/rpc/", {"name": "y"})
        assert limited.ended(id)["output"] == "Hello y"
        limited.refused(404, "GET", "sync/functions/other.py/rpc/?name=x")
        shown = limited.request("GET", "functions/mine.py")
        assert quote("format") not in shown.body.decode()
        assert "XYZ" not in shown.body.decode()
        for method, path in (("DELETE", "functions/mine.py"), ("DELETE", "functions/other.py")):
            assert limited.request(method, path).status in (403, 404)
        other = faaspot.ok("POST", "functions/mine.py/rpc/", {"name": "z"})
        limited.refused(404, "GET", f"executions/{other}")
        made = faaspot.create("third.py", HELLO)
        limited.refused(404, "GET", f"executions/{made}")
    finally:
        limited.close()
    limited.refused(401, "GET", "sync/functions/mine.py/rpc/?name=x")


def test_a_web_page_can_run_nothing(faaspot: Faaspot) -> None:
    faaspot.create("a.py", HELLO)
    headers = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    answer = faaspot.gateway.get("/v1/functions/a.py/rpc/?name=x", headers)
    assert answer.status == 401
    assert faaspot.ok("GET", "executions/?include_completed=True") == []


# -- the gateway ---------------------------------------------------------------------------------


def test_secrets_are_not_logged(faaspot: Faaspot) -> None:
    faaspot.create("a.py", ECHO, 'hidden = "hunter2"')
    faaspot.ok("GET", "sync/functions/a.py/rpc/?password=hunter3")
    faaspot.request("PUT", "functions/", b'{"name": "b.py", "code": "a b", "context": "hunter4 x"}')
    log = faaspot.gateway.log_text()
    assert "/v1/sync/functions/a.py/rpc" in log
    for secret in ("hunter", faaspot.key):
        assert secret not in log


def test_schemathesis_finds_no_difference(faaspot: Faaspot, tmp_path: Path) -> None:
    """Generated requests with a key, right and wrong ones, against the description."""
    argv = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{faaspot.gateway.url}/openapi.json"),
        *("--max-examples", "15", "--max-time", "30", "--phases", "examples,coverage,fuzzing"),
        *("--include-path-regex", "^/v1/", "-H", f"Authorization: Token {faaspot.key}"),
        # Schemas cannot say what code is right; a method that is not known is answered with 405,
        # and where a name is asked for anything is one.
        *("--exclude-checks", "positive_data_acceptance,unsupported_method"),
        *("--generation-database", "none", "--seed", "1", "--no-color"),
    ]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_it_can_be_turned_off(daemon: Daemon) -> None:
    with running(daemon.socket, faaspot={"enabled": False}) as gateway:
        assert gateway.get("/v1/functions/").status == 404
        assert "/v1/functions" not in gateway.get("/openapi.json").json["paths"]


def test_no_daemon(daemon: Daemon) -> None:
    with running("/nonexistent/socket") as gateway:
        answer = gateway.get("/v1/functions/", {"authorization": "Token x"})
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json["detail"] == answer.message


def test_who_has_no_key_sends_nothing_large(faaspot: Faaspot) -> None:
    """The answer comes although the body never does."""
    for key, status in ((b"x" * 43, b" 401 "), (faaspot.key.encode(), b" 408 ")):
        with socket.create_connection(("127.0.0.1", faaspot.gateway.port), 30) as connection:
            connection.sendall(
                b"PUT /v1/functions/ HTTP/1.1\r\nhost: localhost\r\nauthorization: Token " + key
                + b"\r\ncontent-length: 10000000\r\n\r\n{"
            )  # fmt: skip
            assert status in connection.recv(4096)


def test_more_large_requests_than_there_are_places(daemon: Daemon, client: Client) -> None:
    settings = {"max_transfers": 2}
    with running(daemon.socket, faaspot=settings) as gateway:
        faaspot = Faaspot(gateway, client)
        try:
            faaspot.create("size.py", "def main(args, context):\n    return len(args['a'])\n")
            large = {"a": "x" * 1_000_000}
            run = "sync/functions/size.py/rpc/"
            with ThreadPoolExecutor(8) as threads:
                found = threads.map(lambda _: faaspot.ok("POST", run, large), range(16))
                assert list(found) == [1_000_000] * 16
                path = "executions/?include_completed=True"
                assert list(threads.map(lambda _: faaspot.ok("GET", path), range(16))) == [[]] * 16
        finally:
            faaspot.clean()
            faaspot.close()
