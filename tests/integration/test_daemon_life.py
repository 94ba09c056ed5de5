"""The daemon's life on a real host: how it starts, what it refuses, how it ends, what it leaves."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client
from support import host, invariants, rootless
from support.daemon import Daemon, running
from support.jobs import job
from support.requirements import CLEAN_ENVIRONMENT

pytestmark = pytest.mark.usefixtures("require_sandbox")

COMMAND = [sys.executable, "-m", "sandboxd"]
TIMEOUT_S = 30
# Not the host's own, which is the default.
STATE = ["--state-directory", f"/tmp/sandboxd-test-state-{os.getpid()}"]


def run(*args: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """The command, to its end."""
    state = [] if "--config" in args else STATE
    return subprocess.run(
        [*COMMAND, *state, *map(str, args)], capture_output=True, text=True, timeout=TIMEOUT_S,
        env=CLEAN_ENVIRONMENT | environ, cwd="/",
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_state_is_left() -> Iterator[None]:
    yield
    shutil.rmtree(STATE[1], ignore_errors=True)


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


def await_gone(daemon: Daemon) -> None:
    """Everything of the daemon is gone without anybody's help."""
    deadline = time.monotonic() + 10
    while host.owned_by(daemon.uids) or host.cgroups(daemon.group):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that the daemon's user and others can enter."""
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


# -- the end ----------------------------------------------------------------------------------


def test_sigterm_lets_jobs_end_and_leaves_nothing() -> None:
    with running(jobs=2) as daemon, Client(daemon.socket) as client:
        started = client.start(argv=["sh", "-c", "sleep 0.5; echo done"])
        invariants.await_running(client, 1)
        os.kill(daemon.pid, signal.SIGTERM)
        assert started.wait().stdout == b"done\n"
        assert daemon.process.wait(TIMEOUT_S) == 0
        await_gone(daemon)
        assert "Traceback" not in daemon.log_text()


def test_sigterm_cancels_what_does_not_end_in_time() -> None:
    with (
        running(jobs=2, shutdown_timeout_ns=200_000_000) as daemon,
        Client(daemon.socket) as client,
    ):
        started = client.start(**job("wait_forever", "pause"))
        invariants.await_running(client, 1)
        os.kill(daemon.pid, signal.SIGTERM)
        assert started.wait().status == "cancelled"
        assert daemon.process.wait(TIMEOUT_S) == 0
        await_gone(daemon)


def test_a_second_signal_hurries() -> None:
    with (
        running(jobs=2, shutdown_timeout_ns=60_000_000_000) as daemon,
        Client(daemon.socket) as client,
    ):
        client.start(**job("wait_forever", "pause"))
        invariants.await_running(client, 1)
        start = time.monotonic()
        os.kill(daemon.pid, signal.SIGTERM)
        time.sleep(0.1)
        os.kill(daemon.pid, signal.SIGINT)
        assert daemon.process.wait(TIMEOUT_S) == 0
        assert time.monotonic() - start < 10


