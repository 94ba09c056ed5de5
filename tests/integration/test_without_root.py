"""The daemon of an ordinary user: what it can do, what it refuses, what it says is weaker."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import DEFAULT_SOCKET, Client, DaemonUnreachable
from support import host, invariants, rootless
from support.daemon import Daemon, take_uids
from support.environments import import_bytes, shell
from support.images import small_root, tar
from support.jobs import MIB, SECOND, job, run
from support.requirements import CLEAN_ENVIRONMENT, need_readable_tree, skip
from support.warm import python, wait_for_interpreters

pytestmark = pytest.mark.usefixtures("require_sandbox", "usable")

TIMEOUT_S = 30
SANDBOXD = [sys.executable, "-m", "sandboxd"]
SANDBOXCTL = [sys.executable, "-m", "sandboxctl"]
NOBODY = 65534


@pytest.fixture(scope="module")
def usable() -> None:
    need_readable_tree()
    if shutil.which("newuidmap") is None:
        skip("newuidmap is not installed: apt-get install uidmap")


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def account(place: Path) -> Iterator[rootless.Account]:
    account = rootless.Account(take_uids(), place)
    yield account
    account.close()


@contextlib.contextmanager
def begun(place: Path, heir_of: Daemon | None = None, **settings: Any) -> Iterator[Daemon]:
    """Its state is in the user's home, which nobody else may enter."""
    kept = {"state_directory": str(place / "home/.local/state/sandboxd"), "jobs": 2}
    daemon = Daemon(kept | settings, place, without_root=True, heir_of=heir_of)
    try:
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture(scope="module")
def daemon(require_sandbox: None, usable: None) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        with begun(Path(name)) as daemon:
            yield daemon


@contextlib.contextmanager
def connected(daemon: Daemon) -> Iterator[Client]:
    with rootless.being(daemon.owner):
        client = Client(daemon.socket)
    with client:
        yield client


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with connected(daemon) as client:
        yield client


def ended(
    account: rootless.Account, *command: str, **environ: str
) -> "subprocess.CompletedProcess[str]":
    """A command of the user's, to its end."""
    return subprocess.run(
        account.command(*command), capture_output=True, text=True, check=False, cwd="/",
        timeout=TIMEOUT_S, env=CLEAN_ENVIRONMENT | account.environment | environ,
    )  # fmt: skip


# -- it works ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["recycled", "fresh"])
def test_jobs_run(client: Client, mode: str) -> None:
    result = client.run(argv=["sh", "-c", "id -u; echo oops >&2; exit 3"], mode=mode)
    assert (result.status, result.exit_code) == ("nonzero_exit", 3)
    assert (result.stdout, result.stderr) == (b"1000\n", b"oops\n")


