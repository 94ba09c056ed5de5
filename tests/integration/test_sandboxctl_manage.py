"""`sandboxctl packages` and `environments` as a person uses them, with the real daemon."""

import gzip
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import DEFAULT_SOCKET
from support import images, packages
from support.daemon import Daemon, running
from support.environments import eventually, fresh_name, kept
from support.packages import Repository
from support.requirements import CLEAN_ENVIRONMENT, need_readable_tree
from support.terminal import COMMAND, Terminal

Ctl = Callable[..., "subprocess.CompletedProcess[bytes]"]
CODE = 'echo "$PISTON_LANGUAGE $1"; cat'


@pytest.fixture(scope="module")
def keeper(require_sandbox: None) -> Iterator[Daemon]:
    """A daemon whose packages and environments are these tests' own."""
    with running(jobs=2, socket_mode=0o666) as daemon:
        yield daemon
        assert daemon.process.poll() is None, daemon.log_text()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with packages.serving(tmp_path) as repository:
        yield repository


@pytest.fixture
def ctl(keeper: Daemon, repository: Repository) -> Iterator[Ctl]:
    """sandboxctl with that daemon, and with the repository's index."""
    variables = {"SANDBOXD_SOCKET": keeper.socket, "SANDBOXD_PACKAGE_INDEX": repository.index}

    def ctl_(*argv: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        options = {"input": b"", "timeout": 60, "env": CLEAN_ENVIRONMENT | variables} | options
        return subprocess.run([*COMMAND, *argv], capture_output=True, **options)

    yield ctl_
    there = json.loads(ctl_("packages", "list", "--json").stdout)["packages"]
    if there:
        names = [f"{package['language']}={package['version']}" for package in there]
        assert ctl_("packages", "uninstall", *names).returncode == 0


def said(done: "subprocess.CompletedProcess[bytes]") -> tuple[int, str, str]:
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def add(ctl: Ctl, repository: Repository, tmp_path: Path, **kwargs: Any) -> None:
    """A package in the repository, built and listed by the command line."""
    directory = packages.make(tmp_path, **kwargs)
    archive = f"{directory}.tar.gz"
    url = f"{repository.url}/{os.path.basename(archive)}"
    code, line, errors = said(
        ctl("packages", "build", "--output", archive, "--url", url, str(directory))
    )
    assert (code, errors) == (0, "")
    repository.lines.append(line.removesuffix("\n"))


def test_from_a_directory_to_a_program_that_runs(
    ctl: Ctl, repository: Repository, tmp_path: Path
) -> None:
    for version in ("1.2.3", "1.10.0", "2.0.0"):
        add(ctl, repository, tmp_path, version=version)
    available = said(ctl("packages", "list", "--available"))[1].splitlines()
    assert [line.split() for line in available[1:]] == [
        ["mysh", version, "no"] for version in ("2.0.0", "1.10.0", "1.2.3")
    ]
    assert said(ctl("packages", "install", "mysh=1.x")) == (0, "mysh 1.10.0 installed\n", "")
    again = ctl("packages", "install", "mysh=1.x", "mysh=9.x")
    assert said(again) == (
        1,
        "mysh 1.10.0 already installed\n",
        "sandboxctl: mysh 9.x: Requested package mysh-9.x does not exist\n",
    )
    line = said(ctl("packages", "list"))[1].splitlines()[1]
    assert line.split()[:2] == ["mysh", "1.10.0"]
    (tmp_path / "code").write_text(CODE)
    done = ctl("execute", "ms=1.x", str(tmp_path / "code"), "word", input=b"in")
    assert said(done) == (0, "mysh word\nin", "")
    assert any(
        line.split() == ["mysh", "1.10.0", "ms", "no", "package"]
        for line in said(ctl("runtimes"))[1].splitlines()
    )
    assert said(ctl("packages", "uninstall", "mysh=1.x")) == (0, "mysh 1.10.0 uninstalled\n", "")
    assert ctl("execute", "mysh", str(tmp_path / "code")).returncode == 125


def test_a_spec_file(ctl: Ctl, repository: Repository, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        add(ctl, repository, tmp_path, version=version)
    add(ctl, repository, tmp_path, language="other", info={"aliases": []})
    assert ctl("packages", "install", "mysh=1.x").returncode == 0
    spec = tmp_path / "spec"
    spec.write_text("# all\n* *\n!oth* *\n")
    done = ctl("packages", "spec", str(spec))
    assert said(done) == (0, "mysh 2.0.0 installed\nmysh 1.0.0 uninstalled\n", "")
    assert said(ctl("packages", "spec", str(spec))) == (0, "", "")
    done = ctl("packages", "spec", "--json", str(spec))
    assert json.loads(done.stdout) == {"packages": []}


def test_a_wrong_checksum(ctl: Ctl, repository: Repository, tmp_path: Path) -> None:
    built = packages.made(tmp_path)
    repository.add(built, "0" * 64)
    code, out, errors = said(ctl("packages", "install", "mysh"))
    assert (code, out) == (1, "")
    want = f"Checksum miss-match want: {'0' * 64} got: {built.sha256}"
    assert errors == f"sandboxctl: mysh 1.2.3: {want}\n"
    assert said(ctl("packages", "list"))[1].startswith("None is installed")


def test_a_repository_that_is_gone(ctl: Ctl, repository: Repository, tmp_path: Path) -> None:
    built = packages.made(tmp_path)
    repository.add(built)
    built.path.write_bytes(b"")  # What the index says is not what is there.
    code, _, errors = said(ctl("packages", "install", "mysh"))
    assert code == 1
    assert errors.startswith("sandboxctl: mysh 1.2.3: ")
    assert errors.count("\n") == 1
    code, _, errors = said(ctl("packages", "install", "--index", "http://127.0.0.1:1/", "mysh"))
    assert (code, errors.count("\n")) == (1, 1)
    assert "the index of packages cannot be read: http://127.0.0.1:1/: Connection refused" in errors


def test_progress_and_an_interrupt(
    ctl: Ctl, keeper: Daemon, repository: Repository, tmp_path: Path
) -> None:
    """On a terminal the download is seen; Ctrl-C in its middle leaves nothing."""
    repository.add(packages.made(tmp_path))
    repository.go_on.clear()
    line = ["packages", "install", "--socket", keeper.socket, "--index", repository.index, "mysh"]
    with Terminal(*line) as terminal:
        terminal.until(b"\r\x1b[Kmysh 1.2.3: downloading")
        terminal.type(b"\x03")
        assert terminal.end() == 128 + signal.SIGINT
        assert b"Traceback" not in terminal.seen
    repository.go_on.set()
    eventually(lambda: not kept(keeper), "something is left")
    assert said(ctl("packages", "list"))[1].startswith("None is installed")
    with Terminal(*line) as terminal:
        terminal.until(b"\r\x1b[Kmysh 1.2.3 installed\r\n")
        assert terminal.end() == 0


def test_who_may_not(ctl: Ctl, repository: Repository, tmp_path: Path) -> None:
    need_readable_tree()
    repository.add(packages.made(tmp_path))
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
    for line in (["packages", "install", "mysh"], ["environments", "import", "e", "/etc/hosts"]):
        code, out, errors = said(ctl(*line, **nobody))
        assert (code, out) == (1, "")
        assert "admin_uids" in errors


# Environments.


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small root file system, as a directory."""
    directory = images.unpacked_root(tmp_path_factory.mktemp("root"))
    (directory / "etc" / "name").write_text("small\n")
    (directory / "outside").symlink_to("/etc/shadow")
    return directory


@pytest.fixture
def name(ctl: Ctl) -> Iterator[str]:
    name = fresh_name()
    yield name
    ctl("environments", "remove", name)


def check(ctl: Ctl, name: str, done: "subprocess.CompletedProcess[bytes]") -> None:
    """It was imported, and jobs run in it."""
    code, out, errors = said(done)
    assert (code, errors) == (0, "")
    assert out.startswith(f"{name}: ")
    ran = ctl("run", "--environment", name, "--", "sh", "-c", "cat /etc/name; ls /")
    code, out, errors = said(ran)
    assert (code, errors) == (0, "")
    first, *names = out.split()
    assert first == "small"
    assert "outside" in names
    assert "usr" not in names or (Path("/lib").is_symlink()), "nothing of the host"


def test_from_a_directory(ctl: Ctl, name: str, root: Path) -> None:
    check(ctl, name, ctl("environments", "import", name, str(root)))
    listed = said(ctl("environments", "list"))[1]
    assert any(line.split()[0] == name for line in listed.splitlines())
    again = ctl("environments", "import", name, str(root))
    assert again.returncode == 1
    assert again.stderr.count(b"\n") == 1
    assert said(ctl("environments", "remove", name)) == (0, f"{name} removed\n", "")
    assert name not in said(ctl("environments", "list"))[1]
    code, _, errors = said(ctl("run", "--environment", name, "--", "sh"))
    assert code == 125
    assert name in errors


def test_from_archives(ctl: Ctl, root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    packed = tmp_path / "root.tar.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes(), 1))
    names = [fresh_name() for _ in range(3)]
    check(ctl, names[0], ctl("environments", "import", names[0], str(archive)))
    check(ctl, names[1], ctl("environments", "import", names[1], str(packed)))
    data = packed.read_bytes()
    check(ctl, names[2], ctl("environments", "import", names[2], "-", input=data))
    done = ctl("environments", "remove", "--json", *names)
    assert json.loads(done.stdout) == {"removed": names}


def test_from_an_oci_layout(ctl: Ctl, name: str, root: Path, tmp_path: Path) -> None:
    """As a directory, which looks like any other until the daemon reads it, and as an archive."""
    layer = subprocess.run(["tar", "-C", str(root), "-c", "."], capture_output=True, check=True)
    layout = images.Image([layer.stdout]).oci()
    check(ctl, name, ctl("environments", "import", name, str(layout.write(tmp_path / "layout"))))
    listed = json.loads(ctl("environments", "list", "--json").stdout)["environments"]
    assert [each["source"] for each in listed if each["name"] == name] == ["oci"]
    ctl("environments", "remove", name)
    check(ctl, name, ctl("environments", "import", name, "-", input=layout.tar()))


def test_what_is_no_archive(ctl: Ctl, keeper: Daemon, name: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing of the kind\n" * 100_000)
    code, out, errors = said(ctl("environments", "import", name, str(tmp_path / "text")))
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1
    code, out, _ = said(ctl("environments", "import", "--json", name, str(tmp_path / "text")))
    assert code == 1
    assert json.loads(out)["error"]["code"] == "invalid_argument"
    eventually(lambda: not kept(keeper), "something is left")


def test_half_a_directory_is_not_imported(
    ctl: Ctl, keeper: Daemon, name: str, root: Path, tmp_path: Path
) -> None:
    """`tar` cannot read one file and packs the rest: the daemon must not make anything of that."""
    (tmp_path / "bin").mkdir()
    tar = tmp_path / "bin" / "tar"
    failing = 'tar "$@"; echo tar: x: no >&2; echo more >&2; exit 2'
    tar.write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}; {failing}\n")
    tar.chmod(0o755)
    environment = CLEAN_ENVIRONMENT | {
        "PATH": f"{tmp_path}/bin", "SANDBOXD_SOCKET": keeper.socket,
    }  # fmt: skip
    done = ctl("environments", "import", name, str(root), env=environment)
    assert said(done) == (
        1, "", "sandboxctl: the directory could not be packed: tar: x: no\n",
    )  # fmt: skip
    eventually(lambda: not kept(keeper), "something is left")
    assert name not in said(ctl("environments", "list"))[1]


def test_an_import_that_is_interrupted(ctl: Ctl, keeper: Daemon, name: str, tmp_path: Path) -> None:
    """Ctrl-C while the archive still comes: on the terminal one sees how far it is."""
    os.mkfifo(tmp_path / "archive")
    path = str(tmp_path / "archive")
    with Terminal("environments", "import", "--socket", keeper.socket, name, path) as terminal:
        with open(path, "wb") as archive:
            archive.write(images.tar(images.small_root())[:200_000])
            archive.flush()
            terminal.until(b"\r\x1b[Ksending  195.3 KiB")
            terminal.type(b"\x03")
            assert terminal.end() == 128 + signal.SIGINT
        assert b"Traceback" not in terminal.seen
    eventually(lambda: not kept(keeper), "something is left")
    assert name not in said(ctl("environments", "list"))[1]


def test_without_a_daemon(ctl: Ctl, repository: Repository) -> None:
    """What only looks starts a private one; what changes something needs the one that keeps it."""
    if os.path.exists(DEFAULT_SOCKET):
        pytest.skip(f"a daemon listens at {DEFAULT_SOCKET}")
    environment = CLEAN_ENVIRONMENT | {"SANDBOXD_PACKAGE_INDEX": repository.index}
    done = ctl("packages", "list", "--available", "--json", env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert isinstance(json.loads(done.stdout)["packages"], list)
    done = ctl("packages", "install", "mysh", env=environment)
    assert done.returncode == 125
    assert done.stderr.startswith(b"sandboxctl: cannot reach sandboxd at /run/sandboxd/sandboxd.so")
