"""`make install` with DESTDIR and PREFIX: complete, and what it installs runs from there."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import requirements
from support.building import AROUND, build

pytestmark = pytest.mark.timeout(400)  # it may build the package first

PREFIX = "/opt/judge"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Where the daemon can go on as another user: pytest's own directories are root's."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-install-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        build(".ci/install", INSTALL_ROOT=directory, INSTALL_PREFIX=PREFIX)
        yield Path(directory)


def test_everything_is_there_and_nothing_elsewhere(root: Path) -> None:
    expected = [
        path.removeprefix("usr/")
        .removesuffix(".gz")
        .replace("vendor-completions/", "site-functions/")
        for path in AROUND
        if path.startswith("usr/") and "changelog" not in path and "copyright" not in path
    ]
    expected += ["share/doc/sandboxd/examples/sandboxd.toml", "share/doc/sandboxd/service.md"]
    below = root / PREFIX.lstrip("/")
    assert [path for path in expected if not os.path.lexists(below / path)] == []
    assert [path.name for path in root.iterdir()] == ["opt"]
    assert [path.name for path in (root / "opt").iterdir()] == ["judge"]


def test_it_names_its_place_and_not_where_it_was_built(root: Path) -> None:
    below = root / PREFIX.lstrip("/")
    unit = (below / "lib/systemd/system/sandboxd.service").read_text()
    assert f"ExecStart={PREFIX}/bin/sandboxd\n" in unit
    script = (below / "lib/sandboxd/bin/sandboxctl").read_text()
    assert script.startswith(f"#!{PREFIX}/lib/sandboxd/bin/python\n")
    named = subprocess.run(
        ["grep", "-rlF", "-e", str(root), "-e", str(requirements.REPOSITORY), str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not named.stdout


def test_its_modules_are_compiled(root: Path) -> None:
    library = root / PREFIX.lstrip("/") / "lib/sandboxd/lib"
    (module,) = library.glob("python3*/site-packages/sandboxd/daemon.py")
    assert list((module.parent / "__pycache__").glob("daemon.*.pyc"))


@pytest.mark.usefixtures("require_sandbox")
@pytest.mark.parametrize(
    "argv", [["/bin/echo", "hello"], ["python3", "-s", "-B", "-c", "print('hello')"]]
)
def test_what_is_installed_runs_a_job(root: Path, tmp_path: Path, argv: list[str]) -> None:
    """With a private daemon, from where it was put, without this tree."""
    bin = root / PREFIX.lstrip("/") / "lib/sandboxd/bin"
    done = subprocess.run(
        [bin / "python", "-P", bin / "sandboxctl", "run", "--", *argv],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_second_installation_replaces_the_first(root: Path) -> None:
    library = root / PREFIX.lstrip("/") / "lib/sandboxd"
    stale = library / "stale"
    stale.write_text("of an earlier version")
    build(".ci/install", INSTALL_ROOT=str(root), INSTALL_PREFIX=PREFIX)
    assert not stale.exists()
    assert (library / "bin/sandboxctl").exists()


def test_completions_are_those_of_the_command(root: Path) -> None:
    share = root / PREFIX.lstrip("/") / "share"
    file = share / "bash-completion/completions/sandboxctl"
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    script = (
        f"source {file}; COMP_WORDS=(sandboxctl fun); COMP_CWORD=1; _sandboxctl; echo $COMPREPLY"
    )
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "functions\n"
