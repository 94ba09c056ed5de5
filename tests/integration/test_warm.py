"""Programs in an interpreter that waited: nothing they see or do tells them from a plain start."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import Client
from support import host
from support.daemon import Daemon, running
from support.jobs import MIB, SECOND
from support.warm import python, started, wait_for_interpreters

TICK_NS = 10_000_000


@pytest.fixture(scope="module")
def warm(require_sandbox: None) -> Iterator[Daemon]:
    with running(jobs=2, warm_slots=2, limits={"wall_time_ns": 5 * SECOND}) as daemon:
        yield daemon


@pytest.fixture
def client(warm: Daemon) -> Iterator[Client]:
    with Client(warm.socket) as client:
        yield client


SAME = {
    "what the program is": """
import sys, __main__
names = sorted(name for name in vars(__main__) if name not in ("sys", "__main__", "os"))
print(names, __name__, __file__, __doc__, __package__, __spec__, __cached__, __annotations__)
print(type(__loader__), __loader__.path, type(__builtins__), sys.modules["__main__"] is __main__)
print(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.executable, sys.prefix)
print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode)
""",
    "streams": """
import sys
for s in (sys.stdin, sys.stdout, sys.stderr):
    print(s.name, s.mode, s.encoding, s.errors, s.newlines, s.line_buffering, s.write_through,
          s.closed, s.seekable(), s.isatty(), type(s.buffer), s.buffer.raw.name, s.buffer.raw.mode,
          s.fileno(), s.buffer.raw.closefd, s is getattr(sys, "__" + s.name[1:-1] + "__"))
print(sys.stdin.read(), end="")
""",
    "process": """
import os, signal, resource
print(os.getuid(), os.getgid(), os.getgroups(), os.getcwd(), dict(os.environ), os.umask(0))
print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid(), os.getpriority(0, 0))
print([(s.name, signal.getsignal(s)) for s in signal.Signals if s is not signal.SIGINT])
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
for name in ("NOFILE", "FSIZE", "STACK", "CORE", "MEMLOCK", "NPROC", "AS", "CPU"):
    print(name, resource.getrlimit(getattr(resource, "RLIMIT_" + name)))
for line in open("/proc/self/status"):
    if line.startswith(("Cap", "Uid", "Gid", "Groups", "Sig", "Seccomp", "NoNewPrivs", "Shd")):
        print(line, end="")
print(open("/proc/self/oom_score_adj").read(), sorted(os.listdir("/proc/self/fd")))
""",
    "an error": "def f(n):\n    return 1 / n\n\nf(0)\n",
    "a chain of errors": "try:\n    {}['a']\nexcept KeyError:\n    raise ValueError('b')\n",
    "an error that is no program": "if True\n    print(1)\n",
    "an encoding": "# x\nprint('\\u20ac', ascii('ä'))\n",
    "exit with a number": "import sys\nsys.exit(7)\n",
    "exit with a text": "raise SystemExit('so it is')\n",
    "exit with nothing": "exit()\n",
    "exit at once": "import os\nprint('lost')\nos._exit(3)\n",
    "interrupted": "import atexit\natexit.register(print, 'bye')\nraise KeyboardInterrupt\n",
    "interrupted by a signal": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n",
    "ended by a signal": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n",
    "no memory of its own": "import ctypes\nctypes.string_at(0)\n",
    "a hook": """
import sys
def hook(kind, value, trace):
    print(kind, value, trace.tb_lineno, trace.tb_frame.f_code.co_name, trace.tb_next)
sys.excepthook = hook
1 / 0
""",
    "last words": """
import atexit, threading, time, weakref
class Noisy:
    def __init__(self, name): self.name = name
    def __del__(self): print('del', self.name)
a = Noisy('a'); b = Noisy('b'); circle = [Noisy('c')]; circle.append(circle)
atexit.register(print, 'at exit')
threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()
kept = open('out', 'w'); kept.write('never closed')
os.register_at_fork(before=lambda: None)
print('end')
""",
    "children": """
import subprocess, sys, multiprocessing, os
print(subprocess.run(['sh', '-c', 'echo $HOME; ls /proc/self/fd'], capture_output=True).stdout)
sys.stdout.flush()
if os.fork() == 0:
    print('child'); sys.exit(0)
print(os.wait()[1])
with multiprocessing.get_context('fork').Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
""",
    "much output": "import sys\nsys.stdout.write('x' * 300000)\nprint('y', file=sys.stderr)\n",
    "deep": """
def f(n):
    return f(n + 1)
try:
    f(0)
except RecursionError as e:
    print(e)
