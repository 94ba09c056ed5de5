"""The package is really installed, upgraded, removed and purged, in a copy of this machine."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import throwaway
from support.throwaway import Machine

pytestmark = pytest.mark.timeout(400)  # the first one builds the package

STATE = "/var/lib/sandboxd"
ACCOUNTS = ("sandboxd", "sandboxd-rest")
LINKS = (
    "/etc/systemd/system/sockets.target.wants/sandboxd.socket",
    "/etc/systemd/system/multi-user.target.wants/sandboxd.service",
)


@pytest.fixture(scope="module")
def newer(contents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with a later version."""
    directory = tmp_path_factory.mktemp("newer")
    root = directory / "root"
    shutil.copytree(contents, root, symlinks=True)
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    package = directory / "newer.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, package]
    subprocess.run(command, check=True, capture_output=True)
    return package


@pytest.fixture
def machine(package: Path, newer: Path) -> Iterator[Machine]:
    with throwaway.machine() as machine:
        machine.put(package, "/first.deb")
        machine.put(newer, "/newer.deb")
        yield machine


def accounts(machine: Machine) -> list[str]:
    return [name for name in ACCOUNTS if machine.try_run("getent", "passwd", name).returncode == 0]


def test_install_use_upgrade_remove_purge(machine: Machine) -> None:
    machine.run("dpkg", "--install", "/first.deb")
    assert accounts(machine) == list(ACCOUNTS)
    assert all(machine.is_link(link) for link in LINKS)
    assert not machine.has("/etc/systemd/system/multi-user.target.wants/sandboxd-rest.service")
    owner = machine.run("stat", "--format=%U %a", STATE, "/run/sandboxd").split("\n")
    assert owner[:2] == ["sandboxd 755", "sandboxd 755"]
    compiled = machine.run("find", "/usr/lib/sandboxd", "-name", "*.pyc")
    assert "/sandboxd/__pycache__/daemon.cpython" in compiled

    # A job, with the installed helper and a daemon that gives up root.
    assert machine.run("sandboxctl", "run", "--", "/bin/echo", "hello") == "hello\n"
    program = ["python3", "-s", "-B", "-c", "print(6 * 7)"]
    assert machine.run("sandboxctl", "run", "--", *program) == "42\n"

    # An administrator's own configuration is kept.
    machine.run("sh", "-c", "echo 'jobs = 3' >>/etc/sandboxd/sandboxd.toml")
    machine.run("rm", LINKS[1])
    machine.run("dpkg", "--install", "/newer.deb")
    assert "jobs = 3" in machine.run("cat", "/etc/sandboxd/sandboxd.toml")
    assert not machine.has(LINKS[1]), "what was disabled is enabled again"
    assert machine.run("sandboxctl", "run", "--", "/bin/echo", "again") == "again\n"

    machine.run("dpkg", "--remove", "sandboxd")
    assert not machine.has("/usr/lib/sandboxd"), machine.run("find", "/usr/lib/sandboxd")
    assert not machine.has("/usr/bin/sandboxctl")
    assert not machine.has("/run/sandboxd")
    assert machine.has(STATE)
    assert machine.has("/etc/sandboxd/sandboxd.toml")

    machine.run("dpkg", "--purge", "sandboxd")
    for path in (*LINKS, "/etc/sandboxd", STATE):
        assert not machine.has(path), path
    assert accounts(machine) == []
    assert "sandboxd" not in machine.run("dpkg-query", "--show", "--showformat=${Package}\n")
    assert not machine.try_run("sh", "-c", "ls /var/lib/dpkg/info/sandboxd.*").stdout


def test_what_is_stored_outlives_a_purge_that_nobody_asked_for(machine: Machine) -> None:
    machine.run("dpkg", "--install", "/first.deb")
    machine.run("sh", "-c", f"mkdir {STATE}/packages && echo precious >{STATE}/packages/file")
    done = machine.try_run("dpkg", "--purge", "sandboxd")
    assert done.returncode == 0, done.stderr
    assert f"{STATE} and its owner, the user sandboxd, are kept" in done.stderr
    assert machine.run("cat", f"{STATE}/packages/file") == "precious\n"
    assert accounts(machine) == list(ACCOUNTS)
    # It is found again.
    machine.run("dpkg", "--install", "/first.deb")
    assert machine.run("cat", f"{STATE}/packages/file") == "precious\n"


def test_what_is_stored_is_removed_on_demand(machine: Machine) -> None:
    machine.run("dpkg", "--install", "/first.deb")
    machine.run("sh", "-c", f"mkdir {STATE}/packages && ln -s /etc/passwd {STATE}/packages/link")
    answer = "echo sandboxd sandboxd/purge_state boolean true | debconf-set-selections"
    machine.run("sh", "-c", answer)
    machine.run("dpkg", "--purge", "sandboxd")
    assert not machine.has(STATE)
    assert machine.has("/etc/passwd")
    assert accounts(machine) == []


def test_every_script_may_run_again(machine: Machine) -> None:
    """As dpkg does after something went wrong."""
    machine.run("dpkg", "--install", "/first.deb")
    scripts = "/var/lib/dpkg/info/sandboxd"
    before = machine.run("sh", "-c", "ls -lR /etc/systemd /usr/lib/sandboxd; cat /etc/passwd")
    for _ in range(2):
        machine.run(f"{scripts}.postinst", "configure", "")
        machine.run(f"{scripts}.postinst", "abort-upgrade", "1")
        machine.run(f"{scripts}.postinst", "abort-remove")
    after = machine.run("sh", "-c", "ls -lR /etc/systemd /usr/lib/sandboxd; cat /etc/passwd")
    assert [line for line in before.splitlines() if ".pyc" not in line] == [
        line for line in after.splitlines() if ".pyc" not in line
    ]
    for _ in range(2):
        machine.run(f"{scripts}.prerm", "upgrade", "2")
        machine.run(f"{scripts}.prerm", "remove")
        machine.run(f"{scripts}.postrm", "upgrade", "2")
    for script in ("postinst", "prerm", "postrm"):
        assert machine.try_run(f"{scripts}.{script}", "nonsense").returncode == 1
    machine.run("cp", f"{scripts}.postrm", "/postrm")
    machine.run("dpkg", "--purge", "sandboxd")
    for argument in ("remove", "purge"):
        machine.run("env", "DPKG_MAINTSCRIPT_PACKAGE=sandboxd", "/postrm", argument)


def test_apparmors_profile_is_linked_where_it_is_understood(machine: Machine) -> None:
    profile = "/etc/apparmor.d/sandboxd"
    machine.run("rm", "-rf", "/etc/apparmor.d")
    machine.run("dpkg", "--install", "/first.deb")
    assert not machine.has(profile)
    machine.run("sh", "-c", "mkdir -p /etc/apparmor.d/abi && touch /etc/apparmor.d/abi/4.0")
    machine.run("dpkg", "--install", "/newer.deb")
    assert "userns," in machine.run("cat", profile)
    machine.run("dpkg", "--remove", "sandboxd")
    assert not machine.has(profile)
    machine.run("sh", "-c", f"echo mine >{profile}")
    machine.run("dpkg", "--install", "/first.deb")
    machine.run("dpkg", "--purge", "sandboxd")
    assert machine.run("cat", profile) == "mine\n"
