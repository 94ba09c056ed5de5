"""Programs by language, over the socket: real tools, real files, real sandboxes."""

import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd import runtimes
from sandboxd.config import Config
from sandboxd_client import Client, ExecuteResult, RequestError
from sandboxd_client.aio import TrioClient
from support.daemon import Daemon, running
from support.jobs import MIB, MS, SECOND

pytestmark = pytest.mark.usefixtures("require_sandbox")

HELLO_C = '#include <stdio.h>\nint main(int c, char **v) { printf("%s %d\\n", v[c - 1], c); }\n'
# Detection runs every tool of the host, and this machine may be busy.
READY_S = 60.0


class Host:
    """A daemon with a directory of runtime files and one of tools that its jobs can see."""

    def __init__(self, daemon: Daemon, tools: Path) -> None:
        self.daemon = daemon
        self.tools = tools
        self.state = daemon.log.parent / "state"
        self.runtimes = daemon.log.parent / "runtimes"
        self.runtimes.mkdir(exist_ok=True)

    def install(self, name: str, script: str) -> None:
        """A tool is there from now on, or is another one."""
        new = self.tools / f"{name}.new"
        new.write_text(f"#!/bin/sh\n{script}\n")
        new.chmod(0o755)
        new.rename(self.tools / name)

    def describe(self, file: str, language: str, tool: str, more: str = "") -> Path:
        program = self.tools / tool
        path = self.runtimes / f"{file}.toml"
        path.write_text(
            f'language = "{language}"\n'
            f'[version]\nprograms = ["{program}"]\ncommand = ["{program}", "-V"]\n'
            f'pattern = "version ([0-9.]+)"\n{more}\n'
            f'[run]\ncommand = ["{program}", "{{main}}", "{{args}}"]\n'
        )
        return path


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with tools_directory() as tools, running(**settings(tools), jobs=3) as daemon:
        yield Host(daemon, tools)
        assert daemon.process.poll() is None, f"the daemon died:\n{daemon.log_text()}"


@contextlib.contextmanager
def tools_directory() -> Iterator[Path]:
    """Not below /tmp: jobs have one of their own."""
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-tools-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def settings(tools: Path) -> dict[str, object]:
    return {"readonly": [*Config().readonly_directories(), str(tools)]}


@pytest.fixture
def client(host: Host) -> Iterator[Client]:
    with Client(host.daemon.socket) as client:
        yield client


@pytest.fixture(autouse=True)
def no_leftovers(host: Host) -> Iterator[None]:
    yield
    for path in (*host.runtimes.iterdir(), *host.tools.iterdir()):
        path.unlink()


def versions(client: Client, language: str) -> list[str]:
    return [info["version"] for info in client.runtimes() if info["language"] == language]


# -- the languages of every host -----------------------------------------------------------------


def test_the_list(client: Client) -> None:
    runtimes = {info["language"]: info for info in client.runtimes()}
    for language, compiled in (("bash", False), ("python", False), ("c", True)):
        info = runtimes[language]
        assert info["compiled"] is compiled
        assert not info["package"]
        assert [part.isdigit() for part in info["version"].split(".")] == [True] * 3
    assert "gcc" in runtimes["c"]["aliases"]


def test_bash(client: Client) -> None:
    result = client.execute("bash", ['echo "$2"; cat; exit 3'], args=["a", "b c"], stdin=b"\xffx")
    assert isinstance(result, ExecuteResult)
    assert result.compile is None
    assert result.run is not None
    assert (result.run.status, result.run.exit_code) == ("nonzero_exit", 3)
    assert result.run.stdout == b"b c\n\xffx"
    assert (result.language, result.version) == ("bash", versions(client, "bash")[0])


def test_python_with_a_module_and_data(client: Client) -> None:
    files = [
        {"name": "main.py", "data": "import lib; print(lib.x, open('in.txt').read())"},
        {"name": "lib.py", "data": "x = 7"},
        {"name": "in.txt", "data": b"data", "source": False},
    ]
    result = client.execute("py", files)
    assert result.run is not None
    assert result.run.stdout == b"7 data\n", result


def test_c(client: Client) -> None:
    result = client.execute("c", [HELLO_C], args=["last"])
    assert result.compile is not None
    assert result.compile.status == "ok"
    assert result.run is not None
    assert result.run.stdout == b"last 2\n"


