"""The self test finds what is not enforced; here the helper, which the test plays, enforces
nothing, or everything."""

import errno
from pathlib import Path

import pytest
import trio
from engine_peer import Message, Peer
from trio.testing import MockClock

from sandboxd import check, selftest
from sandboxd.cgroups import Groups
from sandboxd.check import Checker, KernelCheck
from sandboxd.config import Config
from sandboxd.engine import wire
from sandboxd.engine.jobs import Engine
from sandboxd.errors import HostError
from sandboxd.weaker import Weaker

MIB = 1 << 20

# What an enforcing helper reports for each case: the result's fields and stdout, stderr.
ENFORCED: dict[str, tuple[dict[str, int], bytes, bytes]] = {
    "cpu": ({"reason": wire.REASON_CPU_TIME, "cpu_time_ns": 21_000_000}, b"", b""),
    "sleep": ({"reason": wire.REASON_WALL_TIME, "wall_time_ns": 20_000_000}, b"", b""),
    "fork": ({}, b"forked=7\nerrno=11\n", b""),
    "print": ({"reason": wire.REASON_OUTPUT}, b"x" * 4096, b""),
    "stderr": ({"reason": wire.REASON_OUTPUT}, b"", b"x" * 4096),
    "files": ({}, b"made=60\nerrno=28\n", b""),
    "files-open": ({}, b"opened=13\nerrno=24\n", b""),
    "stack": ({"reason": wire.REASON_SIGNALED, "signal": 11}, b"", b""),
    "id": ({}, b"uid=1000\ngroups=0\ncap_effective=0\ncap_permitted=0\ncap_inheritable=0\n"
               b"cap_bounding=1ffffffffff\nno_new_privs=1\nseccomp=2\n", b""),
    "net": ({}, b"loopback_errno=101\ninternet_errno=101\n", b""),
}  # fmt: skip


def enforced(words: list[bytes]) -> tuple[dict[str, int], bytes, bytes]:
    command = words[1].decode()
    if command == "memory" and int(words[2]) > 16 * MIB:
        return {"reason": wire.REASON_MEMORY}, b"", b""
    if command == "memory":
        return {"memory_bytes": 8 * MIB + 50_000}, b"touched=8388608\nerrno=0\n", b""
    if command == "write":
        limited, error = (256 << 10, errno.EFBIG) if int(words[2]) == MIB else (900_000, 28)
        return {}, b"written=%d\nerrno=%d\n" % (limited, error), b""
    return ENFORCED[command]


def command_of(message: Message) -> list[bytes]:
    argc = wire.BLOB.unpack_from(message.blob)[0]
    return message.blob[wire.BLOB.size :].split(b"\0")[:argc]


async def play(peer: Peer, lenient: str = "") -> None:
    """Answers as a helper that enforces everything but the limit that ``lenient`` goes for."""
    while True:
        message = await peer.receive()
        if message.kind != wire.MSG_JOB:
            continue
        words = command_of(message)
        fields, stdout, stderr = enforced(words)
        if words[1].decode() == lenient:
            fields, stdout, stderr = {}, b"errno=0\n", b""
        peer.result(message.fields["job_id"], stdout, stderr, **fields)


async def findings(engine: Engine, peer: Peer, lenient: str = "") -> dict[str, str]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, peer, lenient)
        found = await selftest.run(engine, 5, b"probe")
        nursery.cancel_scope.cancel()
    return {finding.name: finding.problem for finding in found}


async def test_all_is_well(engine: Engine, peer: Peer) -> None:
    found = await findings(engine, peer)
    assert set(found) == {case.name for case in selftest.CASES}
    assert not any(found.values()), found


@pytest.mark.parametrize(
    ("lenient", "case", "words"),
    [
        ("cpu", "cpu_time_ns", "a program could use more CPU time than its limit"),
        ("sleep", "wall_time_ns", "could run longer"),
        ("memory", "memory_bytes", "could use more memory"),
        ("memory", "memory_accounting", "was not measured"),
        ("fork", "processes", "could start more processes"),
        ("print", "output_bytes", "could print more to stdout"),
        ("stderr", "output_bytes_stderr", "could print more to stderr"),
        ("write", "file_size_bytes", "could write a larger file"),
        ("write", "disk_bytes", "could write more to its disk"),
        ("files", "disk_inodes", "could make more files"),
        ("files-open", "open_files", "could open more files"),
        ("stack", "stack_bytes", "could use more stack"),
        ("id", "privileges", "had privileges"),
        ("net", "network", "could reach a network"),
    ],
)
async def test_each_limit_that_is_not_enforced_is_found(
    engine: Engine, peer: Peer, lenient: str, case: str, words: str
) -> None:
    found = await findings(engine, peer, lenient)
    assert words in found[case]
    others = {name for name, problem in found.items() if problem} - {case}
    assert all(name.split("_")[0] == case.split("_")[0] or lenient == "write" for name in others)


