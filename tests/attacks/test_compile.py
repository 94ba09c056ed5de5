"""Attacks through a compiler that is run as the first stage."""

import re
import shutil
import subprocess
from typing import Any

import pytest

from sandboxd_client import Client, StagesResult
from support.jobs import MIB, MS, SECOND, Stopwatch, job
from support.requirements import missing_compiler, skip

HELLO = b'#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


@pytest.fixture(autouse=True)
def require_compiler() -> None:
    reason = missing_compiler()
    if reason:
        skip(reason)


def compile_and_run(
    client: Client,
    source: bytes,
    *options: str,
    limits: dict[str, int] | None = None,
    **fields: Any,
) -> StagesResult:
    files = {"main.c": source} | fields.pop("files", {})
    compiler = {"argv": ["gcc", "-O0", "-o", "main", "main.c", *options], "limits": limits or {}}
    result = client.run(argv=["./main"], files=files, compile=compiler, **fields)
    assert isinstance(result, StagesResult)
    return result


def assert_compile_failed(result: StagesResult) -> None:
    assert (result.compile.status, result.run) == ("nonzero_exit", None)


def test_honest_source(client: Client) -> None:
    """The stage itself works: ok, and the run stage prints."""
    result = compile_and_run(client, HELLO)
    assert result.compile.status == "ok", result.compile.stderr
    assert result.run is not None
    assert (result.run.status, result.run.stdout) == ("ok", b"hello\n")


@pytest.mark.parametrize("path", ["/etc/shadow", "/root/.bashrc", "/proc/1/environ"])
@pytest.mark.parametrize("form", ['#include "{}"', '__asm__(".incbin \\"{}\\"");'])
def test_files_of_the_host_cannot_be_included(client: Client, path: str, form: str) -> None:
    """C-1: a compile error: only files of the sandbox can be read."""
    result = compile_and_run(client, form.format(path).encode() + b"\nint main(void){return 0;}")
    assert_compile_failed(result)
    assert re.search(b"No such file|Permission denied|file not found", result.compile.stderr)


def test_included_passwd_is_the_sandbox_s(client: Client) -> None:
    """C-1: /etc/passwd is the sandbox's own: no account of the host is in the diagnostics."""
    result = compile_and_run(client, b'#include "/etc/passwd"\nint main(void){return 0;}')
    assert_compile_failed(result)
    for account in (b"daemon", b"www-data", b"/root"):
        assert account not in result.compile.stderr


ENDLESS = {"wall_time_ns": 700 * MS, "memory_bytes": 96 * MIB}


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/dev/tty", "/dev/stdin"])
def test_endless_include(client: Client, path: str) -> None:
    """C-2: a limit of the compile stage, or an error; never a hang, no run stage."""
    source = f'#include "{path}"\nint main(void){{return 0;}}'.encode()
    watch = Stopwatch()
    result = compile_and_run(client, source, limits=ENDLESS)
    assert watch.seconds < 3
    if path == "/dev/stdin":  # Empty: there is nothing endless in it.
        assert result.compile.status == "ok"
        return
    endless = {"wall_time_limit", "memory_limit"}
    refused = {"nonzero_exit", "output_limit"}
    assert result.compile.status in (endless if path == "/dev/zero" else endless | refused)
    assert result.run is None


def test_included_fifo(client: Client) -> None:
    """C-2: wall_time_limit for a pipe nobody writes to."""
    compiler = {
        "argv": ["/bin/sh", "-c", "mkfifo never.h && gcc main.c"],
        "limits": {"wall_time_ns": 500 * MS},
    }
    files = {"main.c": b'#include "never.h"'}
    result = client.run(argv=["./a.out"], files=files, compile=compiler)
    assert (result.compile.status, result.run) == ("wall_time_limit", None)


