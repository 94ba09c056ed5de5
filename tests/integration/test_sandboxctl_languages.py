"""`sandboxctl execute` and `runtimes` as a person uses them: real compilers, real terminals."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from sandboxd_client import DEFAULT_SOCKET, Client
from support import host
from support.daemon import Daemon
from support.requirements import CLEAN_ENVIRONMENT
from support.terminal import COMMAND, Terminal

Execute = Callable[..., "subprocess.CompletedProcess[bytes]"]
Open = Callable[..., Terminal]

CAT = """\
#include <stdio.h>
int main(int n, char **v) {
  for (int i = 1; i < n; i++) printf("[%s]", v[i]);
  for (int c; (c = getchar()) != EOF;) putchar(c);
  fprintf(stderr, "to stderr");
  return 3;
}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def write_(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_


@pytest.fixture
def execute(daemon: Daemon) -> Execute:
    def execute_(*argv: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        options = {"input": b"", "env": CLEAN_ENVIRONMENT, "timeout": 60} | options
        command = [*COMMAND, "execute", "--socket", daemon.socket, *argv]
        return subprocess.run(command, capture_output=True, **options)

    return execute_


@pytest.fixture
def terminals(daemon: Daemon) -> Iterator[Open]:
    """Open a terminal with `sandboxctl execute --interactive ...` in it."""
    with contextlib.ExitStack() as stack:

        def open_(*argv: str) -> Terminal:
            line = ("execute", "--socket", daemon.socket, "--interactive", *argv)
            return stack.enter_context(Terminal(*line))

        yield open_


def said(done: "subprocess.CompletedProcess[bytes]") -> tuple[int, bytes, bytes]:
    return done.returncode, done.stdout, done.stderr


Write = Callable[[str, str], str]


def test_compiled_and_run(execute: Execute, write: Write) -> None:
    data = os.urandom(300_000)
    done = execute("c", write("cat.c", CAT), "a b", "--json", input=data)
    assert said(done) == (3, b"[a b][--json]" + data, b"to stderr")


def test_interpreted_with_a_version_and_another_name(execute: Execute, write: Write) -> None:
    source = write("a.py", "import sys; print(sys.version_info[0], input())")
    assert said(execute("py=3.x", source, input=b"in\n")) == (0, b"3 in\n", b"")


def test_a_source_from_stdin_and_stdin_from_a_file(execute: Execute, write: Write) -> None:
    given = write("in", "given\n")
    source = b"#include <stdio.h>\nint main() { puts(__FILE__); }"
    assert said(execute("c", "-", input=source)) == (0, b"main.c\n", b"")
    source = b"print(input())"
    assert said(execute("--stdin", given, "python", "-", input=source)) == (0, b"given\n", b"")


def test_further_files(execute: Execute, write: Write) -> None:
    main = write(
        "main.c", '#include "six.h"\n#include <stdio.h>\nint main() { printf("%d", six()); }'
    )
    six = write("six.c", '#include "six.h"\nint six(void) { return 6; }')
    header = write("six.h", "int six(void);")
    assert said(execute("--file", six, "--file", header, "c", main)) == (0, b"6", b"")


def test_collected_files(execute: Execute, write: Write, tmp_path: Path) -> None:
    source = write("a.sh", "echo made > out")
    (tmp_path / "here").mkdir()
    done = execute("--collect", "out", "bash", source, cwd=tmp_path / "here")
    assert said(done) == (0, b"", b"")
    assert (tmp_path / "here" / "out").read_text() == "made\n"


def test_warnings_go_to_stderr(execute: Execute, write: Write) -> None:
    done = execute("c", write("w.c", '#warning "look"\nint main() { return 0; }'))
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"warning: #warning" in done.stderr


def test_a_compile_error(execute: Execute, write: Write) -> None:
    done = execute("c", write("bad.c", "int main( {"))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"bad.c:1:" in done.stderr
    assert done.stderr.endswith(b"\nsandboxctl: bad.c was not compiled, so nothing was run\n")


def test_limits_of_each_stage(execute: Execute, write: Write) -> None:
    source = write("cat.c", CAT)
    done = execute("--compile-time", "1ms", "c", source)
    assert (done.returncode, done.stdout) == (124, b"")
    assert done.stderr.count(b"\n") == 1
    done = execute("--wall-time", "300ms", "python", write("s.py", "import time; time.sleep(9)"))
    assert done.returncode == 124
    assert done.stderr == b"sandboxctl: the program ran longer than its limit of 300 ms\n"
    memory = write("m.py", "bytearray(99 << 20)")
    done = execute("--memory", "64M", "--compile-memory", "1G", "python", memory)
    assert done.returncode == 124


def test_variables_are_added(execute: Execute, write: Write) -> None:
    source = write("e.sh", "echo $A $HOME; command -v ls")
    assert said(execute("--env", "A=1", "bash", source)) == (0, b"1 /work\n/usr/bin/ls\n", b"")


def test_json(execute: Execute, write: Write) -> None:
    done = execute("--json", "gcc", write("cat.c", CAT), input=b"in")
    assert (done.returncode, done.stderr) == (3, b"")
    answer = json.loads(done.stdout)
    assert answer["language"] == "c"
    assert answer["compile"]["status"] == "ok"
    assert (answer["run"]["stdout"], answer["run"]["exit_code"]) == ("in", 3)
    done = execute("--json", "c", write("bad.c", "int main( {"))
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["run"]) == (1, None)
    assert "bad.c:1:" in answer["compile"]["stderr"]


def test_a_language_that_is_not_there(execute: Execute, write: Write) -> None:
    source = write("a.py", "")
    assert said(execute("pyton", source)) == (
        125,
        b"",
        b"sandboxctl: pyton-* runtime is unknown; did you mean python or python3?\n",
    )
    done = execute("python=1.x", source)
    assert b"python-1.x runtime is unknown; there is python=3." in done.stderr


def test_output_comes_while_it_runs(daemon: Daemon, write: Write) -> None:
    source = write("echo.py", "import sys\nfor line in sys.stdin: print(line, end='', flush=True)")
    with subprocess.Popen(
        [*COMMAND, "execute", "--socket", daemon.socket, "python", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=CLEAN_ENVIRONMENT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.close()
        assert process.wait(10) == 0


def test_runtimes(daemon: Daemon) -> None:
    command = [*COMMAND, "runtimes", "--socket", daemon.socket]
    done = subprocess.run(command, capture_output=True, env=CLEAN_ENVIRONMENT, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["LANGUAGE", "VERSION", "OTHER", "NAMES", "COMPILED", "FROM"]
    assert any(line.startswith("python ") and line.endswith(" host") for line in lines)
    done = subprocess.run([*command, "--json"], capture_output=True, env=CLEAN_ENVIRONMENT)
    runtimes = json.loads(done.stdout)["runtimes"]
    assert len(runtimes) == len(lines)
    with Client(daemon.socket) as client:
        assert runtimes == json.loads(json.dumps(client.call("runtime.list", {})["runtimes"]))


# With a terminal.


# Its handlers write themselves: a handler in Python waits for the end of the read it interrupts
# where the signal comes just before it.
GAME = """\
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
static void show_size(int number) {
  struct winsize size;
  ioctl(0, TIOCGWINSZ, &size);
  dprintf(1, "%d by %d, %d\\n", size.ws_row, size.ws_col, isatty(0));
}
static void say_so(int number) { dprintf(1, "interrupted\\n"); }
int main() {
  char line[100];
  signal(SIGWINCH, show_size);
  signal(SIGINT, say_so);
  show_size(0);
  while (dprintf(1, "> "), fgets(line, 100, stdin)) dprintf(1, "<%s", line);
  dprintf(1, "the end\\n");
  return 5;
}
"""
ECHO = """\
import os
print(os.get_terminal_size(), os.isatty(0), flush=True)
try:
    while True: print(f"<{input('> ')}>", flush=True)
except EOFError:
    print("the end")
    raise SystemExit(5)
"""


def test_a_session(terminals: Open, write: Write) -> None:
    """Size, echo, Ctrl-C as often as one likes, a new size, Ctrl-D, and all is put back."""
    terminal = terminals("c", write("game.c", GAME))
    terminal.until(b"30 by 100, 1\r\n> ")
    assert terminal.is_raw
    terminal.type(b"typed\r")
    terminal.until(b"> typed\r\n<typed\r\n> ")
    for _ in range(3):
        terminal.seen = b""
        terminal.type(b"\x03")
        terminal.until(b"interrupted\r\n")
    terminal.resize(50, 132)
    terminal.until(b"50 by 132, 1")
    terminal.type(b"\x04")
    terminal.until(b"the end\r\n")
    assert terminal.end() == 5
    assert terminal.is_as_before
    assert b"sandboxctl" not in terminal.seen


def test_a_session_of_an_interpreter(terminals: Open, write: Write) -> None:
    terminal = terminals("python", write("echo.py", ECHO))
    terminal.until(b"os.terminal_size(columns=100, lines=30) True\r\n> ")
    terminal.type(b"a\r")
    terminal.until(b"<a>\r\n> ")
    terminal.type(b"\x04")
    terminal.until(b"the end\r\n")
    assert terminal.end() == 5
    assert terminal.is_as_before


# Ten thousand million expansions of a macro that is nothing.
ENDLESS = "#define E0\n" + "".join(
    f"#define E{n} {f'E{n - 1} ' * 10}\n" for n in range(1, 11)
) + "E10\nint main() {}\n"  # fmt: skip


def test_ctrl_c_stops_the_compiler(terminals: Open, write: Write) -> None:
    """The terminal is still as it was, and a second one is not needed."""
    terminal = terminals("c", write("slow.c", ENDLESS))
    with _Processes.below(terminal.process.pid) as children:
        assert not children.pids, "the guard of the terminal comes with raw mode"
    time.sleep(0.5)
    assert not terminal.is_raw
    terminal.type(b"\x03")
    assert terminal.end() == 128 + signal.SIGINT
    assert terminal.is_as_before


def test_a_size_that_changed_while_it_was_compiled(terminals: Open, write: Write) -> None:
    program = """\
        #include <stdio.h>
        #include <sys/ioctl.h>
        int main() {
          struct winsize w;
          ioctl(0, TIOCGWINSZ, &w);
          printf("%d by %d\\n", w.ws_row, w.ws_col);
          getchar();
          ioctl(0, TIOCGWINSZ, &w);
          printf("%d by %d\\n", w.ws_row, w.ws_col);
        }"""
    terminal = terminals("c", write("size.c", program))
    time.sleep(0.1)
    terminal.resize(40, 90)
    terminal.until(b" by ")
    terminal.type(b"\r")
    terminal.until(b"40 by 90\r\n")
    assert terminal.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_put_back_when_told_to_end(terminals: Open, write: Write, number: int) -> None:
    terminal = terminals("python", write("echo.py", ECHO))
    terminal.until(b"> ")
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number
    assert terminal.is_as_before


class _Processes:
    """Processes to wait for."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids = list(pids)
        self._fds = [os.pidfd_open(pid) for pid in self.pids]

    @classmethod
    def below(cls, pid: int) -> Self:
        return cls(child for child in host.descendants(pid) if child != pid)

    @classmethod
    def with_argument(cls, pid: int, argument: bytes) -> Self:
        """Those below `pid` that have `argument` as one of theirs."""
        family = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in host.descendants(pid)}
        return cls(pid for pid, argv in family.items() if argument in argv.split(b"\0"))

    def wait(self) -> None:
        for fd in self._fds:
            assert select.select([fd], [], [], 10)[0], "one lives on"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGSEGV])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "with its group"])
def test_put_back_even_when_killed(
    daemon: Daemon, terminals: Open, write: Write, number: int, group: bool
) -> None:
    """Nobody asks the one who is killed; a guard does it, and the job ends with the connection."""
    terminal = terminals("python", write("echo.py", ECHO), "to-be-found")
    terminal.until(b"> ")
    assert terminal.is_raw
    with (
        _Processes.below(terminal.process.pid) as guard,
        _Processes.with_argument(daemon.pid, b"to-be-found") as job,
    ):
        assert len(guard.pids) == len(job.pids) == 1
        (os.killpg if group else os.kill)(terminal.process.pid, number)
        assert terminal.end() == -number
        guard.wait()
        assert terminal.is_as_before
        job.wait()


def test_the_guard_ends_with_us(terminals: Open, write: Write) -> None:
    terminal = terminals("python", write("echo.py", ECHO))
    terminal.until(b"> ")
    with _Processes.below(terminal.process.pid) as children:
        assert len(children.pids) == 1
        terminal.type(b"\x04")
        assert terminal.end() == 5
        children.wait()


def test_interactive_without_a_terminal(execute: Execute, write: Write) -> None:
    """The program has one all the same; the end of our stdin is its Ctrl-D."""
    done = execute("--interactive", "python", write("echo.py", ECHO), input=b"x\n")
    assert done.returncode == 5
    assert b"os.terminal_size(columns=80, lines=24) True\r\n" in done.stdout
    assert done.stdout.endswith(b"the end\r\n")


# Without a daemon.


def test_a_private_daemon_executes(require_sandbox: None, write: Write, tmp_path: Path) -> None:
    if os.path.exists(DEFAULT_SOCKET):
        pytest.skip(f"a daemon listens at {DEFAULT_SOCKET}")
    (tmp_path / "tmp").mkdir()
    environment = CLEAN_ENVIRONMENT | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([*COMMAND, "execute", "c", write("cat.c", CAT)], input=b"hello",
                          capture_output=True, env=environment)  # fmt: skip
    assert said(done) == (3, b"hello", b"to stderr")
    assert list((tmp_path / "tmp").iterdir()) == []