def test_every_limit_of_the_protocol_has_a_case() -> None:
    assert set(wire.LIMIT_NAMES) <= {case.name for case in selftest.CASES}


async def test_a_slot_that_cannot_be_made_ends_the_test_at_once(engine: Engine, peer: Peer) -> None:
    peer.send(wire.SLOT_ERROR.pack(wire.MSG_SLOT_ERROR, 2, errno.EPERM, 100))
    with pytest.raises(HostError, match="no sandbox can be made: creating namespaces failed"):
        await selftest.run(engine, 5, b"probe")


async def test_an_earlier_trouble_does_not_spoil_a_later_test(engine: Engine, peer: Peer) -> None:
    engine.slot_failed("long ago")
    assert not any((await findings(engine, peer)).values())


async def test_no_answer_at_all(engine: Engine, peer: Peer, autojump_clock: MockClock) -> None:
    with pytest.raises(HostError, match="did not end within 5 s"):
        await selftest.run(engine, 5, b"probe")


async def test_a_set_up_error_is_told(engine: Engine, peer: Peer) -> None:
    async def fail() -> None:
        while True:
            message = await peer.receive()
            fields = {"reason": wire.REASON_SETUP, "step": 2, "error": errno.EPERM}
            peer.result(message.fields["job_id"], **fields)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        found = await selftest.run(engine, 5, b"probe")
        nursery.cancel_scope.cancel()
    assert all("could not be tried: creating namespaces failed" in item.problem for item in found)


def test_a_probe_that_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="rebuild sandboxd"):
        selftest.read_probe(tmp_path / "sandbox-probe")


# -- check ------------------------------------------------------------------------------------

LINES = """\
seccomp\tok\trequired\t190 instructions\t
swap\tmissing\trequired\ton\tswapoff -a
landlock\tmissing\toptional\tENOSYS\tbuild it in
not a line
"""


def test_the_helpers_lines_are_parsed() -> None:
    seccomp, swap, landlock = check.parse(LINES)
    assert (seccomp.name, seccomp.ok, seccomp.required) == ("seccomp", True, True)
    assert (swap.ok, swap.hint) == (False, "swapoff -a")
    assert (landlock.ok, landlock.required, landlock.detail) == (False, False, "ENOSYS")


def kernel_check(tmp_path: Path, lines: str) -> KernelCheck:
    script = tmp_path / "helper"
    (tmp_path / "lines").write_text(lines)
    script.write_text(f"#!/bin/sh\ncat {tmp_path}/lines\n")
    script.chmod(0o755)
    return check.start_kernel_check(script)


@pytest.mark.parametrize(
    ("lines", "ok"), [(LINES, False), (LINES.replace("swap\tmissing", "swap\tok"), True)]
)
async def test_report(engine: Engine, peer: Peer, tmp_path: Path, lines: str, ok: bool) -> None:
    groups = Groups(1, {"cg_memory": Path("/m"), "cg_pids": Path("/p")})
    weaker = Weaker(None, Config(), groups, 0)
    checker = Checker(engine, kernel_check(tmp_path, lines), groups, b"probe", weaker)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, peer)
        report = await checker.report()
        nursery.cancel_scope.cancel()
    assert report["ok"] is ok
    assert (report["privileges"], report["weaker"]) == ("root", [])
    features = report["features"]
    assert isinstance(features, list)
    names = [feature["name"] for feature in features]
    assert names[:5] == ["seccomp", "swap", "landlock", "cgroup.memory", "cgroup.pids"]
    assert "limit.memory_bytes" in names


async def test_a_report_when_nothing_can_be_run(
    engine: Engine, peer: Peer, tmp_path: Path, nursery: trio.Nursery
) -> None:
    groups = Groups(1, {})
    weaker = Weaker(None, Config(), groups, 0)
    checker = Checker(engine, kernel_check(tmp_path, ""), groups, b"probe", weaker)

    async def trouble() -> None:
        await peer.receive()
        engine.slot_failed("no luck")

    nursery.start_soon(trouble)
    report = await checker.report()
    assert report == {
        "ok": False,
        "features": [
            {"name": "limits", "ok": False, "required": True,
             "detail": "no sandbox can be made: no luck", "hint": ""},
        ],
        "privileges": "root",
        "weaker": [],
    }  # fmt: skip