""",
    "modules": "import json, re, decimal, random, datetime\nprint(json.dumps([3]))\n",
    "a module beside it": "import sys, main\nprint(main is not sys.modules['__main__'])\n",
    "input": "print(input(), list(__import__('sys').stdin))\n",
    "no end of the stack": "import sys\nsys.setrecursionlimit(10**6)\n"
    "def f(n):\n    return 0 if n == 20000 else 1 + f(n + 1)\nprint(f(0))\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_like_a_plain_start(client: Client, name: str) -> None:
    stdin = b"one\ntwo\n\xc3\xa4\n"
    mine = python(client, SAME[name], "a", "b c", stdin=stdin)
    plain = started(client, SAME[name], "a", "b c", stdin=stdin)
    assert mine.stdout.decode() == plain.stdout.decode()
    assert mine.stderr.decode() == plain.stderr.decode()
    assert (mine.status, mine.exit_code, mine.signal) == (
        plain.status,
        plain.exit_code,
        plain.signal,
    )


def test_nothing_of_one_program_is_there_for_the_next(client: Client) -> None:
    leave = """
import builtins, json, sys, os, subprocess
builtins.left = json.left = sys.left = 1
sys.modules["left"] = json
os.environ["LEFT"] = "1"
os.chdir("/tmp")
open("/tmp/left", "w").close(); open("/work/left", "w").close()
subprocess.Popen(["setsid", "sleep", "100"])
sys.path.append("/left")
print(os.getpid())
"""
    look = """
import builtins, json, sys, os
found = [hasattr(m, "left") for m in (builtins, json, sys)] + ["left" in sys.modules]
found += ["LEFT" in os.environ, os.listdir("/tmp"), os.listdir("/work"), "/left" in sys.path]
print(found, os.getpid(), sorted(n for n in os.listdir("/proc") if n.isdigit()))
"""
    nothing = f"{[False] * 5 + [[], ['main.py'], False]} 3 ['3']\n"
    for _ in range(4):
        assert python(client, leave).status == "ok"
        assert python(client, look).stdout.decode() == nothing


@pytest.mark.parametrize(
    ("source", "limits", "status"),
    [
        ("while True:\n    pass\n", {"cpu_time_ns": SECOND // 5}, "cpu_time_limit"),
        ("import time\ntime.sleep(60)\n", {"wall_time_ns": SECOND // 5}, "wall_time_limit"),
        ("x = bytearray(1 << 30)\nx[::4096] = b'x' * (1 << 18)\n", {"memory_bytes": 64 * MIB},
         "memory_limit"),
        ("while True:\n    print('x' * 1000)\n", {"output_bytes": 100_000}, "output_limit"),
        ("import os\nwhile True:\n    os.fork()\n", {"processes": 8, "wall_time_ns": SECOND},
         "nonzero_exit"),
    ],
)  # fmt: skip
def test_limits(client: Client, source: str, limits: dict[str, int], status: str) -> None:
    result = python(client, source, run={"limits": limits})
    assert result.status == status, result
    assert python(client, "print(1)").stdout == b"1\n"


def test_all_that_was_asked_for_may_be_used(client: Client) -> None:
    """What the waiting interpreter needs is not taken from the program's memory and processes."""
    source = """
import os, time
x = bytearray(56 << 20)
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2); os._exit(0)
    pids.append(pid)
try:
    os.fork()
except BlockingIOError:
    print("no more")
"""
    limits = {"memory_bytes": 64 * MIB, "processes": 4}
    result = python(client, source, run={"limits": limits})
    assert (result.status, result.stdout) == ("ok", b"no more\n"), result
    assert 56 * MIB < result.memory_bytes < 64 * MIB


def test_time_is_the_programs_own(client: Client) -> None:
    source = """
import time
while time.process_time() < 0.1:
    pass
"""
    result = python(client, source)
    assert 0.1 * SECOND <= result.cpu_time_ns < 0.2 * SECOND, result
    # A kernel that counts in ticks may be wrong by one.
    assert python(client, "pass").cpu_time_ns < started(client, "pass").cpu_time_ns + TICK_NS


def test_what_an_interpreter_reads_when_it_starts_starts_it_anew(client: Client) -> None:
    for name, value in (("PYTHONHASHSEED", "0"), ("LANG", "C"), ("PYTHONPATH", "/tmp")):
        files = [{"name": "main.py", "data": "import os\nprint(hash('a'), os.environ.get('LANG'))"}]
        one, two = (
            client.execute("python", files=files, env={name: value}).run.stdout for _ in range(2)
        )
        assert (one == two) == (name == "PYTHONHASHSEED"), name
        assert one.endswith(b"C\n") == (name == "LANG")


def test_the_path_says_which_python(client: Client) -> None:
    fake = {"name": "python3", "data": "#!/bin/sh\necho mine\n", "mode": 0o755, "source": False}
    files = [{"name": "main.py", "data": "print(1)"}, fake]
    assert client.execute("python", files=files, env={"PATH": "/work"}).run.stdout == b"mine\n"


def test_no_descriptor_to_read_the_program_with(client: Client) -> None:
    limits = {"limits": {"open_files": 3}}
    files = [{"name": "main.py", "data": "print(1)"}]
    mine = client.execute("python", files=files, run=limits).run
    plain = client.run(["python3", "-s", "-B", "main.py"], files={"main.py": b"print(1)"}, **limits)
    assert (mine.stdout, mine.stderr, mine.exit_code) == (
        plain.stdout,
        plain.stderr,
        plain.exit_code,
    )


