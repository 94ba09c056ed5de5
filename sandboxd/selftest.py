"""The self test: real jobs that go for every limit, run before the first client is served.

A limit that is not enforced is worse than no sandbox, because people rely on it. Each case runs the
probe (native/src/probe.c) with a small limit and compares what it could do with what it was allowed
to. The limits are as small as they can be: the whole test takes some tens of milliseconds.
"""

import errno
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from sandboxd.engine import wire
from sandboxd.engine.helper import LIBEXEC
from sandboxd.engine.job import Job, Outcome
from sandboxd.engine.jobs import Engine
from sandboxd.errors import HostError
from sandboxd.protocol import status
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.jobs import InputFile, JobSpec, Stage
from sandboxd.protocol.limits import JobLimits
from sandboxd.protocol.models import Result

PROBE: Final = LIBEXEC / "sandbox-probe"
# The uid of nobody: a slot that served the self test is never given to a tenant.
_TENANT: Final = 2**32 - 2

_MS: Final = 1_000_000
_KIB: Final = 1024
_MIB: Final = 1024 * 1024
# How much later than its deadline a limit may bite on a machine that is starting up.
_LATE_NS: Final = 500 * _MS
# Page tables and kernel memory of one small process above; below, what each CPU has charged ahead
# (MEMCG_CHARGE_BATCH, 64 pages).
_MEMORY_SLACK: Final = _MIB

# What a case does not limit: enough for the probe, whatever the configuration says.
_ROOMY: Final = JobLimits(
    cpu_time_ns=5_000 * _MS,
    wall_time_ns=10_000 * _MS,
    memory_bytes=128 * _MIB,
    output_bytes=64 * _KIB,
    file_size_bytes=32 * _MIB,
    disk_bytes=32 * _MIB,
    stack_bytes=32 * _MIB,
    disk_inodes=1024,
    processes=64,
    open_files=256,
)

Verdict = Callable[[Result, dict[str, int]], bool]


@dataclass(frozen=True, slots=True)
class Case:
    """One limit: what is run against it and how an enforced limit looks."""

    name: str
    argv: tuple[str, ...]
    limits: dict[str, int]
    enforced: Verdict
    says: str
    """The sentence's beginning when it is not enforced."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one case; ``problem`` is empty when all is well."""

    name: str
    problem: str


def _limit_hit(kind: str) -> Verdict:
    return lambda result, _: result.status == kind


def _stopped(key: str, most: int, error: int) -> Verdict:
    """The program was refused more than ``most`` with ``error`` and went on."""
    return lambda result, seen: (
        result.status == status.OK
        and seen.get("errno") == error
        and seen.get(key, most + 1) <= most
    )


def _cpu(result: Result, _: dict[str, int]) -> bool:
    in_time = 20 * _MS <= result.cpu_time_ns <= 20 * _MS + _LATE_NS
    return result.status == status.CPU_TIME_LIMIT and in_time


def _wall(result: Result, _: dict[str, int]) -> bool:
    in_time = 20 * _MS <= result.wall_time_ns <= 20 * _MS + _LATE_NS
    return result.status == status.WALL_TIME_LIMIT and in_time


def _accounted(result: Result, _: dict[str, int]) -> bool:
    used = result.memory_bytes
    return result.status == status.OK and abs(used - 8 * _MIB) <= _MEMORY_SLACK


def _output(result: Result, _: dict[str, int]) -> bool:
    return result.status == status.OUTPUT_LIMIT and len(result.stdout) == 4 * _KIB


def _stderr(result: Result, _: dict[str, int]) -> bool:
    return result.status == status.OUTPUT_LIMIT and len(result.stderr) == 4 * _KIB


def _stack(result: Result, _: dict[str, int]) -> bool:
    return result.status == status.SIGNALED and result.signal == signal.SIGSEGV


def _unprivileged(result: Result, seen: dict[str, int]) -> bool:
    none = ("cap_effective", "cap_permitted", "cap_inheritable", "groups")
    confined = seen.get("no_new_privs") == 1 and seen.get("seccomp") == 2
    return confined and seen.get("uid", 0) != 0 and all(seen.get(name) == 0 for name in none)


def _no_network(result: Result, seen: dict[str, int]) -> bool:
    return bool(seen.get("loopback_errno")) and bool(seen.get("internet_errno"))


