"""What is refused, in which order and with which words: those of Piston."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from compat.gateway import JSON, running

if TYPE_CHECKING:
    from compat.gateway import Answer, Gateway
    from support.daemon import Daemon

FILE = {"content": "echo hi"}
GOOD: dict[str, Any] = {"language": "bash", "version": "*", "files": [FILE]}


def post(gateway: Gateway, body: object) -> Answer:
    return gateway.send("POST", "/api/v2/execute", body)


def refusal(gateway: Gateway, **fields: Any) -> str:
    """The message of the 400 for a good request with these fields instead."""
    body = {key: value for key, value in {**GOOD, **fields}.items() if value is not ...}
    answer = post(gateway, body)
    assert answer.status == 400, answer
    return answer.message


@pytest.mark.parametrize("wrong", [..., None, "", 1, 0, True, [], {}, ["bash"]])
@pytest.mark.parametrize("name", ["language", "version"])
def test_language_and_version_are_strings(gateway: Gateway, name: str, wrong: object) -> None:
    assert refusal(gateway, **{name: wrong}) == f"{name} is required as a string"


@pytest.mark.parametrize("wrong", [..., None, "", "echo", 1, {}, {"content": ""}])
def test_files_is_an_array(gateway: Gateway, wrong: object) -> None:
    assert refusal(gateway, files=wrong) == "files is required as an array"


@pytest.mark.parametrize("wrong", [None, 1, "text", [], {}, {"content": None}, {"content": 1}])
def test_each_file_has_content(gateway: Gateway, wrong: object) -> None:
    message = refusal(gateway, files=[FILE, wrong])
    assert message == "files[1].content is required as a string"


def test_no_body_is_an_empty_one(gateway: Gateway) -> None:
    for body in ({}, []):
        answer = post(gateway, body)
        assert (answer.status, answer.message) == (400, "language is required as a string")
    answer = gateway.request("POST", "/api/v2/execute", b"", JSON)
    assert (answer.status, answer.message) == (400, "language is required as a string")


@pytest.mark.parametrize(
    ("language", "version"),
    [
        ("nosuch", "*"),
        ("bash", "99.x"),
        ("bash", "not a range"),
        ("bash", "9" * 1000),
        ("BASH", "*"),
    ],
)
def test_an_unknown_runtime(gateway: Gateway, language: str, version: str) -> None:
    message = refusal(gateway, language=language, version=version)
    assert message == f"{language}-{version} runtime is unknown"


@pytest.mark.parametrize("files", [[], [{"content": "ZWNobw==", "encoding": "base64"}]])
def test_one_file_is_text(gateway: Gateway, files: object) -> None:
    assert refusal(gateway, files=files) == "files must include at least one utf8 encoded file"


@pytest.mark.parametrize("stage", ["compile", "run"])
@pytest.mark.parametrize("constraint", ["memory_limit", "timeout", "cpu_time"])
@pytest.mark.parametrize("wrong", [True, "1000", "x", [], {}, [1000]])
def test_a_limit_is_a_number(gateway: Gateway, stage: str, constraint: str, wrong: object) -> None:
    name = f"{stage}_{constraint}"
    assert refusal(gateway, **{name: wrong}) == f"If specified, {name} must be a number"


@pytest.mark.parametrize(("stage", "most"), [("compile", 10_000), ("run", 3_000)])
@pytest.mark.parametrize("constraint", ["timeout", "cpu_time"])
def test_a_limit_is_not_above_the_configured_one(
    gateway: Gateway, stage: str, constraint: str, most: int
) -> None:
    name = f"{stage}_{constraint}"
    for wrong in (most + 1, most + 0.5, 1e300):
        message = refusal(gateway, **{name: wrong})
        assert message == f"{name} cannot exceed the configured limit of {most}"
    assert refusal(gateway, **{name: -1}) == f"{name} must be non-negative"
    assert post(gateway, {**GOOD, name: most}).status == 200


def test_minus_one_is_taken_only_where_nothing_is_configured(daemon: Daemon) -> None:
    limits = {"run_memory_limit": 100_000_000, "run_timeout": 0}
    with running(daemon.socket, piston=limits) as gateway:
        assert refusal(gateway, run_memory_limit=-1) == "run_memory_limit must be non-negative"
        message = refusal(gateway, run_memory_limit=100_000_001)
        assert message == "run_memory_limit cannot exceed the configured limit of 100000000"
        answer = post(gateway, {**GOOD, "compile_memory_limit": -1, "run_timeout": -1})
        assert answer.status == 200


def test_the_order_of_the_checks(gateway: Gateway) -> None:
    """Each line repairs what the line before complained about."""
    body: dict[str, Any] = {"stdin": 1, "args": "no", "run_cpu_time": "x", "run_timeout": -1}
    body |= {"compile_timeout": "x", "run_memory_limit": "x", "compile_memory_limit": "x"}
    steps: list[tuple[dict[str, Any], str]] = [
        ({}, "language is required as a string"),
        ({"language": "nosuch"}, "version is required as a string"),
        ({"version": "*"}, "files is required as an array"),
        ({"files": [FILE, {}]}, "files[1].content is required as a string"),
        ({"files": []}, "nosuch-* runtime is unknown"),
        ({"language": "bash"}, "files must include at least one utf8 encoded file"),
        ({"files": [FILE]}, "If specified, compile_memory_limit must be a number"),
        ({"compile_memory_limit": 0}, "If specified, run_memory_limit must be a number"),
        ({"run_memory_limit": None}, "If specified, compile_timeout must be a number"),
        (
            {"compile_timeout": 11_000},
            "compile_timeout cannot exceed the configured limit of 10000",
        ),
        ({"compile_timeout": False}, "run_timeout must be non-negative"),
        ({"run_timeout": ""}, "If specified, run_cpu_time must be a number"),
        ({"run_cpu_time": 1000}, "stdin must be a string"),
        ({"stdin": ""}, "args must be an array of strings"),
    ]
    for repair, message in steps:
        body |= repair
        answer = post(gateway, body)
        assert (answer.status, answer.message) == (400, message)
    assert post(gateway, body | {"args": []}).status == 200


@pytest.mark.parametrize("wrong", [None, 1, 0, True, ["a"], {}])
def test_stdin_is_a_string(gateway: Gateway, wrong: object) -> None:
    assert refusal(gateway, stdin=wrong) == "stdin must be a string"


@pytest.mark.parametrize("wrong", [None, "abc", 1, {}, [1], ["a", None], [["a"]]])
def test_args_are_strings(gateway: Gateway, wrong: object) -> None:
    assert refusal(gateway, args=wrong) == "args must be an array of strings"


@pytest.mark.parametrize("wrong", [1, True, ["a"], {}])
def test_a_name_is_a_string(gateway: Gateway, wrong: object) -> None:
    assert refusal(gateway, files=[{**FILE, "name": wrong}]) == "files[0].name must be a string"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/../x", ".."])
def test_a_name_cannot_climb_out(gateway: Gateway, name: str) -> None:
    relative = ".." if name == ".." else "../x"
    message = refusal(gateway, files=[{**FILE, "name": name}])
    assert message == f'File path "{name}" tries to escape parent directory: {relative}'


@pytest.mark.parametrize("name", [".", "/", "a/..", "a\0b", "x" * 300])
def test_a_name_is_one_of_a_file(gateway: Gateway, name: str) -> None:
    assert "name" in refusal(gateway, files=[{**FILE, "name": name}])


def test_what_no_program_can_be_given(gateway: Gateway) -> None:
    assert "args" in refusal(gateway, args=["a\0b"])
    both = [{**FILE, "name": "a"}, {**FILE, "name": "a/b"}]
    assert "both a file and a directory" in refusal(gateway, files=both)


@pytest.mark.parametrize(
    ("encoding", "content"), [("base64", "*"), ("base64", "A"), ("hex", "0g"), ("hex", "abc")]
)
def test_content_fits_its_encoding(gateway: Gateway, encoding: str, content: str) -> None:
    message = refusal(gateway, files=[FILE, {"content": content, "encoding": encoding}])
    assert message == f"files[1].content is not valid {encoding}"


@pytest.mark.parametrize(
    "body",
    [b"{", b"nonsense", b'"text"', b"1", b"null", b"\xff\xfe", b"[" * 50_000, b'{"a":1}x',
     b'{"language": "\\ud800"}', b'{"run_timeout": NaN}'],
)  # fmt: skip
def test_bad_json(gateway: Gateway, body: bytes) -> None:
    answer = gateway.request("POST", "/api/v2/execute", body, JSON)
    assert answer.status == 400
    assert answer.message
    assert isinstance(answer.json["stack"], str)


def test_a_body_that_is_too_large(gateway: Gateway) -> None:
    answer = post(gateway, {**GOOD, "stdin": "x" * 102_400})
    assert answer.status == 400
    assert "102400" in answer.message
    assert "stack" in answer.json


def test_a_larger_body_can_be_allowed(daemon: Daemon) -> None:
    with running(daemon.socket, max_body_bytes="1M") as gateway:
        got = gateway.run("bash", "wc -c", stdin="x" * 500_000)
        assert got["run"]["stdout"].strip() == "500001"


def test_content_types(gateway: Gateway) -> None:
    body = json.dumps(GOOD).encode()
    for kind in ("application/json", "application/json; charset=utf-8", "application/JSON"):
        answer = gateway.request("POST", "/api/v2/execute", body, {"content-type": kind})
        assert answer.status == 200, kind
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        for path in ("/api/v2/execute", "/api/v2/packages", "/api/v2/nothing"):
            answer = gateway.request(method, path, body, {"content-type": "text/json"})
            assert answer.status == 415, (method, path)
            assert answer.message == "requests must be of type application/json"


@pytest.mark.parametrize("path", ["/nothing", "/api/v2/nothing", "/api/v2", "/api/v1/execute"])
def test_unknown_paths(gateway: Gateway, path: str) -> None:
    for method in ("GET", "POST"):
        answer = gateway.request(method, path, b"{}" if method == "POST" else None, JSON)
        assert (answer.status, answer.json) == (404, {"message": "Not Found"})


def test_methods_a_path_does_not_have(gateway: Gateway) -> None:
    answer = gateway.get("/api/v2/execute")
    assert (answer.status, answer.message) == (405, "Method Not Allowed")
    assert answer.headers["allow"] == "POST"
    answer = gateway.send("DELETE", "/api/v2/runtimes", {})
    assert answer.status == 405
