"""What a job may ask for, and the sentence that answers what it may not."""

import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.protocol import jobs, rpc
from sandboxd.protocol.errors import INVALID_ARGUMENT, RequestError
from sandboxd.protocol.jobs import JobSpec, job_spec
from sandboxd.protocol.models import (
    BatchParams,
    FdIndices,
    JobParams,
    Limits,
    StageParams,
    WindowSize,
)


def spec(*, started: bool = False, **fields: object) -> JobSpec:
    """The spec for a job as a client would send it."""
    job = {"argv": ["true"], **fields}
    request = rpc.decode_request(msgpack.packb([0, 1, "job.run", [job]]))
    params = rpc.decode_params(request.method, request.params)
    assert isinstance(params, JobParams)
    return job_spec(params, started=started)


def refused(*, started: bool = False, **fields: Any) -> str:
    with pytest.raises(RequestError) as caught:
        spec(started=started, **fields)
    assert caught.value.code == INVALID_ARGUMENT
    assert caught.value.message.startswith(f"{caught.value.data['field']}: ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value.message


def test_the_least_job() -> None:
    least = spec()
    assert least.run.argv == (b"true",)
    assert least.run.env is None
    assert least == JobSpec(run=jobs.Stage((b"true",), None, b"", b"", None))


def test_every_field() -> None:
    full = spec(
        argv=["cat", b"\xff", "é"],
        env={"A": "1", "B": b"\xfe"},
        cwd="sub",
        stdin="in",
        files={"d/a": b"1", "b": "2", "c": {"data": b"3", "mode": 0o755}},
        collect=["*.out", "**/x"],
        collect_bytes=10,
        limits={"memory_bytes": 5, "processes": 0, "open_files": None},
        network="loopback",
        mode="fresh",
        mounts=["jdk"],
        output=True,
        compile={"argv": ["cc"], "env": {}, "cwd": "/", "stdin": b"x", "limits": {}},
    )
    assert full.run == jobs.Stage(
        argv=(b"cat", b"\xff", "é".encode()),
        env=(b"A=1", b"B=\xfe"),
        cwd=b"sub",
        stdin=b"in",
        limits=Limits(memory_bytes=5, processes=0),
    )
    assert full.compile == jobs.Stage((b"cc",), (), b"/", b"x", Limits())
    assert full.files == (
        jobs.InputFile(b"d/a", 0o644, b"1"),
        jobs.InputFile(b"b", 0o644, b"2"),
        jobs.InputFile(b"c", 0o755, b"3"),
    )
    assert (full.collect, full.collect_bytes) == ((b"*.out", b"**/x"), 10)
    assert (full.loopback, full.mode, full.mounts, full.output) == (True, "fresh", ("jdk",), True)


@pytest.mark.parametrize("name", sorted(JobParams.__struct_fields__))
def test_nil_is_the_same_as_absent(name: str) -> None:
    if name == "argv":
        assert refused(argv=None) == "argv: must be a list, not nil"
    else:
        absent: dict[str, Any] = {name: None}
        assert spec(**absent) == spec()


def test_streaming_fields_belong_to_start() -> None:
    full = spec(started=True, stream=True, stdin_stream=True, tty={"rows": 50, "columns": 132})
    assert (full.stream, full.stdin_stream, full.tty) == (True, True, WindowSize(50, 132))
    assert spec(started=True, stream=True, tty=True).tty == WindowSize(24, 80)
    assert spec(started=True, stream=True, tty=False).tty is None
    for name in ("stream", "stdin_stream", "tty"):
        assert refused(**{name: True}) == f"{name}: is for job.start only"


def test_descriptors() -> None:
    assert spec(fds={"stdin": 0, "stderr": 1}).fds == FdIndices(stdin=0, stderr=1)
    assert "at most 252" in refused(fds={"stdin": 253})
    assert "not -1" in refused(fds={"stdin": -1})


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "tty without stream": ({"tty": True}, "tty: needs stream"),
    "output and stream": ({"output": True, "stream": True}, "output: cannot go with stream"),
    "stdin twice": ({"stdin": "x", "stdin_stream": True}, "stdin: cannot go with stdin_stream"),
    "tty and fds": ({"tty": True, "stream": True, "fds": {}}, "fds: cannot go with tty"),
    "stdin and fd": ({"stdin": b"x", "fds": {"stdin": 0}}, "fds.stdin: cannot go with stdin"),
    "output and fd": ({"output": True, "fds": {"stdout": 0}}, "output: cannot go with fds"),
}