def test_every_limit_holds(client: Client) -> None:
    """By the self test, in which a job goes for each; see also `make attacks-rootless`."""
    report = client.check()
    assert report["ok"], report
    limits = {item["name"]: item for item in report["features"] if item["name"].startswith("limit")}
    assert len(limits) >= 14
    assert all(item["ok"] for item in limits.values())
    burnt = run(client, "burn", "5000", limits={"cpu_time_ns": SECOND // 10})
    assert burnt.status == "cpu_time_limit"
    grown = run(client, "heap_grow", limits={"memory_bytes": 32 * MIB})
    assert grown.status == "memory_limit"


def test_nothing_is_left_by_jobs(daemon: Daemon, client: Client) -> None:
    before = invariants.settle(daemon, client)
    for mode in ("recycled", "fresh"):
        run(client, "orphan", mode=mode)
        run(client, "fork_bomb", mode=mode, limits={"wall_time_ns": SECOND})
    invariants.settle_as(before, daemon, client)


def test_interpreters_wait(client: Client) -> None:
    wait_for_interpreters(client)
    said = python(client, "print(open('/proc/self/cmdline').read().split('\\0')[3])").stdout
    assert said == b"/proc/self/fd/6\n", "the program was started, and not copied"


def test_environments_in_a_home_that_is_closed(client: Client) -> None:
    name = import_bytes(client, tar(small_root()))["name"]
    try:
        result = shell(client, name, "echo in it")
        assert (result.status, result.stdout) == ("ok", b"in it\n")
    finally:
        client.remove_environment(name)


def test_packages_are_shown_from_a_home_that_is_closed(client: Client) -> None:
    assert client.run(argv=["ls", "/piston/packages"]).status == "ok"


def test_functions_are_stored_and_called(client: Client) -> None:
    client.create_function("f", "python", code="def main(args, context):\n    return args\n")
    try:
        assert client.call_function("f", {"n": 1}) is not None
        execution = client.run_function("f", {"n": 2}, wait=True)
        assert execution is not None
    finally:
        client.delete_function("f")


# -- who is who -------------------------------------------------------------------------------


def _fields(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_no_process_has_a_capability_outside_of_the_namespace(
    daemon: Daemon, client: Client
) -> None:
    ours = os.readlink("/proc/self/ns/user")
    client.start(**job("wait_forever", "pause"))
    invariants.await_running(client, 1)
    members = [daemon.pid, *host.descendants(daemon.pid)]
    assert len(members) > 5
    for pid in members:
        assert os.readlink(f"/proc/{pid}/ns/user") != ours, host.name(pid)
        uids = {int(uid) for uid in _fields(pid)["Uid"].split()}
        assert uids <= {daemon.owner, *daemon.uids}, host.name(pid)


def test_sandboxd_has_none_and_gets_none(daemon: Daemon) -> None:
    found = _fields(daemon.pid)
    sets = ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")
    assert {int(found[name], 16) for name in sets} == {0}
    assert found["NoNewPrivs"] == "1"
    assert found["Groups"] == ""


def test_each_sandbox_has_ids_of_its_own(daemon: Daemon, client: Client) -> None:
    jobs = [client.start(**job("wait_forever", "pause")) for _ in range(2)]
    try:
        invariants.await_running(client, 2)
        deadline = time.monotonic() + 10
        users: list[int] = []
        while len(users) < 2:  # They have their places; that they have begun takes a moment.
            assert time.monotonic() < deadline
            users = [
                host.effective_uid(pid)
                for pid in host.descendants(daemon.pid)
                if host.name(pid) == "wait_forever"
            ]
        assert len(users) == len(set(users)) == 2
        assert daemon.owner not in users
    finally:
        for started in jobs:
            started.cancel()


# -- whom it serves ---------------------------------------------------------------------------


def test_nobody_but_its_user(daemon: Daemon) -> None:
    found = os.stat(daemon.socket)
    assert (found.st_uid, found.st_mode & 0o777) == (daemon.owner, 0o600)
    with pytest.raises(DaemonUnreachable, match="Permission denied"), rootless.being(NOBODY):
        Client(daemon.socket)


def test_root_is_somebody_else(daemon: Daemon) -> None:
    code = (
        "import sys; from sandboxd_client import Client, RequestError\n"
        "try: Client(sys.argv[1]).run(['true'])\n"
        "except RequestError as error: print(error.code, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, daemon.socket], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("permission_denied ")
    assert "without root it serves only the user who started it" in done.stdout


def test_its_user_may_do_everything(client: Client) -> None:
    info = client.info()
    assert (info["privileges"], info["tenant"]) == ("rootless", 0)
    client.create_key("k", "admin")
    client.delete_key("k")


# -- what is missing is said ------------------------------------------------------------------


def refusal(
    account: rootless.Account, *args: str, before: tuple[str, ...] = (), **environ: str
) -> str:
    done = ended(account, *before, *SANDBOXD, "--check", *args, **environ)
    assert done.returncode in (1, 78), done
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_no_account(account: rootless.Account) -> None:
    account.write("passwd", Path("/etc/passwd").read_text())
    assert "has no account" in refusal(account)


def test_no_subordinate_ids(account: rootless.Account) -> None:
    account.write("subuid", "somebody:1000000:65536\n")
    words = refusal(account)
    assert words.startswith("sandboxd: /etc/subuid gives sandboxd-tester no subordinate ids")
    assert "usermod --add-subuids FIRST-LAST sandboxd-tester" in words


def test_too_few_subordinate_ids(account: rootless.Account) -> None:
    account.write("subgid", f"{account.uid}:{account.uid + 1}:3\n")
    words = refusal(account)
    assert words.startswith("sandboxd: /etc/subgid gives sandboxd-tester 3 subordinate ids")
    assert "--add-subgids" in words


def test_several_ranges_by_name_and_by_number(account: rootless.Account) -> None:
    first = account.uid + 1
    account.write(
        "subuid", f"# ids\n{rootless.NAME}:{first}:8\n\n{account.uid}:{first + 100}:56\nbroken\n"
    )
    done = ended(account, *SANDBOXD, "--check", "--json")
    assert done.returncode == 0, done.stderr
    weaker = " ".join(json.loads(done.stdout)["weaker"])
    assert f"{first}-{first + 7}, {first + 100}-{first + 155}" in weaker


def test_no_program_that_maps_ids(account: rootless.Account, place: Path) -> None:
    words = refusal(account, before=("env", f"PATH={place}"))
    assert "newuidmap is not installed" in words
    assert "apt-get install uidmap" in words


def test_a_program_that_may_not_map_ids(account: rootless.Account) -> None:
    words = refusal(account, before=("setpriv", "--no-new-privs"))
    assert words.startswith("sandboxd: newuidmap does not give sandboxd-tester subordinate ids: ")
    assert "no_new_privs" in words


def test_no_user_namespaces(account: rootless.Account) -> None:
    """In a namespace for which they are forbidden, by the sysctl that is that namespace's own."""
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["sh", "-c", forbid, "sh", *account.command(*SANDBOXD, "--check")]
    # Only what is executed when there are maps is root in there.
    wait = 'echo; read -r go && exec "$@"'
    with subprocess.Popen(
        ["unshare", "--user", "sh", "-c", wait, "sh", *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        env=CLEAN_ENVIRONMENT | account.environment,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 0 4294967295")
        _, words = process.communicate("go\n", TIMEOUT_S)
    assert process.returncode == 1
    assert "No space left" in words
    assert "as root, sysctl -w user.max_user_namespaces=" in words


def test_no_cgroup_of_its_own(account: rootless.Account) -> None:
    if not account.groups:
        pytest.skip("with v2 the tests give their scope away")
    for group in account.groups:
        os.chown(group, 0, 0)
    words = refusal(account)
    assert "Permission denied" in words
    assert f"chown {rootless.NAME} $g/{rootless.NAME}" in words
    assert str(account.groups[0]) in words


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("allowed_uids = [0]", "allowed_uids"),
        ("allowed_gids = [27]", "allowed_gids"),
        ("admin_uids = [33]", "admin_uids"),
        ("socket_mode = 0o666", "socket_mode"),
        ('socket_group = "users"', "socket_group"),
        ('user = "nobody"', "user"),
        ("uid_base = 100000", "uid_base"),
    ],
)
def test_a_configuration_for_others(
    account: rootless.Account, place: Path, setting: str, key: str
) -> None:
    (place / "sandboxd.toml").write_text(setting + "\n")
    words = refusal(account, "--config", str(place / "sandboxd.toml"))
    assert words.startswith(f"sandboxd: {key}: without root sandboxd serves nobody but")


def test_the_machines_configuration_is_not_a_users(account: rootless.Account) -> None:
    directory = account.home / ".config/sandboxd"
    directory.mkdir(parents=True)
    (directory / "sandboxd.toml").write_text("jobs = 0.5\n")
    assert refusal(account).startswith(f"sandboxd: {directory}/sandboxd.toml: jobs")


# -- what is weaker is found out --------------------------------------------------------------


def weaker(account: rootless.Account, *before: str) -> str:
    done = ended(account, *before, *SANDBOXD, "--check", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["privileges"] == "rootless"
    return "\n".join(report["weaker"])


def test_what_is_always_weaker(account: rootless.Account) -> None:
    words = weaker(account)
    assert f"are uid {account.uid} on the host" in words
    assert "serves sandboxd-tester alone" in words
    assert (
        f"{account.subordinate.start}-{account.subordinate.stop - 1}, the subordinate ids" in words
    )
    assert "no precedence over jobs (nice value 0)" in words
    assert "is killed before services" not in words


def test_limits_of_the_user(account: rootless.Account) -> None:
    words = weaker(account, "prlimit", "--nofile=3000:3000", "--nproc=5000:5000")
    assert "limit of open files is 3000" in words
    assert "5000 processes" in words


def test_a_user_who_is_nice(account: rootless.Account) -> None:
    words = weaker(account, "nice", "-n", "5")
    assert "(nice value 5)" in words
    assert "limit of open files" not in words


def test_a_session_that_is_killed_early(account: rootless.Account) -> None:
    assert "oom_score_adj 200" in weaker(account, "choom", "-n", "200", "--")


def test_no_shares_of_cpu_time(account: rootless.Account) -> None:
    groups = [group for group in account.groups if (group / "cpu.shares").exists()]
    if not groups:
        pytest.skip("with v2 systemd delegates what it delegates")
    assert "not shared equally" not in weaker(account)
    for group in groups:
        account.groups.remove(group)
        group.rmdir()
    assert "not shared equally" in weaker(account)


@pytest.fixture
def at_home(account: rootless.Account) -> rootless.Account:
    """For sandboxctl, which looks for daemons and starts its own in the group it is in itself."""
    if not account.groups:
        pytest.skip("with v2 the user's service manager is needed: tests/vm/test_user_manager.py")
    if os.path.exists(DEFAULT_SOCKET):
        pytest.skip(f"a daemon listens at {DEFAULT_SOCKET}")
    return account


def test_people_read_the_same(at_home: rootless.Account) -> None:
    for command in ([*SANDBOXD, "--check"], [*SANDBOXCTL, "check"]):
        done = ended(at_home, *command)
        assert done.returncode == 0, done.stderr
        assert "weaker than under root: it serves sandboxd-tester alone" in done.stdout


# -- where it is found, how it ends -----------------------------------------------------------


def test_the_first_command_of_a_new_user(at_home: rootless.Account) -> None:
    done = ended(at_home, *SANDBOXCTL, "run", "--", "sh", "-c", "id -u; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "1000\n", "")
    assert not host.owned_by(range(at_home.uid, at_home.subordinate.stop))


def test_clients_find_the_users_own_daemon(at_home: rootless.Account) -> None:
    account = at_home
    runtime = account.home / "run"
    runtime.mkdir()
    os.chown(runtime, account.uid, account.uid)
    environ = CLEAN_ENVIRONMENT | account.environment | {"XDG_RUNTIME_DIR": str(runtime)}
    ready, writer = os.pipe()
    with subprocess.Popen(
        account.command(*SANDBOXD), env=environ | {"SANDBOXD_READY_FD": str(writer)}, cwd="/",
        pass_fds=(writer,), stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            os.close(writer)
            assert os.read(ready, 100) == b"READY\n"
            done = ended(account, *SANDBOXCTL, "status", XDG_RUNTIME_DIR=str(runtime))
            assert done.returncode == 0, done.stderr
            assert (runtime / "sandboxd/sandboxd.sock").is_socket()
            assert (account.home / ".local/state/sandboxd/packages").is_dir()
        finally:
            process.send_signal(signal.SIGTERM)
            os.close(ready)
    assert process.returncode == 0
    assert not (runtime / "sandboxd/sandboxd.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_leaves_nothing(place: Path, number: signal.Signals) -> None:
    with begun(place) as daemon, connected(daemon) as client:
        client.start(**job("wait_forever", "pause"))
        invariants.await_running(client, 1)
        os.kill(daemon.pid, number)
        daemon.process.wait(TIMEOUT_S)
        deadline = time.monotonic() + 10
        ours = range(daemon.owner, daemon.uids.stop)
        while host.owned_by(ours) or host.cgroups(daemon.group):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_killed_worker_is_replaced(place: Path) -> None:
    with begun(place) as daemon, connected(daemon) as client:
        (worker,) = (pid for pid in daemon.helpers() if client.info()["helper"]["pid"] == pid)
        os.kill(worker, signal.SIGKILL)
        while client.info()["helper"]["starts"] != 2:
            time.sleep(0.02)
        assert run(client, "exit_code", "0").status == "ok"


def test_the_next_start_kills_what_is_left(place: Path) -> None:
    """Init is stopped as its worker dies, and SIGKILL for its end takes its time: what cannot be
    signalled from within another namespace is from outside."""
    with begun(place) as dead:
        tree = host.descendants(dead.pid)
        for pid in (dead.pid, *dead.helpers()):
            os.kill(pid, signal.SIGKILL)
        dead.process.wait()
        (place / "next").mkdir(mode=0o755)
        with begun(place / "next", heir_of=dead):
            assert host.cgroups(dead.group) == []
            # The dead are for whoever is pid 1 here to wait for.
            assert all(host.is_zombie(pid) for pid in tree)