def test_c_of_several_files(client: Client) -> None:
    files = [
        {"name": "main.c", "data": '#include "sum.h"\nint main(void) { return sum(40, 2); }'},
        {"name": "lib/sum.c", "data": "int sum(int a, int b) { return a + b; }"},
        {"name": "sum.h", "data": "int sum(int, int);"},
    ]
    result = client.execute("gcc", files)
    assert result.run is not None
    assert result.run.exit_code == 42, result


def test_what_does_not_compile_does_not_run(client: Client) -> None:
    result = client.execute("c", ["int main("])
    assert result.run is None
    assert result.compile is not None
    assert (result.compile.status, result.compile.exit_code) == ("nonzero_exit", 1)
    assert b"error" in result.compile.stderr
    assert not result.ok


def test_variables_and_other_fields(client: Client) -> None:
    program = 'echo "$A $HOME"; echo err >&2; echo made > made.txt'
    result = client.execute("bash", [program], env={"A": "x"}, output=True, collect=["*.txt"])
    assert result.run is not None
    assert result.run.output == b"x /work\nerr\n"
    assert result.run.files == {"made.txt": b"made\n"}


def test_limits_of_a_stage(client: Client) -> None:
    run = {"limits": {"wall_time_ns": 200 * MS}}
    result = client.execute("bash", ["sleep 10"], run=run)
    assert result.run is not None
    assert result.run.status == "wall_time_limit"
    loop = "#define A B B\n#define B C C\n#include __FILE__\n"
    limits = {"limits": {"cpu_time_ns": 100 * MS}}
    result = client.execute("c", [loop + "int main(void) {}"], compile=limits)
    assert result.compile is not None
    assert result.compile.status in ("cpu_time_limit", "nonzero_exit")
    assert result.run is None


def test_passed_descriptors(client: Client) -> None:
    reader, writer = os.pipe()
    try:
        client.execute("bash", ["echo through"], fds={"stdout": writer})
        assert os.read(reader, 100) == b"through\n"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("language", "version", "message"),
    [
        ("c", "99.0", "c-99.0 runtime is unknown"),
        ("klingon", "*", "klingon-* runtime is unknown"),
        ("c", "not a range", "c-not a range runtime is unknown"),
    ],
)
def test_an_unknown_runtime(client: Client, language: str, version: str, message: str) -> None:
    for call in (client.execute, client.start_execute):
        with pytest.raises(RequestError) as caught:
            call(language, ["x"], version=version)
        assert (caught.value.code, str(caught.value)) == ("not_found", message)


# -- started ones --------------------------------------------------------------------------------


def test_streaming(client: Client) -> None:
    echo = (
        "#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != EOF) putchar(c); }"
    )
    with client.start_execute("c", [echo], stream=True, stdin_stream=True) as job:
        assert (job.language, job.version) == ("c", versions(client, "c")[0])
        job.write(b"one ")
        job.write(b"two")
        job.close_stdin()
        output = b"".join(data for stream, data in job if stream == "stdout")
        result = job.wait()
    assert output == b"one two"
    assert job.stage == "run"
    assert isinstance(result, ExecuteResult)
    assert result.compile is not None
    assert result.ok


def test_streaming_what_does_not_compile(client: Client) -> None:
    with client.start_execute("c", ["int main("], stream=True) as job:
        errors = b"".join(data for stream, data in job if stream == "stderr")
        result = job.wait()
    assert b"error" in errors
    assert result.run is None
    assert job.stage == "compile"


def test_terminal(client: Client) -> None:
    program = "import os; print(os.isatty(0), *os.get_terminal_size()); print(input())"
    tty = {"rows": 10, "columns": 33}
    with client.start_execute("python", [program], stream=True, tty=tty) as job:
        job.write(b"typed\n")
        output = b"".join(data for _, data in job)
        assert job.wait().ok
    assert output.replace(b"\r", b"").split(b"\n")[-4:-1] in (
        [b"True 33 10", b"typed", b"typed"],
        [b"typed", b"True 33 10", b"typed"],
    )


def test_cancelling(client: Client) -> None:
    job = client.start_execute("bash", ["sleep 60"])
    job.cancel()
    result = job.wait()
    assert result.run is not None
    assert result.run.status == "cancelled"


