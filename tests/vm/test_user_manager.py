"""sandboxd without root on a real systemd: a private daemon in a scope, and the unit of a user.

Run by `make test-vm` in a virtual machine that has the user `tester`, with subordinate ids.
"""

import json
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NAME = "tester"
TIMEOUT_S = 120


def user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        pytest.skip(f"this machine has no user {NAME}")


@pytest.fixture(scope="module", autouse=True)
def manager() -> Iterator[Path]:
    """The user's service manager runs, and no daemon of the machine is in the way."""
    entry = user()
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed")
    sockets = Path(f"/run/user/{entry.pw_uid}")
    subprocess.run(["systemctl", "stop", "sandboxd.socket", "sandboxd.service"], check=True)
    subprocess.run(["systemctl", "start", f"user@{entry.pw_uid}.service"], check=True)
    yield sockets
    subprocess.run(["systemctl", "stop", f"user@{entry.pw_uid}.service"], check=True)
    subprocess.run(["systemctl", "start", "sandboxd.socket"], check=True)


def as_tester(*command: str) -> "subprocess.CompletedProcess[str]":
    """In a group that is not the user's, as a login shell's is not."""
    entry = user()
    environ = {
        "HOME": entry.pw_dir, "PATH": "/usr/bin:/bin:/usr/sbin",
        "XDG_RUNTIME_DIR": f"/run/user/{entry.pw_uid}",
    }  # fmt: skip
    return subprocess.run(
        ["setpriv", f"--reuid={NAME}", f"--regid={NAME}", "--init-groups", *command],
        capture_output=True, text=True, check=False, cwd="/", timeout=TIMEOUT_S, env=environ,
    )  # fmt: skip


def output(*command: str) -> str:
    done = as_tester(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}{journal()}"
    return done.stdout


def journal() -> str:
    command = ["journalctl", f"_UID={user().pw_uid}", "--no-pager", "-n", "40", "-o", "cat"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def groups() -> list[str]:
    """What is below the user's manager because of sandboxd."""
    top = Path(f"/sys/fs/cgroup/user.slice/user-{user().pw_uid}.slice")
    return [str(path) for path in top.glob("**/sandboxd-*")]


def await_no_groups() -> None:
    deadline = time.monotonic() + 30
    while left := groups():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_the_first_command_of_a_new_user() -> None:
    assert output("sandboxctl", "run", "--", "sh", "-c", "echo hello; id -u") == "hello\n1000\n"
    await_no_groups()


def test_what_is_there_and_what_is_weaker() -> None:
    report = json.loads(output("sandboxctl", "check", "--json"))
    assert (report["ok"], report["privileges"]) == (True, "rootless")
    details = {item["name"]: item["detail"] for item in report["features"]}
    assert details["cgroup.memory"].startswith("v2, ")
    assert details["cgroup.pids"].startswith("v2, ")
    words = "\n".join(report["weaker"])
    assert f"serves {NAME} alone" in words
    assert ("not shared equally" in words) == ("cgroup.cpu" not in details)
    await_no_groups()


@pytest.fixture
def service() -> Iterator[str]:
    """The socket of the user's unit."""
    output("systemctl", "--user", "start", "sandboxd.service")
    yield f"/run/user/{user().pw_uid}/sandboxd/sandboxd.sock"
    output("systemctl", "--user", "stop", "sandboxd.service")
    await_no_groups()


def test_the_users_unit(service: str) -> None:
    assert os.stat(service).st_uid == user().pw_uid
    # Found without being named, as the machine's daemon is not there.
    assert output("sandboxctl", "run", "--", "echo", "hello") == "hello\n"
    assert json.loads(output("sandboxctl", "status", "--json"))
    show = ("systemctl", "--user", "show", "--value", "-p")
    assert output(*show, "ActiveState", "sandboxd.service") == "active\n"
    pid = int(output(*show, "MainPID", "sandboxd.service"))
    fields = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1\n" in fields
    assert "CapEff:\t0000000000000000\n" in fields


def test_limits_hold_below_the_users_manager(service: str) -> None:
    limits = ("--memory", "64M", "--processes", "8", "--cpu-time", "2s", "--wall-time", "20s")
    grow = "x = bytearray(1 << 30)"
    done = as_tester("sandboxctl", "run", "--json", *limits, "--", "python3", "-c", grow)
    assert json.loads(done.stdout)["status"] == "memory_limit", done.stderr
    done = as_tester("sandboxctl", "run", "--json", *limits, "--", "sh", "-c", ":(){ :|:& };:")
    assert json.loads(done.stdout)["status"] != "internal_error", done.stderr
    done = as_tester(
        "sandboxctl", "run", "--json", *limits, "--", "sh", "-c", "while :; do :; done"
    )
    assert json.loads(done.stdout)["status"] == "cpu_time_limit", done.stderr


def test_root_is_not_served(service: str) -> None:
    done = subprocess.run(
        ["sandboxctl", "run", "--socket", service, "--", "true"],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 125
    assert "serves only the user who started it" in done.stderr