def test_a_null_byte_is_for_a_plain_start(client: Client) -> None:
    """Versions differ in what they make of one."""
    source = b"print(1)\n#\0\n"
    mine = client.execute("python", files=[{"name": "main.py", "data": source}]).run
    plain = client.run(["python3", "-s", "-B", "main.py"], files={"main.py": source})
    assert (mine.stdout, mine.stderr) == (plain.stdout, plain.stderr)


def test_small_memory_is_for_a_plain_start(client: Client) -> None:
    files = [{"name": "main.py", "data": "import os\nprint(os.getppid())"}]
    result = client.execute("python", files=files, run={"limits": {"memory_bytes": 12 * MIB}})
    assert result.run.stdout == b"1\n", result.run


def test_files_are_collected_and_streams_stream(client: Client) -> None:
    result = python(client, "open('out', 'w').write('x')\n", collect=["out"])
    assert result.files == {"out": b"x"}
    job = client.start_execute(
        "python",
        files=[{"name": "main.py", "data": "print(input())\nprint(input())\n"}],
        stdin_stream=True,
    )
    job.write(b"a\n")
    job.write(b"b\n")
    job.close_stdin()
    assert job.wait().run.stdout == b"a\nb\n"


def test_without_warm_slots(require_sandbox: None) -> None:
    with running(jobs=1, warm_slots=0) as daemon, Client(daemon.socket) as client:
        files = [{"name": "main.py", "data": "import os\nprint(os.getppid())"}]
        assert client.execute("python", files=files).run.stdout == b"1\n"
        assert client.stats()["slots"]["warm"] == 0


def _same_as_plain(client: Client, files: dict[str, bytes], **more: Any) -> None:
    wait_for_interpreters(client)
    given: list[dict[str, Any]] = [{"name": "main.py", "data": files["main.py"]}]
    given += [
        {"name": name, "data": data, "source": False}
        for name, data in files.items()
        if name != "main.py"
    ]
    mine = client.execute("python", files=given, **more).run
    plain = client.run(["python3", "-s", "-B", "main.py"], files=files, **more)
    assert mine is not None
    assert (mine.status, mine.exit_code, mine.message, mine.stdout, mine.stderr) == (
        plain.status,
        plain.exit_code,
        plain.message,
        plain.stdout,
        plain.stderr,
    )


@pytest.mark.parametrize("name", ["json.py", "operator.py", "typing/__init__.py"])
def test_a_module_of_its_own_has_the_name_of_one_that_was_loaded(client: Client, name: str) -> None:
    module = name.partition(".")[0].partition("/")[0]
    source = f"import {module}\nprint({module}.__file__, {module}.mine)\n"
    _same_as_plain(client, {"main.py": source.encode(), name: b"mine = 1\n"})


def test_no_python_in_the_path(client: Client) -> None:
    _same_as_plain(client, {"main.py": b"print(1)"}, env={"PATH": "/nonexistent"})


def test_another_python_ignores_no_signal_that_this_one_does(client: Client) -> None:
    wait_for_interpreters(client)
    script = "#!/bin/sh\ngrep SigIgn /proc/self/status\n"
    fake = {"name": "python3", "data": script, "mode": 0o755, "source": False}
    files = [{"name": "main.py", "data": "print(1)"}, fake]
    result = client.execute("python", files=files, env={"PATH": "/work:/usr/bin:/bin"}).run
    assert result is not None
    plain = client.run(["grep", "SigIgn", "/proc/self/status"])
    assert result.stdout == plain.stdout


def test_the_same_interpreter_serves_again(client: Client) -> None:
    python(client, "pass")
    wait_for_interpreters(client)
    made = client.stats()["slots"]["slots_made"]
    for _ in range(10):
        assert python(client, "print(1)").stdout == b"1\n"
    wait_for_interpreters(client)
    assert client.stats()["slots"]["slots_made"] == made


def test_an_interpreter_that_dies_is_replaced(warm: Daemon, client: Client) -> None:
    """Before the next job has to find out."""
    python(client, "pass")
    wait_for_interpreters(client)
    made = client.stats()["slots"]["slots_made"]
    for pid in _interpreters(warm):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while client.stats()["slots"]["slots_made"] < made + 2:
        assert time.monotonic() < deadline, client.stats()
        time.sleep(0.02)
    assert python(client, "print(1)").stdout == b"1\n"


def _interpreters(daemon: Daemon) -> list[int]:
    """Those that wait, not the copies of them."""
    found = {}
    for pid in host.descendants(daemon.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"/proc/self/fd/6" in words:
            status = Path(f"/proc/{pid}/status").read_text()
            found[pid] = int(status.split("PPid:")[1].split()[0])
    return [pid for pid, parent in found.items() if parent not in found]