async def test_the_trio_client(host: Host) -> None:
    async with await TrioClient.connect(host.daemon.socket) as client:
        assert {"bash", "c"} <= {info["language"] for info in await client.runtimes()}
        result = await client.execute("c", [HELLO_C], args=["x"])
        assert result.run is not None
        assert result.run.stdout == b"x 2\n"
        async with await client.start_execute("bash", ["echo hi"], stream=True) as job:
            assert [data async for _, data in job] == [b"hi\n"]
            assert (await job.wait()).language == "bash"
        with pytest.raises(RequestError, match="runtime is unknown"):
            await client.execute("klingon", ["x"])


# -- files and tools of the administrator --------------------------------------------------------


def test_a_file_that_is_dropped_in(host: Host, client: Client) -> None:
    with pytest.raises(RequestError):
        client.execute("upper", ["x"])
    host.install("upper", '[ "$1" = -V ] && echo version 1.2 && exit\ntr a-z A-Z < "$1"')
    path = host.describe("upper", "upper", "upper")
    result = client.execute("upper", ["text"])
    assert (result.version, result.last.stdout) == ("1.2.0", b"TEXT")
    path.unlink()
    with pytest.raises(RequestError, match=r"upper-\* runtime is unknown"):
        client.execute("upper", ["text"])


def test_a_file_that_replaces_a_builtin_one(host: Host, client: Client) -> None:
    text = (Path(runtimes.__file__).parent / "builtin/bash.toml").read_text()
    (host.runtimes / "bash.toml").write_text(text.replace('"{main}"', '"-c", "echo mine"'))
    assert client.execute("bash", ["x"]).last.stdout == b"mine\n"
    (host.runtimes / "bash.toml").unlink()
    assert client.execute("bash", ["echo x"]).last.stdout == b"x\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("language = \n", "Invalid value"),
        ('langauge = "x"\n', "langauge is not a setting of sandboxd"),
        ('language = "x"\n[version]\nprograms = ["x"]\nfixed = "1"\n', "run is missing"),
    ],
)
def test_a_bad_file_is_left_out_and_logged(
    host: Host, client: Client, text: str, problem: str
) -> None:
    bad = host.runtimes / "bad.toml"
    bad.write_text(text)
    assert "bash" in {info["language"] for info in client.runtimes()}
    line = [line for line in host.daemon.log_text().splitlines() if str(bad) in line][-1]
    assert problem in line
    assert client.execute("bash", ["echo x"]).ok


def test_a_tool_that_changes(host: Host, client: Client) -> None:
    host.install("tool", "echo version 1.0")
    host.describe("tool", "tool", "tool")
    assert client.execute("tool", ["x"]).version == "1.0.0"
    host.install("tool", "echo version 2.0")
    assert versions(client, "tool") == ["2.0.0"]
    assert client.execute("tool", ["x"]).version == "2.0.0"
    with pytest.raises(RequestError):
        client.execute("tool", ["x"], version="1")
    (host.tools / "tool").unlink()
    assert versions(client, "tool") == []


def test_two_versions_of_one_language(host: Host, client: Client) -> None:
    for version in ("1.9", "1.10", "2.0.1"):
        host.install(f"t{version}", f"echo version {version}")
        host.describe(f"t{version}", "t", f"t{version}")
    assert sorted(versions(client, "t")) == ["1.10.0", "1.9.0", "2.0.1"]
    for range_, version in (("*", "2.0.1"), ("1", "1.10.0"), ("~1.9.0", "1.9.0"), ("<2", "1.10.0")):
        result = client.execute("t", ["x"], version=range_)
        assert result.version == version
        assert result.last.stdout == f"version {version.removesuffix('.0')}\n".encode()


def test_limits_of_a_runtime(host: Host, client: Client) -> None:
    script = '[ "$1" = -V ] && echo version 1 && exit\nulimit -n; head -c 50000000 /dev/zero | tail'
    host.install("small", script)
    path = host.describe("small", "small", "small")
    path.write_text(path.read_text() + '[run.limits]\nmemory_bytes = "16M"\nopen_files = 37\n')
    result = client.execute("small", ["x"])
    assert result.last.status == "memory_limit", result
    assert result.last.stdout.startswith(b"37\n")
    info = next(info for info in client.runtimes() if info["language"] == "small")
    assert info["limits"]["run"] == {"memory_bytes": 16 * MIB, "open_files": 37}
    run = {"limits": {"memory_bytes": 256 * MIB}}
    assert client.execute("small", ["x"], run=run).last.status in ("ok", "output_limit")


