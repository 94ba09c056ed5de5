"""Attacks on the interpreter that waits in a warm slot, and through it on the next program."""

import os
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client, Result
from support import host, rootless
from support.daemon import Daemon, running
from support.jobs import SECOND

from .test_leaks import connected_as

TENANTS = (1_000_101, 1_000_102)


@pytest.fixture(scope="module")
def one_warm(require_sandbox: None) -> Iterator[Daemon]:
    """A daemon with one warm slot, so that it is used again and again."""
    settings = {"socket_mode": 0o666, "allowed_uids": [0, *TENANTS]}
    if rootless.ACTIVE:
        settings = {}
    with running(jobs=1, warm_slots=1, **settings) as daemon:
        yield daemon


@pytest.fixture
def one(one_warm: Daemon) -> Iterator[Client]:
    with Client(one_warm.socket) as client:
        yield client


def python(client: Client, source: str, **limits: int) -> Result:
    """Run it warm."""
    deadline = time.monotonic() + 10
    while not client.stats()["slots"]["warm"]:
        assert time.monotonic() < deadline, client.stats()
        time.sleep(0.02)
    warm = "assert b'main.py' not in open('/proc/self/cmdline', 'rb').read(), 'not warm'\n"
    files = [{"name": "main.py", "data": warm + textwrap.dedent(source)}]
    result = client.execute("python", files=files, run={"limits": limits}).run
    assert result is not None
    assert b"not warm" not in result.stderr
    return result


def output(client: Client, source: str) -> str:
    result = python(client, source)
    assert result.status == "ok", result
    return result.stdout.decode()


def test_no_power_over_the_interpreter(one: Client) -> None:
    """P9, P10, P18: it can be neither signalled nor looked into, nor does it show."""
    said = output(
        one,
        """
        import os, signal
        def tried(what, *args):
            try:
                return what(*args)
            except OSError as error:
                return type(error).__name__
        print(tried(os.kill, 2, signal.SIGKILL), tried(os.kill, 2, 0), tried(os.kill, 1, 9))
        print(tried(os.setpriority, os.PRIO_PROCESS, 2, 19), tried(os.listdir, "/proc/2"))
        print([tried(open, "/proc/2/" + name) for name in ("mem", "maps", "environ", "fd/3")])
        print(tried(os.pidfd_open, 2))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if not child:
            signal.pause()
        os.kill(-1, signal.SIGKILL)
        print(os.wait()[1])
        """,
    )
    lines = said.splitlines()
    assert lines[0] == "PermissionError PermissionError PermissionError"
    assert lines[1].split()[0] == "PermissionError"
    assert lines[1].split()[1] in ("FileNotFoundError", "PermissionError")
    assert "TextIO" not in lines[2]
    assert lines[-1] == "9"
    assert output(one, "print(1)") == "1\n"


def test_nothing_of_the_slot_is_in_the_program(one: Client) -> None:
    """P25: no descriptor, no shared page, no capability, no right to become somebody else."""
    said = output(
        one,
        """
        import os
        maps = open("/proc/self/maps").read()
        print([line for line in maps.splitlines() if "memfd" in line or " rw-s" in line])
        print(sorted(os.listdir("/proc/self/fd")))  # 3 is the directory's own
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print({status["Cap" + kind].strip() for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")})
        print(status["NoNewPrivs"].strip(), status["Seccomp"].strip(), status["Uid"].split())
        for number in (0, 1002):
            try:
                os.setuid(number)
            except OSError as error:
                print(type(error).__name__)
        """,
    )
    assert said.splitlines() == [
        "[]",
        "['0', '1', '2', '3']",
        "{'0000000000000000'}",
        "1 2 ['1000', '1000', '1000', '1000']",
        "PermissionError",
        "OSError",
    ]


def test_nothing_of_the_helper_is_in_memory(one: Client) -> None:
    """P25: the helper's message is no part of it, which would say how many jobs there were."""
    said = output(
        one,
        """
        import struct
        def is_message(data, at):
            words = struct.unpack_from("<IIQQIIII", data, at)
            return words[:2] == (1, 32) and 0 < words[2] < 1 << 20 and not any(words[3:])
        found = 0
        for line in open("/proc/self/maps"):
            words = line.split()
            if words[1][:2] == "rw" and words[-1] != "[vvar]":
                first, end = (int(word, 16) for word in words[0].split("-"))
                with open("/proc/self/mem", "rb") as memory:
                    memory.seek(first)
                    data = memory.read(end - first)
                found += sum(is_message(data, at) for at in range(0, len(data) - 48, 8))
        print(found)
        """,
    )
    assert said == "0\n"


