"""From a request and a runtime to the job."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.config import Config
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.jobs import JobSpec
from sandboxd.protocol.models import Limits
from sandboxd.runtimes import plan
from sandboxd.runtimes.model import Rename
from sandboxd.runtimes.request import job_spec
from sandboxd.runtimes.runtime import Runtime, RuntimeStage, from_package
from sandboxd.runtimes.template import Template

CONFIG = Config()
MIB = 2**20


def stage(*command: str, env: dict[str, str] | None = None, **limits: int) -> RuntimeStage:
    return RuntimeStage(Template(command), env or {}, Limits(**limits))


PYTHON = Runtime(language="python", version="3.11.2", run=stage("python3", "{main}", "{args}"))
C = Runtime(
    language="c",
    version="12.2.0",
    compile=stage("gcc", "{sources}", env={"TMPDIR": "/tmp"}, memory_bytes=1024 * MIB),
    run=stage("./a.out", "{args}"),
    extensions=(".c",),
    rename=Rename(extension=".c"),
)
JAVA = Runtime(
    language="java",
    version="17.0.0",
    run=stage("java", "{main}", "{args}", processes=256),
    extensions=(".java",),
    rename=Rename(main="Main.java"),
)


def spec(runtime: Runtime, *, started: bool = False, **fields: Any) -> JobSpec:
    """The job of a request as a client sends it."""
    fields = {"language": runtime.language, "files": [{"data": "text"}]} | fields
    raw = msgspec.Raw(msgspec.msgpack.encode([fields]))
    params = rpc.decode_params("runtime.start" if started else "runtime.execute", raw)
    assert isinstance(params, rpc.runtimes.ExecuteParams)
    return job_spec(plan.make(runtime, CONFIG, None), params, started=started)  # type: ignore[arg-type] # no environments here


def refusal(runtime: Runtime, **fields: Any) -> str:
    with pytest.raises(RequestError) as caught:
        spec(runtime, **fields)
    assert caught.value.code == "invalid_argument"
    return str(caught.value)


def names(job: JobSpec) -> list[str]:
    return [file.path.decode() for file in job.files]


def test_a_plain_program() -> None:
    job = spec(PYTHON, args=["a", b"\xff"], stdin="in")
    assert job.run.argv == (b"python3", b"file0.code", b"a", b"\xff")
    assert job.run.stdin == b"in"
    assert job.run.env is None  # The configured one, with no copy made.
    assert job.run.limits is None
    assert job.compile is None
    assert [(file.path, file.mode, file.data) for file in job.files] == [
        (b"file0.code", 0o644, b"text")
    ]


def test_a_compiled_program() -> None:
    job = spec(C, files=[{"name": "x.c", "data": b"1"}, {"name": "y.c", "data": b"2"}], args=["z"])
    assert job.compile is not None
    assert job.compile.argv == (b"gcc", b"x.c", b"y.c")
    assert job.compile.stdin == b""
    assert job.run.argv == (b"./a.out", b"z")


@pytest.mark.parametrize(
    ("runtime", "given_", "stored", "sources"),
    [
        (C, [None], ["file0.c"], ["file0.c"]),
        (C, [None, None], ["file0.c", "file1.c"], ["file0.c", "file1.c"]),
        (C, ["main"], ["main.c"], ["main.c"]),
        (C, ["a/b.txt"], ["a/b.c"], ["a/b.c"]),
        (C, ["m.c", "m.h", "data.txt"], ["m.c", "m.h", "data.txt"], ["m.c"]),
        (C, ["m.c", None], ["m.c", "file1.c"], ["m.c", "file1.c"]),
        (C, ["m.C"], ["m.c"], ["m.c"]),
        (JAVA, [None], ["Main.java"], ["Main.java"]),
        (JAVA, ["src/x"], ["src/Main.java"], ["src/Main.java"]),
        (JAVA, ["Foo.java", "Bar.java"], ["Foo.java", "Bar.java"], ["Foo.java", "Bar.java"]),
        (JAVA, [None, None], ["Main.java", "file1.java"], ["Main.java", "file1.java"]),
        (PYTHON, ["x", "y.txt"], ["x", "y.txt"], ["x", "y.txt"]),
    ],
)
def test_names_of_sources(
    runtime: Runtime, given_: list[str | None], stored: list[str], sources: list[str]
) -> None:
    echo = Runtime(
        language=runtime.language,
        version=runtime.version,
        run=stage("echo", "{sources}"),
        extensions=runtime.extensions,
        rename=runtime.rename,
    )
    files = [{"data": "x"} if name is None else {"name": name, "data": "x"} for name in given_]
    job = spec(echo, files=files)
    assert names(job) == stored
    assert [part.decode() for part in job.run.argv[1:]] == sources


def test_files_that_are_no_sources() -> None:
    files = [
        {"name": "in.txt", "data": b"\0", "source": False},
        {"data": "x", "mode": 0o755},
        {"name": "lib.c", "data": "y"},
    ]
    job = spec(C, files=files)
    assert names(job) == ["in.txt", "file1.c", "lib.c"]
    assert job.compile is not None
    assert job.compile.argv == (b"gcc", b"file1.c", b"lib.c")
    assert job.files[1].mode == 0o755


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], "files: must have at least one source file"),
        ([{"data": "x", "source": False}], "files: must have at least one source file"),
        ([{"data": 3}], "files[0].data: must be text or bytes, not 3"),
        ([{"data": None}], "files[0].data: must be text or bytes, not nil"),
        ([{}], "files[0].data: is required"),
        ([None], "files[0]: must be a map"),
        ("x", "files: must be a list"),
        ([{"data": "x", "nome": "y"}], "files[0].nome: there is no such field"),
        ([{"data": "x", "name": ""}], "files[0].name: must not be empty"),
        ([{"data": "x", "name": "../x"}], "files[0].name: "),
        ([{"data": "x", "name": "/x"}], "files[0].name: "),
        ([{"data": "x", "name": "a"}, {"data": "y", "name": "a"}], "name of two files"),
        ([{"data": "x", "name": "file1.code"}, {"data": "y"}], "name of two files"),
        ([{"data": "x", "name": "a"}, {"data": "y", "name": "a/b"}], "both a file and a"),
        ([{"data": "x", "mode": 0o1000}], "files[0].mode"),
        ([{"data": "x", "mode": -1}], "files[0].mode"),
    ],
)
def test_files_that_are_refused(files: object, problem: str) -> None:
    assert problem in refusal(PYTHON, files=files)


def test_a_new_name_that_is_taken() -> None:
    files = [{"name": "a", "data": "1"}, {"name": "a.c", "data": "2"}]
    assert "'a.c' is the name of two files" in refusal(C, files=files)


def test_a_new_name_that_is_too_long() -> None:
    problem = refusal(C, files=[{"name": "d/" + "a" * 254, "data": "1"}])
    assert problem.startswith("files[0].name: each part must be at most 255 bytes")
    assert spec(C, files=[{"name": "a" * 253, "data": "1"}]).files[0].path == b"a" * 253 + b".c"


def test_the_last_of_many_names_that_comes_twice() -> None:
    files = [{"name": f"f{n}", "data": ""} for n in range(9_999)]
    begun = time.process_time()
    assert "'f9998' is the name of two files" in refusal(PYTHON, files=[*files, files[-1]])
    assert time.process_time() - begun < 0.5  # Everybody else waits meanwhile.


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"args": "x"}, "args: must be a list"),
        ({"args": [3]}, "args[0]: must be text or bytes, not 3"),
        ({"args": ["a\0"]}, "args[0]: must not hold a NUL"),
        ({"args": ["x" * 131_072]}, "args[0]: must be at most"),
        ({"args": ["x" * 131_000] * 17}, "args: and env take"),
        ({"env": {"A=B": "x"}}, "env: 'A=B'"),
        ({"env": {"A": 3}}, "env['A']"),
        ({"stdin": 3}, "stdin: must be text or bytes"),
        ({"language": ""}, "language"),
        ({"language": None}, "language"),
        ({"language": "x" * 65}, "language"),
        ({"version": "1" * 257}, "version"),
        ({"version": 3}, "version"),
        ({"run": {"limit": {}}}, "run.limit: there is no such field"),
        ({"run": {"limits": {"memory_bytes": -1}}}, "run.limits.memory_bytes"),
        ({"compile": {"limits": {"memory_bytes": "1G"}}}, "compile.limits.memory_bytes"),
        ({"stream": True}, "stream: is for job.start only"),
        ({"tty": True}, "tty: is for job.start only"),
        ({"collect": ["../x"]}, "collect[0]"),
        ({"client": "x" * 65}, "client"),
        ({"network": "internet"}, "network"),
        ({"argv": ["x"]}, "argv: there is no such field"),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], problem: str) -> None:
    assert problem in refusal(PYTHON, **fields)


def test_the_environment() -> None:
    job = spec(C, env={"TMPDIR": "/work", "A": b"\xff"})
    assert job.compile is not None
    assert job.compile.env is not None
    assert set(job.compile.env) == {
        *(f"{name}={value}".encode() for name, value in CONFIG.env.items()),
        b"TMPDIR=/work",
        b"A=\xff",
    }
    assert job.run.env is not None
    assert b"A=\xff" in job.run.env


def test_limits() -> None:
    job = spec(C)
    assert job.compile is not None
    assert job.compile.limits == Limits(memory_bytes=1024 * MIB)
    job = spec(
        C,
        compile={"limits": {"memory_bytes": 0, "processes": 9}},
        run={"limits": {"open_files": 7}},
    )
    assert job.compile is not None
    assert job.compile.limits is not None
    assert (job.compile.limits.memory_bytes, job.compile.limits.processes) == (1024 * MIB, 9)
    assert job.run.limits == Limits(open_files=7)


def test_compile_limits_of_what_is_not_compiled_mean_nothing() -> None:
    assert spec(PYTHON, compile={"limits": {"memory_bytes": 1}}).compile is None


def test_a_limit_of_the_runtime_above_the_most_allowed_becomes_that() -> None:
    most = CONFIG.max_limits.memory_bytes
    greedy = Runtime(language="x", version="1.0.0", run=stage("x", memory_bytes=most + 1))
    assert spec(greedy).run.limits == Limits(memory_bytes=most)


def test_the_memory_limit_in_a_command() -> None:
    runtime = Runtime(
        language="x", version="1.0.0", run=stage("x", "-m{memory_mib}", memory_bytes=100 * MIB)
    )
    assert spec(runtime).run.argv == (b"x", b"-m100")
    asked = {"limits": {"memory_bytes": 200 * MIB + 5}}
    assert spec(runtime, run=asked).run.argv == (b"x", b"-m200")
    assert spec(
        Runtime(language="x", version="1.0.0", run=stage("x", "-m{memory_mib}"))
    ).run.argv == (b"x", b"-m%d" % (CONFIG.limits.memory_bytes // MIB))


def test_a_started_one() -> None:
    job = spec(PYTHON, started=True, stream=True, tty={"rows": 3, "columns": 4})
    assert job.tty is not None
    assert (job.stream, job.tty.rows) == (True, 3)


def test_other_fields() -> None:
    job = spec(
        PYTHON, collect=["*"], collect_bytes=7, network="loopback", mode="fresh", output=True,
        client="me",
    )  # fmt: skip
    assert (job.collect, job.collect_bytes, job.loopback, job.mode, job.output, job.client) == (
        (b"*",), 7, True, "fresh", True, "me",
    )  # fmt: skip


def test_a_package() -> None:
    runtime = from_package(
        language="lua",
        version="5.4.4",
        directory="/piston/packages/lua/5.4.4",
        compiled=True,
        env={"PATH": "/piston/packages/lua/5.4.4/bin"},
        run_limits=Limits(processes=3),
    )
    job = spec(runtime, files=[{"data": "1"}, {"name": "lib", "data": "2"}], args=["x"])
    assert job.compile is not None
    assert job.compile.argv == (
        b"/bin/bash", b"/piston/packages/lua/5.4.4/compile", b"file0.code", b"lib",
    )  # fmt: skip
    assert job.run.argv == (
        b"/bin/bash", b"/piston/packages/lua/5.4.4/run", b"file0.code", b"x",
    )  # fmt: skip
    assert job.run.env is not None
    assert {b"HOME=/tmp", b"PISTON_LANGUAGE=lua", b"PATH=/piston/packages/lua/5.4.4/bin"} <= set(
        job.run.env
    )
    assert job.run.limits == Limits(processes=3)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from(rpc.runtimes.ExecuteParams.__struct_fields__), VALUES)
MODELLED = st.fixed_dictionaries(
    {},
    optional={
        "files": st.lists(
            st.fixed_dictionaries(
                {"data": st.text() | st.binary()},
                optional={
                    "name": st.text(),
                    "source": st.booleans(),
                    "mode": st.integers(-1, 0o1001),
                },
            ),
            max_size=4,
        ),
        "args": st.lists(st.text() | st.binary()),
        "env": st.dictionaries(st.text(), st.text() | st.binary()),
        "stdin": st.text() | st.binary(),
    },
)


@pytest.mark.parametrize("runtime", [PYTHON, C, JAVA], ids=lambda runtime: runtime.language)
@pytest.mark.parametrize("fields", [FIELDS, MODELLED], ids=["any", "modelled"])
def test_any_request_is_a_job_or_one_error(
    runtime: Runtime, fields: st.SearchStrategy[dict[str, Any]]
) -> None:
    check: Callable[[], None] = given(fields)(_is_a_job_or_one_error(runtime))
    check()


def _is_a_job_or_one_error(runtime: Runtime) -> Callable[[dict[str, Any]], None]:
    def check(fields: dict[str, Any]) -> None:
        try:
            job = spec(runtime, **fields)
        except RequestError:
            return
        stages = [job.run] + ([job.compile] if job.compile else [])
        for one in stages:
            for text in (*one.argv, *(one.env or ())):
                assert b"\0" not in text
        paths = [file.path for file in job.files]
        assert len(set(paths)) == len(paths)
        for path in paths:
            assert not path.startswith(b"/")
            assert b".." not in path.split(b"/")

    return check
