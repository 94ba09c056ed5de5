"""From JSON to params and from results to JSON, where no daemon is needed to see it."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxd_client.result import Result
from sandboxd_rest.http import Refusal
from sandboxd_rest.piston.catalogue import Catalogue, Runtime, StageLimits, highest
from sandboxd_rest.piston.request import parse
from sandboxd_rest.piston.results import stage_result
from sandboxd_rest.piston.settings import Overrides, Settings
from sandboxd_rest.piston.signals import NAMES, NUMBERS
from sandboxd_rest.safety import by_name, client_label, host_of

C = Runtime("c", "12.2.0", compiled=True, aliases=["gcc"])
BASE: dict[str, Any] = {"language": "c", "version": "*", "files": [{"content": ""}]}
MAXIMA = {"wall_time_ns": 10**12, "cpu_time_ns": 10**12, "memory_bytes": 2**32, "processes": 100}


async def params(
    settings: Settings | None = None, runtime: Runtime = C, **fields: Any
) -> dict[str, Any]:
    async def find(language: str, version: str) -> Runtime:
        return runtime

    _, found = await parse({**BASE, **fields}, find, settings or Settings(), MAXIMA)
    return found


async def limits(stage: str = "run", **fields: Any) -> dict[str, int]:
    found: dict[str, int] = (await params(**fields))[stage]["limits"]
    return found


async def test_what_is_asked_of_the_daemon() -> None:
    assert await params(args=["a"], stdin="x") == {
        "language": "c",
        "version": "12.2.0",
        "files": [{"name": "file0.code", "data": "", "source": True}],
        "args": ["a"],
        "stdin": "x\n",
        "output": True,
        "compile": {
            "limits": {
                "wall_time_ns": 10_000_000_000,
                "cpu_time_ns": 10_000_000_000,
                "output_bytes": 65_536,
                "processes": 64,
                "open_files": 2048,
                "file_size_bytes": 10_000_000,
            }
        },
        "run": {
            "limits": {
                "wall_time_ns": 3_000_000_000,
                "cpu_time_ns": 3_000_000_000,
                "output_bytes": 65_536,
                "processes": 64,
                "open_files": 2048,
                "file_size_bytes": 10_000_000,
            }
        },
    }


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(0.4, 1), (1, 1), (1.2, 2), (2999.9, 3000), (0, 3000), (-0.0, 3000), (1e-300, 1)],
)
async def test_times_are_rounded_up_and_never_nothing(asked: float, granted: int) -> None:
    found = await limits(run_timeout=asked, run_cpu_time=asked)
    assert found["wall_time_ns"] == found["cpu_time_ns"] == granted * 1_000_000


@pytest.mark.parametrize(("asked", "granted"), [(1, 4096), (4096, 4096), (4097, 8192)])
async def test_memory_is_rounded_up_to_pages(asked: int, granted: int) -> None:
    assert (await limits(run_memory_limit=asked))["memory_bytes"] == granted


async def test_memory_beyond_what_the_daemon_grants_is_that() -> None:
    assert (await limits(run_memory_limit=2**60))["memory_bytes"] == 2**32
    assert "memory_bytes" not in await limits(run_memory_limit=-1)
    assert "memory_bytes" not in await limits()


async def test_which_limit_goes_before_which() -> None:
    of_runtime = {"processes": 90, "wall_time_ns": 5_000_000_000}
    slow = Runtime("c", "1.0.0", True, limits=StageLimits(compile={}, run=of_runtime))
    found = await limits(runtime=slow)
    assert (found["processes"], found["wall_time_ns"]) == (90, 5_000_000_000)
    own = Settings(limit_overrides={"c": Overrides(max_process_count=7, run_timeout=6000)})
    found = await limits(runtime=slow, settings=own, run_timeout=6000)
    assert (found["processes"], found["wall_time_ns"]) == (7, 6_000_000_000)
    # Nothing exceeds what the daemon would refuse.
    many = Settings(max_process_count=5000, run_timeout=10**7)
    found = await limits(settings=many)
    assert (found["processes"], found["wall_time_ns"]) == (100, 10**12)


async def test_zero_configured_means_the_daemons() -> None:
    none = Settings(run_timeout=0, output_max_size=-1, max_process_count=0)
    found = await limits(settings=none)
    assert not {"wall_time_ns", "output_bytes", "processes"} & found.keys()
    assert (await limits(settings=none, run_timeout=5))["wall_time_ns"] == 5_000_000


async def test_the_language_file_takes_any() -> None:
    file = Runtime("file", "0.0.1", compiled=False)
    found = await params(runtime=file, files=[{"content": "AAE=", "encoding": "base64"}])
    assert found["files"] == [{"name": "file0.code", "data": b"\0\1", "source": True}]
    assert "compile" not in found


async def test_nothing_of_the_body_is_believed() -> None:
    for wrong in (None, 1, "x", [BASE], []):
        with pytest.raises(Refusal, match="language is required as a string"):
            await parse(wrong, None, Settings(), {})  # type: ignore[arg-type]


# -- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("*", "2.0.0"), ("1.x", "1.10.0"), ("^1.2", "1.10.0"), ("1.2.3", "1.2.3"), ("<1", None),
        (">=3.0.0-0", "3.0.0-rc.1"), ("3.0.0-rc.1", "3.0.0-rc.1"), ("1 || 2", "2.0.0"),
        ("", "2.0.0"), ("latest", None), ("((((", None), ("1" * 300, None),
    ],
)  # fmt: skip
def test_the_highest_version_in_the_range(wanted: str, found: str | None) -> None:
    versions = ["1.2.3", "1.10.0", "2.0.0", "3.0.0-rc.1"]
    assert highest(versions, wanted) == found


def test_finding_by_name_and_alias() -> None:
    other = Runtime("c", "9.0.0", True)
    catalogue = Catalogue([other, C], 0.0)
    assert catalogue.find("c", "*") is C
    assert catalogue.find("c", "9.x") is other
    assert catalogue.find("gcc", "*") is C
    assert catalogue.find("gcc", "9.x") is None


# -- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "ok", "exit_code": 0}, (0, None, None, None)),
        ({"status": "nonzero_exit", "exit_code": 3}, (3, None, "RE", "Exited with error status 3")),
        ({"status": "signaled", "signal": 11}, (None, "SIGSEGV", "SG", "Caught fatal signal 11")),
        ({"status": "cpu_time_limit", "exit_code": 0},
         (None, "SIGKILL", "TO", "Time limit exceeded")),
        ({"status": "wall_time_limit", "signal": 9},
         (None, "SIGKILL", "TO", "Time limit exceeded (wall clock)")),
        ({"status": "memory_limit", "signal": 9}, (None, "SIGKILL", "SG", "Memory limit exceeded")),
        ({"status": "memory_limit", "exit_code": 1}, (1, None, "RE", "Memory limit exceeded")),
        ({"status": "output_limit", "stdout_truncated": True},
         (None, "SIGKILL", "OL", "stdout length exceeded")),
        ({"status": "output_limit", "stderr_truncated": True},
         (None, "SIGKILL", "EL", "stderr length exceeded")),
        ({"status": "internal_error", "message": "why"}, (None, None, "XX", "why")),
    ],
)  # fmt: skip
def test_verdicts(fields: dict[str, Any], expected: tuple[object, ...]) -> None:
    stage = stage_result(Result(fields))
    assert (stage.code, stage.signal, stage.status, stage.message) == expected


def test_names_of_signals() -> None:
    assert set(NAMES) == {*range(1, 32), *range(34, 65)}
    assert (NAMES[1], NAMES[9], NAMES[34], NAMES[35]) == (
        "SIGHUP", "SIGKILL", "SIGRTMIN", "SIGRTMIN+1",
    )  # fmt: skip
    assert (NAMES[64], NAMES[63], NAMES[50]) == ("SIGRTMAX", "SIGRTMAX-1", "SIGRTMAX-14")
    assert all(NUMBERS[name] == number for number, name in NAMES.items())


# -- peers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "label"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("local", "local"),
        ("x" * 100, "x" * 64),
    ],
)
def test_what_the_queue_is_fair_between(peer: str, label: str) -> None:
    assert client_label(peer) == label


@pytest.mark.parametrize(
    ("text", "host"),
    [("A.b:1", "a.b"), ("[::1]:2", "::1"), ("a.", "a"), ("a b", "?"), ("a@b", "?"), ("", "?")],
)
def test_host_of(text: str, host: str) -> None:
    assert host_of(text) == host


def test_a_header_that_came_twice_has_both_values() -> None:
    assert by_name([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]) == {b"a": b"1, 3", b"b": b"2"}
