"""What is in the Debian package."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandboxd
from support.building import AROUND
from support.requirements import REPOSITORY

pytestmark = pytest.mark.timeout(400)  # the first one builds the package

COMMANDS = ("sandboxd", "sandboxctl", "sandboxd-rest")


def files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def packages(contents: Path) -> Path:
    (found,) = contents.glob("usr/lib/sandboxd/lib/python3*/site-packages")
    return found


def control(contents: Path) -> dict[str, str]:
    text = (contents / "DEBIAN/control").read_text()
    return dict(re.findall(r"(?m)^([\w-]+): (.*)", text))


def test_everything_is_there(contents: Path) -> None:
    assert [path for path in AROUND if not os.path.lexists(contents / path)] == []


def test_every_module_is_there(contents: Path) -> None:
    """Also what is no Python: descriptions of languages, the schema, templates."""
    listed = subprocess.run(
        ["git", "ls-files", "sandboxd", "clients"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is no clone")
    tracked = listed.stdout.decode().split()
    inside = packages(contents)
    missing = [path for path in tracked if not (inside / path.removeprefix("clients/")).exists()]
    assert len(tracked) > 200
    assert missing == []


def test_the_binaries_are_there_and_need_nothing_but_libc(contents: Path) -> None:
    inside = packages(contents) / "sandboxd"
    for name in ("sandbox-helper", "sandbox-probe"):
        assert os.access(inside / "libexec" / name, os.X_OK)
    assert (inside / "libexec/sandbox_warm.abi3.so").exists()
    assert (inside / "_native.abi3.so").exists()
    needed = set()
    for path in files(contents):
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        dump = ["objdump", "-p", str(path)]
        text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
        needed |= set(re.findall(r"NEEDED\s+(\S+)", text))
    libc = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"}
    assert {name for name in needed if not name.startswith("ld-linux")} <= libc


def test_nothing_is_there_that_should_not(contents: Path) -> None:
    for path in files(contents):
        assert path.suffix != ".pyc", path
        assert str(REPOSITORY).encode() not in path.read_bytes(), f"{path} names the build's place"
    commands = {path.name for path in (contents / "usr/lib/sandboxd/bin").iterdir()}
    assert {name for name in commands if not name.startswith("python")} == set(COMMANDS)
    assert not list(packages(contents).glob("pip*"))


def test_nobody_else_may_change_it(package: Path) -> None:
    listing = subprocess.run(
        ["dpkg-deb", "-c", package], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert mode in ("drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"), line


def test_commands_run_the_distributions_python_in_the_environment(contents: Path) -> None:
    for name in COMMANDS:
        assert os.readlink(contents / "usr/bin" / name) == f"../lib/sandboxd/bin/{name}"
        text = (contents / "usr/lib/sandboxd/bin" / name).read_text()
        assert text.startswith("#!/usr/lib/sandboxd/bin/python\n")
    assert "command" not in (contents / "usr/lib/sandboxd/pyvenv.cfg").read_text()
    link = contents / "usr/lib/sandboxd/bin/python3"
    assert os.readlink(link) == "/usr/bin/python3"


def test_units_name_what_is_installed(contents: Path) -> None:
    for unit in (contents / "usr/lib/systemd").glob("*/*"):
        text = unit.read_text()
        assert "/usr/local" not in text
        for program in re.findall(r"(?m)^ExecStart=(\S+)", text):
            assert os.path.lexists(contents / program.lstrip("/"))
    profile = (contents / "usr/share/sandboxd/apparmor.d/sandboxd").read_text()
    (pattern,) = re.findall(r"(?m)^profile sandboxd (\S+)", profile)
    assert len(list(contents.glob(pattern.lstrip("/")))) == 1


def test_the_control_file(contents: Path, package: Path) -> None:
    fields = control(contents)
    assert fields["Version"].rpartition("-")[0] == sandboxd.__version__
    first = gzip.decompress((contents / "usr/share/doc/sandboxd/changelog.Debian.gz").read_bytes())
    assert first.decode().startswith(f"sandboxd ({fields['Version']}) ")
    assert package.name == f"sandboxd_{fields['Version']}_{fields['Architecture']}.deb"
    (version,) = re.findall(r"python3\.\d+", str(packages(contents)))
    assert f"python3 (>= {version.removeprefix('python')}~)" in fields["Depends"]
    assert "@" not in (contents / "DEBIAN/control").read_text().replace("sandboxd@localhost", "")
    conffiles = (contents / "DEBIAN/conffiles").read_text().split()
    assert sorted(conffiles) == sorted(
        f"/{path.relative_to(contents)}" for path in files(contents / "etc")
    )


def test_the_checksums(contents: Path) -> None:
    lines = (contents / "DEBIAN/md5sums").read_text().splitlines()
    sums = dict(reversed(line.split("  ", 1)) for line in lines)
    assert set(sums) == {str(path.relative_to(contents)) for path in files(contents / "usr")}
    for name, value in sums.items():
        digest = hashlib.md5((contents / name).read_bytes(), usedforsecurity=False)
        assert digest.hexdigest() == value


def test_the_licences_of_what_is_included(contents: Path) -> None:
    text = (contents / "usr/share/doc/sandboxd/copyright").read_text()
    assert (REPOSITORY / "LICENSE").read_text() in text
    for metadata in packages(contents).glob("*.dist-info/METADATA"):
        (name,) = re.findall(r"(?m)^Name: (\S+)", metadata.read_text())[:1]
        if name != "sandboxd":
            assert re.search(rf"(?mi)^  {re.escape(name)} \S+: \S", text), name
    assert "see its dist-info" not in text


def test_lintian_finds_nothing(package: Path) -> None:
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