CASES: Final = (
    Case(
        "cpu_time_ns",
        ("cpu", "5000"),
        {"cpu_time_ns": 20 * _MS},
        _cpu,
        "a program could use more CPU time than its limit",
    ),
    Case(
        "wall_time_ns",
        ("sleep", "5000"),
        {"wall_time_ns": 20 * _MS},
        _wall,
        "a program could run longer than its limit",
    ),
    Case(
        "memory_bytes",
        ("memory", str(64 * _MIB)),
        {"memory_bytes": 16 * _MIB},
        _limit_hit(status.MEMORY_LIMIT),
        "a program could use more memory than its limit",
    ),
    Case(
        "memory_accounting",
        ("memory", str(8 * _MIB)),
        {"memory_bytes": 64 * _MIB},
        _accounted,
        "the memory of a program that used 8 MiB was not measured as that",
    ),
    Case(
        "processes",
        ("fork", "24"),
        {"processes": 8},
        _stopped("forked", 7, errno.EAGAIN),
        "a program could start more processes than its limit",
    ),
    Case(
        "output_bytes",
        ("print", str(256 * _KIB)),
        {"output_bytes": 4 * _KIB},
        _output,
        "a program could print more to stdout than its limit",
    ),
    Case(
        "output_bytes_stderr",
        ("stderr", str(256 * _KIB)),
        {"output_bytes": 4 * _KIB},
        _stderr,
        "a program could print more to stderr than its limit",
    ),
    Case(
        "file_size_bytes",
        ("write", str(_MIB), "file"),
        {"file_size_bytes": 256 * _KIB},
        _stopped("written", 256 * _KIB, errno.EFBIG),
        "a program could write a larger file than its limit",
    ),
    Case(
        "disk_bytes",
        ("write", str(8 * _MIB), "file"),
        {"disk_bytes": _MIB},
        _stopped("written", _MIB, errno.ENOSPC),
        "a program could write more to its disk than its limit",
    ),
    Case(
        "disk_inodes",
        ("files", "256", "."),
        {"disk_inodes": 64},
        _stopped("made", 64, errno.ENOSPC),
        "a program could make more files than its limit",
    ),
    Case(
        "open_files",
        ("files-open", "64"),
        {"open_files": 16},
        _stopped("opened", 16, errno.EMFILE),
        "a program could open more files than its limit",
    ),
    Case(
        "stack_bytes",
        ("stack", str(8 * _MIB)),
        {"stack_bytes": 256 * _KIB},
        _stack,
        "a program could use more stack than its limit",
    ),
    Case("privileges", ("id",), {}, _unprivileged, "a program had privileges"),
    Case("network", ("net",), {}, _no_network, "a program could reach a network"),
)


def read_probe(path: Path = PROBE) -> bytes:
    """The probe's executable. To be called before privileges are given up: in a checkout in
    root's home directory nobody else can read it."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise HostError(f"cannot read {path}: {exc.strerror}; rebuild sandboxd") from exc


async def run(engine: Engine, timeout_s: float, probe: bytes) -> list[Finding]:
    """Run every case, as many at once as there are places.

    ``probe`` is the program of `read_probe`. Raises HostError when nothing can be run at all.
    """
    program = InputFile(b"probe", 0o755, probe)
    findings: dict[str, Finding] = {}
    places = trio.CapacityLimiter(engine.scheduler.places)

    async def run_case(case: Case) -> None:
        async with places:
            findings[case.name] = Finding(case.name, await _problem(engine, case, program))

    engine.trouble = trouble = trio.Event()
    with trio.move_on_after(timeout_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, trouble, nursery.cancel_scope)
            async with trio.open_nursery() as cases:
                for case in CASES:
                    cases.start_soon(run_case, case)
            nursery.cancel_scope.cancel()
    if len(findings) == len(CASES):
        return [findings[case.name] for case in CASES]
    if trouble.is_set():
        raise HostError(f"no sandbox can be made: {engine.trouble_text}")
    raise HostError(f"the self test did not end within {timeout_s:g} s: the host is overloaded")


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _problem(engine: Engine, case: Case, program: InputFile) -> str:
    """Empty when the limit is enforced, else one sentence."""
    try:
        outcome = await _run(engine, case, program)
    except RequestError as error:
        return f"could not be tried: {error}"
    if not isinstance(outcome, Result):
        return f"could not be tried: {outcome}"
    if outcome.status == status.INTERNAL_ERROR:
        return f"could not be tried: {outcome.message}"
    seen = _parse(outcome.stdout)
    if case.enforced(outcome, seen):
        return ""
    found = ", ".join(f"{key} {value}" for key, value in seen.items())
    return (
        f"{case.says}: it ended with status {outcome.status}, cpu_time_ns {outcome.cpu_time_ns}, "
        f"wall_time_ns {outcome.wall_time_ns}, memory_bytes {outcome.memory_bytes}"
        + (f" ({found})" if found else "")
    )


async def _run(engine: Engine, case: Case, program: InputFile) -> Outcome:
    argv = (b"./probe", *(argument.encode() for argument in case.argv))
    stage = Stage(argv=argv, env=(), cwd=b"", stdin=b"", limits=None)
    limits = msgspec.structs.replace(_ROOMY, **case.limits)
    job = Job(engine, JobSpec(run=stage, files=(program,)), _TENANT, limits)
    job.mode = wire.MODE_FRESH
    ended = trio.Event()
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended.set()

    job.done = done
    engine.submit(job)
    try:
        await ended.wait()
    finally:
        engine.abandon(job)
    return outcomes[0]


def _parse(stdout: bytes) -> dict[str, int]:
    """The probe's ``key=number`` lines; capability sets are hexadecimal."""
    seen = {}
    for line in stdout.decode("ascii", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            try:
                seen[key] = int(value, 16 if key.startswith("cap_") else 10)
            except ValueError:
                continue
    return seen