def test_a_tool_that_fails_harms_nothing(host: Host, client: Client) -> None:
    for name, script in (
        ("silent", "exit 1"),
        ("killed", "kill -9 $$"),
        ("spinning", "while :; do :; done"),
        ("eating", "tail /dev/zero"),
        ("shouting", "yes version"),
        ("forking", 'f() { f | f & }; f; echo "version x"'),
    ):
        host.install(name, script)
        path = host.describe(name, name, name)
        path.write_text(
            path.read_text() + '[run.limits]\ncpu_time_ns = "300ms"\nmemory_bytes = "32M"\n'
        )
        assert client.execute("bash", ["echo x"]).ok
    languages = {info["language"] for info in client.runtimes()}
    assert {"bash", "c", "python"} <= languages
    assert languages.isdisjoint({"silent", "killed", "spinning", "eating", "shouting", "forking"})
    assert client.health()["status"] == "ok"


def test_the_version_is_found_out_inside(host: Host, client: Client) -> None:
    """With no right that a job has not, and no way to touch what others have."""
    evil = host.tools / "evil-was-here"
    host.install(
        "inner", f"touch {evil} 2>/dev/null\nid -u > /work/id && echo version 1.$(cat /work/id)"
    )
    host.describe("inner", "inner", "inner")
    (version,) = versions(client, "inner")
    assert version.split(".")[1] == client.run(["id", "-u"]).stdout.decode().strip() != "0"
    assert not evil.exists()


# -- daemons of their own ------------------------------------------------------------------------


def test_a_tool_that_hangs_holds_up_nobody_else() -> None:
    wall = {"wall_time_ns": SECOND}
    with (
        tools_directory() as tools,
        running(**settings(tools), jobs=2, limits=wall, max_limits=wall) as daemon,
        Client(daemon.socket) as client,
        Client(daemon.socket) as other,
    ):
        host = Host(daemon, tools)
        host.install("hanging", "sleep 1000")
        host.describe("hanging", "hanging", "hanging")
        ended = threading.Event()

        def ask() -> None:
            with contextlib.suppress(RequestError):
                other.execute("hanging", ["x"])
            ended.set()

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert client.run(["true"]).ok
            assert ended.wait(READY_S)
        finally:
            asking.join()
        assert client.run(["true"]).ok
        with pytest.raises(RequestError, match="runtime is unknown"):
            client.execute("hanging", ["x"])


def test_what_is_known_is_kept_on_the_disk() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "runtimes.json"
        options = {"jobs": 2, "state_directory": directory, "detect_at_start": True}
        with running(**options) as daemon, Client(daemon.socket) as client:
            (version,) = versions(client, "bash")
        known = json.loads(file.read_text())
        assert known["runtimes"]["bash.toml"]["version"] == version
        known["runtimes"]["bash.toml"]["version"] = "9.9.9"  # Not what it would say.
        file.write_text(json.dumps(known))
        with running(**options) as daemon, Client(daemon.socket) as client:
            assert versions(client, "bash") == ["9.9.9"]
            assert client.execute("bash", ["echo x"], version="9").ok


def test_the_end_does_not_wait_for_detection() -> None:
    with (
        tools_directory() as tools,
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
    ):
        Path(directory).chmod(0o755)
        tool = tools / "tool"
        tool.write_text("#!/bin/sh\nsleep 1000\n")
        tool.chmod(0o755)
        # The first of all, so that it is what is being looked at.
        (Path(directory) / "0.toml").write_text(
            f'language = "x"\n[version]\nprograms = ["{tool}"]\ncommand = ["{tool}"]\n'
            "pattern = '(.)'\n[run]\ncommand = [\"x\"]\n"
        )
        options = {"jobs": 2, "runtimes_directory": directory, "detect_at_start": True}
        with running(**settings(tools), **options) as daemon:
            with Client(daemon.socket) as client:
                while not client.stats()["queue"]["running"]:
                    time.sleep(0.01)
            begin = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - begin < 5