def test_the_interpreter_has_no_file_of_the_workers(one_warm: Daemon, one: Client) -> None:
    """P25: who has the file that the shared page is in could make it shorter than the page."""
    output(one, "pass")
    waiting = [
        pid
        for pid in host.descendants(one_warm.pid)
        if b"/proc/self/fd/6" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert waiting
    for pid in waiting:
        names = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [name for name in names if "memfd" in name], names


SURVIVORS = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                time.sleep(0.01)
        os._exit(0)
"""


@pytest.mark.parametrize("end", ["", "os._exit(1)", "os.kill(os.getpid(), 9)", "time.sleep(9)"])
def test_no_process_outlives_its_program(one: Client, end: str) -> None:
    """P2, P3, P5: what went its own way is gone with the program, whose slot serves the next."""
    assert output(one, "print(1)") == "1\n"  # Now its slot is made.
    made = one.stats()["slots"]["slots_made"]
    for _ in range(3):
        python(one, SURVIVORS + end, wall_time_ns=SECOND // 2)
        count = "print(len([n for n in __import__('os').listdir('/proc') if n.isdigit()]))"
        assert output(one, count) == "1\n"
    if not end.startswith("time"):  # After a limit, that depends on how quick init could be.
        assert one.stats()["slots"]["slots_made"] == made


def test_a_fork_bomb(one: Client) -> None:
    """P1: it ends at its limit and the slot serves the next program."""
    bomb = (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    )
    result = python(one, bomb, processes=16, wall_time_ns=SECOND)
    assert result.status in ("wall_time_limit", "cpu_time_limit")
    assert output(one, "print(1)") == "1\n"


def test_memory_is_the_programs_own_trouble(one: Client) -> None:
    """M2: when the limit is hit, whoever the kernel kills, it is said so."""
    eat = "x = []\nwhile True:\n    x.append(bytearray(1 << 20))\n"
    for _ in range(3):
        assert python(one, eat, memory_bytes=64 << 20).status == "memory_limit"
        assert output(one, "print(1)") == "1\n"


def test_what_a_program_did_to_python_is_gone(one: Client) -> None:
    """X7: modules, builtins and hooks are those of the waiting interpreter again."""
    output(
        one,
        """
        import builtins, sys, json, os, io, gc
        builtins.print = lambda *a: None
        json.loads = os.listdir = io.open = None
        sys.meta_path.clear(); sys.modules["re"] = None; gc.disable()
        sys.setrecursionlimit(50); os.umask(0o777)
        """,
    )
    said = output(
        one,
        """
        import json, os, io, gc, re, sys
        print(json.loads("1"), io.open is open, gc.isenabled(), len(sys.meta_path) > 2)
        print(sys.getrecursionlimit(), os.getpriority(0, 0), os.umask(0))
        """,
    )
    assert said == "1 True True True\n1000 0 18\n"


@rootless.other_users
def test_never_another_tenants(one_warm: Daemon) -> None:
    """X7: an interpreter's slot never passes to another tenant; that one gets a new one."""
    for uid in TENANTS:
        with connected_as(uid, one_warm) as client:
            made = client.stats()["slots"]["slots_made"]
            deadline = time.monotonic() + 10
            while output_or_cold(client) != "warm":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert client.stats()["slots"]["slots_made"] > made or uid == TENANTS[0]


def output_or_cold(client: Client) -> str:
    source = "print('cold' if 'main.py' in open('/proc/self/cmdline').read() else 'warm')"
    result = client.execute("python", files=[{"name": "main.py", "data": source}]).run
    assert result is not None
    assert result.status == "ok", result
    return result.stdout.decode().strip()


def test_a_result_hides_no_memory_of_the_next_call(require_sandbox: None) -> None:
    """M5: what one call wrote as its result is not taken off the next one's figure."""
    code = """
import os
def main(args, context):
    for at in range(args["write"]):
        os.pwrite(3, b"x" * (1 << 20), at << 20)
    used = b"y" * (args["use"] << 20)
    return len(used)
"""
    limits = {"memory_bytes": 128 << 20, "file_size_bytes": 128 << 20}
    with running(jobs=1, warm_slots=1, limits=limits) as daemon, Client(daemon.socket) as client:
        client.create_function("f", kind="python", code=code)
        for _ in range(6):
            client.call_function("f", {"write": 90, "use": 0})
            assert client.call_function("f", {"write": 0, "use": 60})["memory_bytes"] > 60 << 20