@pytest.mark.parametrize(("fields", "why"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_contradictions(fields: dict[str, Any], why: str) -> None:
    assert refused(started=True, **fields).startswith(why)


LIMITS = {
    "negative": (-1, "must be a whole number of bytes, not -1"),
    "fraction": (0.5, "must be a whole number of bytes, not 0.5"),
    "whole float": (1e9, "must be a whole number of bytes, not 1000000000.0"),
    "NaN": (math.nan, "must be a whole number of bytes, not nan"),
    "infinity": (math.inf, "must be a whole number of bytes, not inf"),
    "2^63": (2**63, "must be a whole number of bytes, at most 9223372036854775807"),
    "2^64-1": (2**64 - 1, "must be a whole number of bytes, at most 9223372036854775807"),
    "-2^63": (-(2**63), "must be a whole number of bytes, not -9223372036854775808"),
    "text": ("3000", "must be a whole number of bytes, not '3000'"),
    "empty text": ("", "must be a whole number of bytes, not ''"),
    "bytes": (b"3000", "must be a whole number of bytes, not b'3000'"),
    "true": (True, "must be a whole number of bytes, not true"),
    "false": (False, "must be a whole number of bytes, not false"),
    "list": ([1], "must be a whole number of bytes, not a list"),
    "map": ({}, "must be a whole number of bytes, not a map"),
    "ext": (msgpack.ExtType(1, b""), "must be a whole number of bytes, not an extension type"),
}


@pytest.mark.parametrize(("value", "why"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_are_whole_numbers(value: object, why: str) -> None:
    assert refused(limits={"memory_bytes": value}).startswith(f"limits.memory_bytes: {why}")
    message = refused(compile={"argv": ["cc"], "limits": {"memory_bytes": value}})
    assert message.startswith(f"compile.limits.memory_bytes: {why}")


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_every_limit_is_checked(name: str) -> None:
    assert f"limits.{name}: must be a whole number" in refused(limits={name: -1})
    largest = 2**31 - 1 if name in ("disk_inodes", "processes", "open_files") else 2**63 - 1
    assert getattr(spec(limits={name: largest}).run.limits, name) == largest
    assert f"at most {largest}" in refused(limits={name: largest + 1})


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"argc": 1}, "argc: there is no such field"),
    "unknown limit": ({"limits": {"memory": 1}}, "limits.memory: there is no such field"),
    "limits list": ({"limits": [1]}, "limits: must be a map, not a list"),
    "no argv": ({"argv": []}, "argv: must name a program first"),
    "empty program": ({"argv": ["", "x"]}, "argv: must name a program first"),
    "argv text": ({"argv": "ls"}, "argv: must be a list, not 'ls'"),
    "argv number": ({"argv": ["a", 1]}, "argv[1]: must be text or bytes, not 1"),
    "argv nested": ({"argv": [["a"]]}, "argv[0]: must be text or bytes, not a list"),
    "argv NUL": ({"argv": ["a", "b\0c"]}, "argv[1]: must not hold a NUL character"),
    "argv NUL bytes": ({"argv": [b"a\0"]}, "argv[0]: must not hold a NUL character"),
    "argv long": ({"argv": ["a", "x" * 131072]}, "argv[1]: must be at most 131071 bytes"),
    "argv longer": ({"argv": ["x" * 131071] * 17}, "argv: and env take 2228360 bytes"),
    "argv many": ({"argv": ["x"] * 250000}, "argv: and env take 2500000 bytes"),
    "env list": ({"env": ["A=1"]}, "env: must be a map, not a list"),
    "env number": ({"env": {"A": 1}}, "env['A']: must be text or bytes, not 1"),
    "env NUL": ({"env": {"A": "\0"}}, "env['A']: must not hold a NUL character"),
    "env NUL name": ({"env": {"A\0": ""}}, "env: 'A\\x00' cannot be the name of a variable"),
    "env equals": ({"env": {"A=B": ""}}, "env: 'A=B' cannot be the name of a variable"),
    "env no name": ({"env": {"": "x"}}, "env: '' cannot be the name of a variable"),
    "env key number": ({"env": {1: "x"}}, "env: every name in the map must be text"),
    "env long name": ({"env": {"x" * 1000: 1}}, "env['" + "x" * 39 + "…]: must be text"),
    "cwd NUL": ({"cwd": "a\0b"}, "cwd: must not hold a NUL character"),
    "cwd long": ({"cwd": "x" * 4096}, "cwd: must be shorter than 4096 bytes"),
    "cwd bytes": ({"cwd": b"x"}, "cwd: must be text, not b'x'"),
    "stdin number": ({"stdin": 5}, "stdin: must be text or bytes, not 5"),
    "stdin list": ({"stdin": [b"x"]}, "stdin: must be text or bytes, not a list"),
    "files list": ({"files": ["a"]}, "files: must be a map, not a list"),
    "file number": ({"files": {"a": 1}}, "files['a']: must be text, bytes or {data, mode}, not 1"),
    "file nil": (
        {"files": {"a": None}},
        "files['a']: must be text, bytes or {data, mode}, not nil",
    ),
    "file key": ({"files": {b"a": b""}}, "files: every name in the map must be text"),
    "file no data": ({"files": {"a": {"mode": 1}}}, "files['a']: must have data"),
    "file extra": ({"files": {"a": {"data": b"", "uid": 0}}}, "files['a']: must have data"),
    "file data": ({"files": {"a": {"data": 1}}}, "files['a'].data: must be text or bytes"),
    "file setuid": (
        {"files": {"a": {"data": b"", "mode": 0o4755}}},
        "files['a'].mode: must be permission bits, 0 to 0o777, not 2541",
    ),
    "file mode text": ({"files": {"a": {"data": b"", "mode": "7"}}}, "files['a'].mode: must be"),
    "file mode true": ({"files": {"a": {"data": b"", "mode": True}}}, "files['a'].mode: must be"),
    "file name": ({"files": {"../x": b""}}, "files['../x']: must not have '.', '..'"),
    "file and directory": ({"files": {"a/b": b"", "a": b""}}, "files['a']: is both a file and"),
    "collect text": ({"collect": "*"}, "collect: must be a list, not '*'"),
    "collect up": ({"collect": ["a", "../*"]}, "collect[1]: must not have '.', '..'"),
    "collect absolute": ({"collect": ["/etc/*"]}, "collect[0]: must be relative"),
    "collect many": ({"collect": ["x"] * 257}, "collect: must be at most 256 patterns, not 257"),
    "collect bytes": ({"collect_bytes": -5}, "collect_bytes: must be a whole number of bytes"),
    "network": ({"network": "host"}, "network: 'host' is not one of the words for it"),
    "mode": ({"mode": 1}, "mode: must be text, not 1"),
    "mounts": ({"mounts": ["a", "a"]}, "mounts: must be at most 32 names, each once"),
    "output": ({"output": 1}, "output: must be true or false, not 1"),
    "tty": ({"tty": 1}, "tty: must be true or false or a map, not 1"),
    "tty rows": ({"tty": {"rows": 0}}, "tty.rows: must be a whole number, at least 1, not 0"),
    "compile list": ({"compile": []}, "compile: must be a map, not a list"),
    "compile argv": ({"compile": {"argv": []}}, "compile.argv: must name a program first"),
    "compile no argv": ({"compile": {}}, "compile.argv: is required"),
    "compile files": ({"compile": {"argv": ["a"], "files": {}}}, "compile.files: there is no such"),
}


@pytest.mark.parametrize(("fields", "why"), WRONG.values(), ids=WRONG.keys())
def test_wrong_fields_are_named(fields: dict[str, Any], why: str) -> None:
    assert refused(**fields).startswith(why)


def test_text_that_is_not_utf8_is_answered() -> None:
    with pytest.raises(RequestError, match="not UTF-8"):
        rpc.decode_params(
            "job.run",
            rpc.decode_request(b"\x94\x00\x01\xa7job.run\x91\x81\xa4argv\x91\xa1\xff").params,
        )


def test_one_file_named_twice() -> None:
    params = rpc.decode_request(
        b"\x94\x00\x01\xa7job.run\x91\x82\xa4argv\x91\xa1a\xa5files\x82\xa1x\xa11\xa1x\xa12"
    ).params
    job = rpc.decode_params("job.run", params)
    assert isinstance(job, JobParams)
    with pytest.raises(RequestError, match=r"^files: names one file twice$"):
        job_spec(job)


@pytest.mark.parametrize("count", [15, 16, 10_000])
def test_many_files(count: int) -> None:
    assert len(spec(files={f"d/{n}": b"" for n in range(count)}).files) == count


def test_too_many_files() -> None:
    files = {str(n): b"" for n in range(10_001)}
    assert refused(files=files) == "files: must be at most 10000 files, not 10001"


@pytest.mark.parametrize("count", [0, 1, 1000, 1001])
def test_a_batch_is_bounded(count: int) -> None:
    request = rpc.decode_request(msgpack.packb([0, 1, "job.batch", [{"jobs": [{}] * count}]]))
    batch = rpc.decode_params(request.method, request.params)
    assert isinstance(batch, BatchParams)
    if count <= 1000:
        assert jobs.batch_size(batch.jobs) == count
    else:
        with pytest.raises(RequestError, match=r"^jobs: must be at most 1000 jobs, not 1001$"):
            jobs.batch_size(batch.jobs)


def test_a_job_of_a_batch_says_which() -> None:
    with pytest.raises(RequestError, match=r"^jobs\[3\]\.compile\.argv: must name"):
        job_spec(JobParams(argv=["a"], compile=StageParams(argv=[])), field="jobs[3]")


strings = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    st.lists(strings | strings.map(str.encode), min_size=1, max_size=5).filter(lambda a: a[0]),
    st.dictionaries(strings.filter(lambda s: s and "=" not in s), strings, max_size=5),
    st.binary(),
)
def test_what_execve_takes_comes_through(
    argv: list[str | bytes], env: dict[str, str], stdin: bytes
) -> None:
    stage = spec(argv=argv, env=env, stdin=stdin).run
    assert stage.argv == tuple(a if isinstance(a, bytes) else a.encode() for a in argv)
    assert stage.env == tuple(f"{name}={value}".encode() for name, value in env.items())
    assert stage.stdin == stdin
