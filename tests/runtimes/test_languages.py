"""Every runtime whose tool is on this host, through the real daemon."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import pytest

from runtimes.programs import LANGUAGES, Language
from runtimes.programs.language import ARGS, LINE
from sandboxd_client import Client
from sandboxd_client.result import ExecuteResult
from sandboxd_client.types import Limits
from support import requirements
from support.daemon import Daemon, running
from support.jobs import SECOND

MIB = 1024 * 1024
MS = 1_000_000
# Longer than any test takes, on a host that is busy with other things.
LONG_NS = 120_000 * MS

# What continuous integration has: packages of Debian, small ones and quick to install.
PACKAGES = frozenset(Path(__file__).with_name("packages.txt").read_text().split())
INSTALLED = [language for language in LANGUAGES if PACKAGES.issuperset(language.packages.split())]


@pytest.fixture(scope="module")
def daemon(require_sandbox: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """With the limits that a daemon has where nobody configured any."""
    with running(jobs=2) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.socket) as client:
        yield client


@pytest.fixture(scope="module")
def versions(client: Client) -> dict[tuple[str, str], str]:
    """The version of each language and runtime."""
    found = client.runtimes()
    return {(info["language"], info.get("runtime", "")): info["version"] for info in found}


def with_program(kind: str) -> pytest.MarkDecorator:
    """For each language that has such a program."""
    cases = [
        pytest.param(language, id=language.id, marks=pytest.mark.slow if language.slow else ())
        for language in LANGUAGES
        if getattr(language, kind)
    ]
    return pytest.mark.parametrize("language", cases)


class Executor:
    """Runs programs of languages that are there."""

    def __init__(self, client: Client, versions: dict[tuple[str, str], str]) -> None:
        self._client = client
        self._versions = versions

    def __call__(
        self, language: Language, text: str | bytes, **limits: Unpack[Limits]
    ) -> ExecuteResult:
        version = self._versions.get((language.name, language.runtime))
        if version is None:
            pytest.skip(f"{language.id} is not here; install {language.packages}")
        return self._client.execute(
            language.name,
            [text],
            version=version,
            args=ARGS,
            stdin=LINE,
            run={"limits": limits},
        )


@pytest.fixture(scope="module")
def execute(client: Client, versions: dict[tuple[str, str], str]) -> Executor:
    return Executor(client, versions)


def run_of(result: ExecuteResult) -> Any:
    """The run stage, which must have been reached."""
    assert result.run is not None, result.compile
    return result.run


@with_program("hello")
def test_arguments_input_and_exit_code(execute: Executor, language: Language) -> None:
    run = run_of(execute(language, language.hello))
    assert run.stdout == language.stdout, run
    assert run.exit_code == language.exit_code
    assert run.status == ("nonzero_exit" if language.exit_code else "ok")


@with_program("error")
def test_error_of_the_program(execute: Executor, language: Language) -> None:
    run = run_of(execute(language, language.error))
    assert run.status == ("signaled" if language.signaled else "nonzero_exit"), run
    assert language.says in run.stderr.decode(errors="replace")


@with_program("broken")
def test_program_that_does_not_compile(execute: Executor, language: Language) -> None:
    result = execute(language, language.broken)
    assert result.run is None
    assert result.compile is not None
    assert result.compile.status == "nonzero_exit", result.compile
    said = result.compile.stdout + result.compile.stderr
    assert language.complains in said.decode(errors="replace")


@with_program("loop")
def test_program_that_never_ends(execute: Executor, language: Language) -> None:
    for factor in (1, 4):
        limit = language.cpu_ms * factor * MS
        result = execute(language, language.loop, cpu_time_ns=limit, wall_time_ns=LONG_NS)
        run = run_of(result)
        assert run.status == "cpu_time_limit", run
        assert run.cpu_time_ns >= limit * 0.9
        if language.looping.encode() in run.stderr:
            return
    pytest.fail(f"the program did not even start in {limit / MS:.0f} ms of CPU time")


@with_program("hog")
def test_program_that_takes_all_memory(execute: Executor, language: Language) -> None:
    limit = language.memory_mib * MIB
    # Some take half of the usual CPU time until then, and more where the machine has other things
    # to do: it must be the memory limit that they meet.
    limits = Limits(memory_bytes=limit, cpu_time_ns=60 * SECOND, wall_time_ns=90 * SECOND)
    run = run_of(execute(language, language.hog, **limits))
    if language.gives_up:
        assert run.status in ("nonzero_exit", "signaled"), run
        assert language.gives_up in run.stderr.decode(errors="replace")
    else:
        assert run.status == "memory_limit", run
    assert run.memory_bytes <= limit


def test_what_is_installed_for_these_tests_is_found(versions: dict[tuple[str, str], str]) -> None:
    missing = [item.id for item in INSTALLED if (item.name, item.runtime) not in versions]
    if missing:
        requirements.skip(f"not here: {', '.join(missing)}; install {' '.join(sorted(PACKAGES))}")