def test_while_stopping_nobody_is_let_in() -> None:
    with running(jobs=1) as daemon, Client(daemon.socket) as client:
        client.start(argv=["sleep", "1"])
        invariants.await_running(client, 1)
        os.kill(daemon.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while connects(daemon.socket):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_killed_daemon_is_cleaned_up_by_the_keeper() -> None:
    with running(jobs=2) as daemon, Client(daemon.socket) as client:
        client.start(**job("wait_forever", "pause"))
        invariants.await_running(client, 1)
        daemon.process.kill()
        daemon.process.wait()
        await_gone(daemon)


def test_the_next_start_removes_what_a_power_cut_would_leave() -> None:
    with running(jobs=1) as dead:
        for pid in (dead.pid, *host.descendants(dead.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in (dead.pid, *host.descendants(dead.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        dead.process.wait()
        # Where systemd made a scope for the daemon it has removed all of it by now.
        with running(jobs=1, heir_of=dead):
            assert host.cgroups(dead.group) == []


def test_a_neighbours_groups_are_left_alone() -> None:
    with running(jobs=1) as first, running(jobs=1) as second:
        assert host.cgroups(first.group)
        assert host.cgroups(second.group)
        with Client(first.socket) as client:
            assert client.run(argv=["true"]).status == "ok"


# -- privileges -------------------------------------------------------------------------------


def test_no_capability_after_start() -> None:
    with running(jobs=1) as daemon:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(values[name], 16) == 0, name
        assert values["NoNewPrivs"] == "1"
        assert set(values["Uid"].split()) != {"0"}
        assert values["Groups"].strip() == ""
        for task in Path(f"/proc/{daemon.pid}/task").iterdir():
            assert "CapEff:\t0000000000000000" in (task / "status").read_text()


def test_the_only_directories_still_open_are_the_locks_on_its_cgroups() -> None:
    """What was opened as root stays open after root's privileges are gone."""
    with running(jobs=1) as daemon:
        fds = list(Path(f"/proc/{daemon.pid}/fd").iterdir())
        directories = [os.readlink(fd) for fd in fds if fd.is_dir()]
        assert directories
        assert all(Path(path).name == daemon.group for path in directories), directories


# -- refusing to start ------------------------------------------------------------------------


def test_a_mistake_in_the_configuration_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[limits]\nmemroy_bytes = 1\n")
    done = run("--config", file)
    assert done.returncode == 78
    assert done.stderr == f"sandboxd: {file}: limits.memroy_bytes is not a setting of sandboxd\n"


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        (["--config", "/nowhere.toml"], {}, "there is no such file"),
        ([], {"SANDBOXD_LIMIT": "1"}, "SANDBOXD_LIMIT is not a setting"),
        (["--jobs", "-3"], {}, "command line: jobs"),
        (["--socket", "/proc/x/s"], {}, "cannot make the socket's directory"),
        (["--socket", "/" + "x" * 200], {}, "longer than 107 bytes"),
        ([], {"SANDBOXD_READONLY": "/no-such-directory"}, "does not exist"),
        ([], {"SANDBOXD_USER": "root"}, "must not be root"),
    ],
)
def test_refusals_are_one_line(args: list[str], environ: dict[str, str], words: str) -> None:
    done = run(*args, **environ)
    assert done.returncode in (1, 78)
    assert done.stderr.startswith("sandboxd: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_a_second_daemon_on_the_same_socket_is_refused() -> None:
    with running(jobs=1) as daemon:
        done = run("--socket", daemon.socket)
        assert done.returncode == 1
        assert "another sandboxd listens" in done.stderr
        with Client(daemon.socket) as client:
            assert client.run(argv=["true"]).status == "ok"


def test_nothing_is_left_of_a_start_that_failed() -> None:
    with running(jobs=1) as daemon:
        failed = subprocess.Popen(
            [*COMMAND, "--socket", daemon.socket, *STATE],
            env=CLEAN_ENVIRONMENT,
            stderr=subprocess.DEVNULL,
        )
        assert failed.wait(TIMEOUT_S) == 1
        assert host.cgroups(f"sandboxd-{failed.pid}") == []


def test_a_helper_that_is_not_built(tmp_path: Path) -> None:
    """The sentence names the file, as any other reason not to start."""
    code = (
        "import sys; from pathlib import Path; from sandboxd import __main__, daemon\n"
        "from sandboxd.engine import helper\n"
        "start = daemon.start_keeper\n"
        "daemon.start_keeper = lambda args: start(args, Path('/nowhere/sandbox-helper'))\n"
        f"sys.exit(__main__.main({['--socket', f'{tmp_path}/s', *STATE]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S,
        env=CLEAN_ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot start /nowhere/sandbox-helper: No such file or directory" in done.stderr
    assert not (tmp_path / "s").exists()


# -- private, activated, watched --------------------------------------------------------------


class Private:
    """A private daemon, started as a client library does."""

    def __init__(self, path: Path, *args: str, **environ: str) -> None:
        lifeline, self.lifeline = os.pipe()
        self._ready, ready = os.pipe()
        self.socket = str(path / "s")
        self.process = subprocess.Popen(
            [*COMMAND, "--private", "--socket", self.socket, *args],
            env=CLEAN_ENVIRONMENT
            | {"SANDBOXD_LIFELINE": str(lifeline), "SANDBOXD_READY_FD": str(ready)}
            | environ,
            pass_fds=(lifeline, ready),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(lifeline)
        os.close(ready)

    def said(self) -> bytes:
        """Everything on the ready descriptor, to its end."""
        with os.fdopen(self._ready, "rb") as file:
            return file.read()

    def hang_up(self) -> None:
        os.close(self.lifeline)


def test_private_daemon_lives_as_long_as_its_lifeline(tmp_path: Path) -> None:
    private = Private(tmp_path)
    assert private.said() == b"READY\n"
    assert stat.S_IMODE(os.stat(private.socket).st_mode) == 0o600
    with Client(private.socket) as client:
        assert client.run(argv=["echo", "x"]).stdout == b"x\n"
    private.hang_up()
    assert private.process.wait(TIMEOUT_S) == 0


def test_private_daemon_says_why_it_does_not_start(tmp_path: Path) -> None:
    private = Private(tmp_path, SANDBOXD_READONLY="/no-such-directory")
    assert private.said() == b"readonly: /no-such-directory does not exist\n"
    assert private.process.wait(TIMEOUT_S) == 78
    private.hang_up()


@rootless.starts_its_own
def test_private_daemon_serves_nobody_else(public: Path) -> None:
    """Not even one who got at the socket."""
    private = Private(public)
    assert private.said() == b"READY\n"
    Path(private.socket).chmod(0o666)
    code = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({private.socket!r})\n"
        "sys.stdout.buffer.write(s.recv(1000)); sys.stdout.buffer.write(s.recv(1000))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert b"permission_denied" in said
    private.hang_up()
    assert private.process.wait(TIMEOUT_S) == 0


def await_listening(path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not connects(str(path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_socket_activation(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    code = (
        "import os, socket, sys\n"
        f"s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen()\n"
        "assert s.fileno() == 3; os.set_inheritable(3, True)\n"
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
        f"os.execv(sys.executable, {COMMAND!r})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=CLEAN_ENVIRONMENT, stderr=subprocess.DEVNULL
    ) as process:
        await_listening(tmp_path / "s")
        with Client(path) as client:  # It waits in the backlog until the daemon is ready.
            assert client.run(argv=["true"]).status == "ok"
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    assert os.path.exists(path)  # systemd's, not ours.


@contextlib.contextmanager
def notified(public: Path, **environ: str) -> Iterator[tuple[socket.socket, Path]]:
    """A daemon whose service manager is the test: the manager's socket, the daemon's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(public / "notify"))
        (public / "notify").chmod(0o666)
        manager.settimeout(TIMEOUT_S)
        process = subprocess.Popen(
            [
                *COMMAND,
                "--socket",
                str(public / "s"),
                "--jobs",
                "1",
                "--state-directory",
                str(public / "state"),
            ],
            env=CLEAN_ENVIRONMENT | {"NOTIFY_SOCKET": str(public / "notify")} | environ,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield manager, public / "s"
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def listen_until(manager: socket.socket, word: str, count: int = 1) -> list[str]:
    seen: list[str] = []
    while seen.count(word) < count:
        seen += manager.recv(4096).decode().split("\n")
    return seen


def test_notifications(public: Path) -> None:
    with notified(public, WATCHDOG_USEC="200000") as (manager, _):
        seen = listen_until(manager, "WATCHDOG=1", 3)
        assert seen.index("STATUS=running the self test") < seen.index("READY=1")
        assert seen.index("READY=1") < seen.index("WATCHDOG=1")


def test_stopping_is_told(public: Path) -> None:
    with contextlib.ExitStack() as stack:
        with notified(public) as (manager, _):
            listen_until(manager, "READY=1")
            copy = stack.enter_context(manager.dup())
        copy.settimeout(TIMEOUT_S)
        said = listen_until(copy, "STOPPING=1")
        # shutdown_timeout_ns is 10 s; systemd kills what takes longer than it was told.
        (extended,) = (line for line in said if line.startswith("EXTEND_TIMEOUT_USEC="))
        assert int(extended.partition("=")[2]) > 10_000_000


def test_no_watchdog_without_an_answer_of_the_helper(public: Path) -> None:
    """A worker that hangs (here: is stopped) means that the daemon is as good as dead."""
    with notified(public, WATCHDOG_USEC="200000") as (manager, path):
        listen_until(manager, "WATCHDOG=1")
        with Client(str(path)) as client:
            worker = int(client.info()["helper"]["pid"])
            os.kill(worker, signal.SIGSTOP)
            try:
                manager.settimeout(1.0)
                with pytest.raises(TimeoutError):
                    listen_until(manager, "WATCHDOG=1", 3)  # One or two may be on their way.
            finally:
                os.kill(worker, signal.SIGCONT)
        manager.settimeout(TIMEOUT_S)
        listen_until(manager, "WATCHDOG=1", 2)


# -- the command ------------------------------------------------------------------------------


def test_check_as_json() -> None:
    done = run("--check", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert report["ok"] is True
    names = {feature["name"] for feature in report["features"]}
    assert {"seccomp", "mount_api", "limit.memory_bytes", "limit.cpu_time_ns"} <= names
    assert any(name.startswith("cgroup.") for name in names)
    for feature in report["features"]:
        assert set(feature) == {"name", "ok", "required", "detail", "hint"}


def test_check_for_people() -> None:
    done = run("--check")
    assert done.returncode == 0
    assert "everything that is required is there" in done.stdout
    assert "INFO" not in done.stdout


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("sandboxd 0.")
    assert "--socket" in run("--help").stdout


@rootless.starts_its_own
def test_standard_descriptors_that_are_closed(tmp_path: Path) -> None:
    """K30: whoever starts the daemon may have closed 0, 1 and 2."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    code = (
        "import os, sys\n"
        f"os.environ['SANDBOXD_READY_FD'] = '{writer}'\n"
        "[os.close(fd) for fd in (0, 1, 2)]\n"
        f"os.execv(sys.executable, {[*COMMAND, '--socket', str(tmp_path / 's'), *STATE]!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=CLEAN_ENVIRONMENT, pass_fds=(writer,)
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        assert select.select([ready], [], [], TIMEOUT_S)[0]
        assert ready.read() == b"READY\n"
    with Client(str(tmp_path / "s")) as client:
        assert client.run(argv=["sh", "-c", "echo out; cat"]).stdout == b"out\n"
    process.terminate()
    assert process.wait(TIMEOUT_S) == 0


def test_a_directory_no_sandbox_can_reach_is_said_at_the_start(public: Path) -> None:
    """It would otherwise fail each job that asks for it."""
    hidden = public / "closed/data"
    hidden.mkdir(parents=True)
    hidden.parent.chmod(0o700)
    config = public / "sandboxd.toml"
    config.write_text(
        f'state_directory = "{public}/state"\n'
        f'[mounts]\ndata = {{source = "{hidden}", target = "/data"}}\n'
    )
    ended = run("--config", config, "--socket", public / "socket")
    assert ended.returncode == 1
    assert f"mounts.data.source: {hidden}: Permission denied" in ended.stderr
    assert "chmod o+x" in ended.stderr