BOMBS = {
    "include": (b'#include "main.c"\n#include "main.c"\nint main(void){return 0;}', ()),
    "macro": (
        b"#define A(x) x x x x x x x x\n#define B(x) A(A(A(A(x))))\n"
        b"int main(void){ B(B(B(1;))) return 0; }",
        (),
    ),
    "template": (
        b"template<int N, long M> struct T\n"
        b"{ static const int v = T<N - 1, 2 * M>::v ^ T<N - 1, 2 * M + 1>::v; };\n"
        b"template<long M> struct T<0, M> { static const int v = 1; };\n"
        b"int main() { return T<30, 1>::v; }",
        ("-x", "c++"),
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_compiler_bomb(client: Client, bomb: str) -> None:
    """C-3: a limit of the compile stage (or the compiler's own), no run stage."""
    source, options = BOMBS[bomb]
    if bomb == "template" and shutil.which("g++") is None:
        pytest.skip("g++ is not installed; the other bombs need no C++")
    compiler = {"argv": ["gcc", *options, "-o", "main", "main.c"], "limits": ENDLESS}
    watch = Stopwatch()
    result = client.run(argv=["./main"], files={"main.c": source}, compile=compiler)
    assert result.run is None
    limits = {"wall_time_limit", "memory_limit", "cpu_time_limit"}
    if bomb == "include":  # gcc ends it by itself, with diagnostics of any length.
        limits |= {"nonzero_exit", "output_limit"}
    assert result.compile.status in limits
    assert watch.seconds < 3


def test_enormous_binary(client: Client) -> None:
    """C-4: a file or disk limit makes it a compile error; nothing of 1 GiB is written."""
    source = b"int main[0x10000000] = {1};"
    limits = {"file_size_bytes": 16 * MIB, "disk_bytes": 32 * MIB, "wall_time_ns": 5 * SECOND}
    result = compile_and_run(client, source, limits=limits)
    assert result.compile.status in {"nonzero_exit", "memory_limit"}
    assert result.run is None


def test_endless_diagnostics(client: Client) -> None:
    """C-5: output_limit with an exact prefix for 100 MB of diagnostics."""
    source = b"#define A x;x;x;x;x;x;x;x;\n#define B A A A A A A A A\n#define C B B B B B B B B\n"
    source += b"int main(void){ C C C C C C C C }\n" + b"#warning noise\n" * 20_000
    result = compile_and_run(client, source, limits={"output_bytes": 50_000})
    assert (result.compile.status, result.run) == ("output_limit", None)
    assert len(result.compile.stderr) == 50_000
    assert result.compile.stderr.startswith(b"main.c:")


def test_code_that_runs_in_the_compiler(client: Client) -> None:
    """C-6: a compiler plugin's code runs inside the sandbox: no file of the host, no network."""
    probe = (
        b"#include <stdio.h>\n#include <errno.h>\n#include <fcntl.h>\n#include <arpa/inet.h>\n"
        b"#include <sys/socket.h>\n"
        b"__attribute__((constructor)) static void run(void) {\n"
        b"  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80),\n"
        b"                          .sin_addr.s_addr = htonl(0x01010101)};\n"
        b'  int file = open("/etc/shadow", O_RDONLY), error = errno;\n'
        b"  int net = connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a);\n"
        b'  fprintf(stderr, "plugin %d %d %d %d\\n", file, error, net, errno);\n}\n'
        b"int plugin_is_GPL_compatible;\n"
        b"int plugin_init(void *a, void *b) { (void)a; (void)b; return 0; }\n"
    )
    script = "gcc -shared -fPIC -o plugin.so plugin.c && gcc -fplugin=./plugin.so -o main main.c"
    compiler = {"argv": ["/bin/sh", "-c", script]}
    files = {"plugin.c": probe, "main.c": HELLO}
    result = client.run(argv=["./main"], files=files, compile=compiler)
    # ENOENT and ENETUNREACH.
    assert b"plugin -1 2 -1 101\n" in result.compile.stderr
    assert result.compile.status == "ok"


def test_poisoned_output(client: Client) -> None:
    """C-7: what the compile stage leaves as a link is the run stage's own problem: it executes
    what the link names inside the sandbox, and its daemons are dead."""
    compiler = {"argv": ["/bin/sh", "-c", "ln -s /etc/passwd main; ./orphan sleep"]}
    request = job("orphan") | {"argv": ["./main"], "compile": compiler, "collect": ["main"]}
    result = client.run(**request)
    assert result.compile.status == "ok"
    assert (result.run.status, result.run.exit_code) == ("nonzero_exit", 126)
    assert result.run.files == {}


def test_no_result_of_another_compilation(client: Client) -> None:
    """X9: nothing of a compilation is kept: the same request again is compiled again, from its own
    files, whatever an earlier job planted under the names of its output and caches."""
    planted = b"#!/bin/sh\necho planted\n"
    places = " ".join(f"{place}/main" for place in ("/work", "/tmp", "/dev/shm"))
    poison = f"for f in {places}; do cp planted $f; chmod 755 $f; done; mkdir -p .ccache .cache"
    for _ in range(3):
        script = ["/bin/sh", "-c", poison]
        poisoned = client.run(
            argv=["./main"], files={"planted": planted, "main.c": HELLO}, compile={"argv": script}
        )
        assert poisoned.run.stdout == b"planted\n"
        honest = compile_and_run(client, HELLO)
        assert honest.run is not None
        assert honest.run.stdout == b"hello\n"


@pytest.mark.parametrize(
    "name", ["-o", "@options", "-fplugin=x.c", "$(touch planted).c", "a b.c", "'; ls.c"]
)
def test_file_names_are_not_options(client: Client, name: str) -> None:
    """C-8, C-10: a name is one argument, never a shell's word; with ./ in front it is no option."""
    compiler = {"argv": ["gcc", "-x", "c", "-o", "main", f"./{name}"]}
    result = client.run(argv=["./main"], files={name: HELLO}, compile=compiler, collect=["planted"])
    assert result.compile.status == "ok", result.compile.stderr
    assert (result.run.stdout, result.run.files) == (b"hello\n", {})


@pytest.mark.parametrize(
    "option",
    ["-o/x", "-wrapper sh,-c,reboot", "-B/root", "@/etc/shadow", "-I\n/etc", "-dumpdir=/x"],
)
def test_hostile_options_stay_inside(client: Client, option: str) -> None:
    """C-8: options reach the compiler as they are and the compiler is inside the sandbox."""
    result = compile_and_run(client, HELLO, *option.split(" "))
    assert result.compile.status in {"ok", "nonzero_exit"}


def test_object_file_as_source(client: Client) -> None:
    """C-9: an object file or a binary in place of the source: an error or a confined run."""
    binary = subprocess.run(["cat", "/bin/true"], capture_output=True, check=True).stdout
    result = compile_and_run(client, binary)
    # Each odd byte is a line of diagnostics.
    assert result.compile.status in {"nonzero_exit", "output_limit"}
    assert result.run is None


def test_very_many_sources(client: Client) -> None:
    """C-10: 2,000 files with odd names in one request work."""
    files = {f"dir {n % 10}/file#{n}'\"$(x).c": b"" for n in range(2000)}
    result = client.run(
        argv=["/bin/sh", "-c", "find . -type f | wc -l"], files=files, limits={"disk_inodes": 4096}
    )
    assert (result.status, result.stdout) == ("ok", b"2000\n")
