"""What a package says of itself, and what is made of it."""

import json
from typing import Any

import pytest

from sandboxd.packages import environment, info
from sandboxd.packages.info import BadInfo
from sandboxd.packages.use import Use
from sandboxd.protocol import package_names
from sandboxd.protocol.models import MAX_COUNT, MAX_COUNT_32, Limits
from sandboxd.runtimes.versions import highest


def _parse(**keys: Any) -> info.PackageInfo:
    keys = {"language": "gcc", "version": "10.2.0", **keys}
    return info.parse(json.dumps(keys).encode(), "gcc", "10.2.0")


def _runtimes(said: info.PackageInfo, *, compiled: bool = True) -> Any:
    return info.runtimes(said, directory="/p", compiled=compiled, env={"PATH": "/p"}, use=Use())


def test_one_runtime() -> None:
    said = _parse(aliases=["g"], build_platform="docker-debian", dependencies={"x": "1"})
    [runtime] = _runtimes(said)
    assert (runtime.language, runtime.version, runtime.aliases) == ("gcc", "10.2.0", ("g",))
    assert (runtime.runtime, runtime.package) == ("", True)
    assert runtime.run.template.argv(b"a.c", [b"a.c"], [b"1"]) == (
        b"/bin/bash",
        b"/p/run",
        b"a.c",
        b"1",
    )
    assert runtime.compile.template.argv(b"a.c", [b"a.c", b"b.c"]) == (
        b"/bin/bash", b"/p/compile", b"a.c", b"b.c",
    )  # fmt: skip
    assert runtime.run.env == {"HOME": "/tmp", "PATH": "/p", "PISTON_LANGUAGE": "gcc"}
    assert _runtimes(said, compiled=False)[0].compile is None


def test_one_for_each_language_it_provides() -> None:
    provides = [
        {"language": "c", "aliases": ["gcc"], "limit_overrides": {"run_timeout": 10}},
        {"language": "c++", "aliases": ["cpp", "g++"]},
    ]
    c, cpp = _runtimes(_parse(provides=provides, aliases=["unused"]))
    assert (c.runtime, cpp.runtime) == ("gcc", "gcc")
    assert (c.language, cpp.language, cpp.aliases) == ("c", "c++", ("cpp", "g++"))
    assert cpp.run.env["PISTON_LANGUAGE"] == "c++"
    assert c.run.limits == Limits(wall_time_ns=10_000_000)
    assert cpp.run.limits == Limits()


def test_limits_by_their_names() -> None:
    every = {
        "max_process_count": 1, "max_open_files": 2, "max_file_size": 3, "output_max_size": 4,
        "compile_memory_limit": 5, "run_memory_limit": 6, "compile_timeout": 7, "run_timeout": 8,
        "compile_cpu_time": 9, "run_cpu_time": 10.5, "unknown": 11, "memory_limit": 12,
    }  # fmt: skip
    both = {"processes": 1, "open_files": 2, "file_size_bytes": 3, "output_bytes": 4}
    assert info.limits(every, "run") == Limits(
        **both, memory_bytes=6, wall_time_ns=8_000_000, cpu_time_ns=10_500_000
    )
    assert info.limits(every, "compile") == Limits(
        **both, memory_bytes=5, wall_time_ns=7_000_000, cpu_time_ns=9_000_000
    )
    none = {"run_memory_limit": -1, "run_timeout": 0, "max_process_count": -3}
    assert info.limits(none, "run") == Limits()
    huge = {"run_timeout": 1e300, "max_process_count": 2**62, "run_memory_limit": 2**63}
    assert info.limits(huge, "run") == Limits(
        wall_time_ns=MAX_COUNT, processes=MAX_COUNT_32, memory_bytes=MAX_COUNT
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"language": "gcc"}',
        b'{"language": "gcc", "version": "10.2.1"}',
        b'{"language": "../gcc", "version": "10.2.0"}',
        b'{"language": "gcc", "version": "10.2.0", "aliases": "x"}',
        b'{"language": "gcc", "version": "10.2.0", "aliases": ["a b"]}',
        b'{"language": "gcc", "version": "10.2.0", "aliases": [1]}',
        b'{"language": "gcc", "version": "10.2.0", "provides": [{"aliases": []}]}',
        b'{"language": "gcc", "version": "10.2.0", "provides": [{"language": "a/b"}]}',
        b'{"language": "gcc", "version": "10.2.0", "provides": [{"language": "a\\n"}]}',
        b'{"language": "gcc", "version": "10.2.0", "provides": [{"language": "a\\u0000b"}]}',
        b'{"language": "gcc", "version": "10.2.0", "aliases": ["\\u001b[2J"]}',
        b'{"language": "gcc", "version": "10.2.0", "limit_overrides": {"run_timeout": "1"}}',
        b'{"language": "gcc", "version": "10.2.0", "limit_overrides": {"run_timeout": NaN}}',
    ],
)
def test_what_is_not_taken(data: bytes) -> None:
    with pytest.raises(BadInfo):
        info.parse(data, "gcc", "10.2.0")


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("1.2.3", True),
        ("1.2.3-rc.1", True),
        ("1.2.3-0.x-y.01a", True),
        ("1.2.3-01", False),
        ("1.2.3-rc.00", False),
        ("1.2.3-", False),
        ("1.2.3-a..b", False),
        ("01.2.3", False),
        ("../x", False),
        ("1.2.3\n", False),
    ],
)
def test_a_version_is_one_that_can_be_compared(version: str, taken: bool) -> None:
    assert package_names.is_version(version) is taken
    # A package's version that is none would take all others of its language with it.
    assert (highest([version, "1.0.0"], "1.0.0") == "1.0.0") >= taken


def test_the_variables_of_an_environment(caplog: pytest.LogCaptureFixture) -> None:
    listed = b"A=1\0B=x=y\0EMPTY=\0C=two\nlines\0BASH_FUNC_f%%=() { :; }\0D=\xff\0=z\0E=\xc3\xa4\0"
    assert environment.parse(listed) == {"A": "1", "B": "x=y", "EMPTY": "", "E": "ä"}
    (record,) = caplog.records  # However many there are: a package could fill the log.
    assert record.getMessage().startswith("variables of a package are left out count=4 ")
    assert environment.parse(b"") == {}


def test_a_package_is_kept_while_it_is_used() -> None:
    use, gone = Use(), []
    use.hold()
    use.hold()
    use.retire(lambda: gone.append(1))
    use.release()
    assert not gone
    use.release()
    assert gone == [1]
    unused = Use()
    unused.retire(lambda: gone.append(2))
    assert gone == [1, 2]
