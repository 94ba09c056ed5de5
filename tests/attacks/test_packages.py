"""Packages that attack: by their archive, by their script at the installation, by what they say."""

import hashlib
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client, RequestError
from support import packages
from support.archives import PACKERS, archive, member, zeros
from support.daemon import Daemon
from support.jobs import MIB, SECOND

_INFO = b'{"language": "evil", "version": "6.6.6"}'


def _install(client: Client, data: bytes) -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        digest = hashlib.sha256(data).hexdigest()
        client.install_package("evil", "6.6.6", digest, file.fileno())


def _refused(client: Client, data: bytes) -> str:
    with pytest.raises(RequestError) as error:
        _install(client, data)
    assert error.value.code == "invalid_argument", error.value
    assert client.packages() == []
    return error.value.message


def _state(daemon: Daemon) -> Path:
    return Path(daemon.socket).parent / "state"


@pytest.fixture
def nothing_left(daemon: Daemon) -> Iterator[Path]:
    """The state directory: as before when the attack is over."""
    state = _state(daemon)
    before = _paths(state)
    yield state
    deadline = time.monotonic() + 10
    while _paths(state) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _paths(state) == before


def _paths(state: Path) -> list[str]:
    """Everything there is; what goes away meanwhile is no error, as it is with Path.rglob."""
    return sorted(
        f"{directory}/{name}"
        for directory, directories, files in os.walk(state)
        for name in (*directories, *files)
    )


def _whole(*members: bytes) -> bytes:
    usual = (member("pkg-info.json", _INFO), member("run", b"true"))
    return PACKERS["gzip"](archive(*usual, *members))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("../../../packages/evil", b"x")], "'../../../packages/evil' has '..'"),
        ([member("/etc/cron.d/x", b"x")], "'/etc/cron.d/x' is an absolute name"),
        (
            [member("l", kind=tarfile.SYMTYPE, link="/tmp"), member("l/x", b"x")],
            "beneath 'l', which is not a directory",
        ),
        (
            [member("l", kind=tarfile.SYMTYPE, link="/piston/packages/other/1.0.0")],
            "'l' is a link to '/piston/packages/other/1.0.0', which leads out",
        ),
        (
            [member("l", kind=tarfile.SYMTYPE, link="../../python/3.10.0/bin")],
            "which leads out",
        ),
        ([member("h", kind=tarfile.LNKTYPE, link="../../../lock")], "has '..'"),
        ([member("n", kind=tarfile.CHRTYPE)], "'n' is a device"),
        ([member("environment", kind=tarfile.FIFOTYPE)], "'environment' is a FIFO"),
    ],
)
def test_an_archive(client: Client, nothing_left: Path, members: list[bytes], words: str) -> None:
    """F10: invalid_argument that names the member; nothing of the archive is kept."""
    assert words in _refused(client, _whole(*members))


@pytest.mark.parametrize(
    "info",
    [
        member("pkg-info.json", kind=tarfile.SYMTYPE, link="run"),
        member("pkg-info.json", kind=tarfile.DIRTYPE),
        member("pkg-info.json", b" " * (2 * MIB)),
        member("pkg-info.json", b'{"language": "../../x", "version": "6.6.6"}'),
        member("pkg-info.json", b"[" * 500_000),
    ],
)
def test_what_it_says_of_itself(client: Client, nothing_left: Path, info: bytes) -> None:
    """F11, F10: what a package says of itself is read with bounds; a name is no path."""
    data = PACKERS["gzip"](archive(info, member("run", b'{"language":"evil","version":"6.6.6"}')))
    assert _refused(client, data).startswith("not a package: ")


def test_a_bomb(client: Client, nothing_left: Path) -> None:
    """F10: invalid_argument long before it is unpacked."""
    assert "more than 100 times its size" in _refused(client, zeros(512 * MIB))


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("while :; do :; done", "_time_limit"),
        ("sleep 1000", "wall_time_limit"),
        ("f() { f | f & }; f; while :; do :; done", "_limit"),
        ("exec yes >&2", "output_limit"),
        ("a=$(head -c 100000000 /dev/zero | tr '\\0' x); export a; b=$a$a$a$a$a$a$a$a", None),
        ("echo x > /piston/packages/evil/6.6.6/run || exit 9; rm -rf /piston/packages", None),
        ("cd /; rm -rf piston etc work 2>/dev/null; exit 3", "nonzero_exit"),
        ("exec /usr/bin/printf 'PATH=/made\\0'", "environment ended"),
    ],
)
def test_its_script(client: Client, nothing_left: Path, script: str, status: str | None) -> None:
    """F12: it is one more job: with limits, in the sandbox, and nothing of it stays."""
    refusal = _refused(client, _whole(member("environment", script.encode())))
    assert status is None or status in refusal, refusal
    assert len(refusal) < 1000


def test_variables(client: Client, daemon: Daemon) -> None:
    """F12, K25: what the script exports is text for jobs, and for nobody else."""
    script = (
        "export LD_PRELOAD=/piston/packages/evil/6.6.6/x.so PYTHONSTARTUP=/x\n"
        "export BASH_ENV=$PWD/run 'A=$(id)' B=$'two\\nlines'\n"
        "f() { :; }; export -f f\n"
    )
    run = b"env; true"
    data = PACKERS["gzip"](
        archive(
            member("pkg-info.json", _INFO),
            member("run", run),
            member("environment", script.encode()),
        )
    )
    _install(client, data)
    kept = (_state(daemon) / "packages/evil/6.6.6/.env").read_text().splitlines()
    assert sorted(line.partition("=")[0] for line in kept) == [
        "A", "BASH_ENV", "LD_PRELOAD", "PYTHONSTARTUP",
    ]  # fmt: skip
    files = [{"data": ""}]
    answer = client.call("runtime.execute", {"language": "evil", "files": files})
    assert b"A=$(id)\n" in answer["run"]["stdout"]
    normal = client.run(["env"])
    assert b"evil" not in normal.stdout
    client.uninstall_package("evil", "6.6.6")


def test_a_program_cannot_change_its_package(
    client: Client, daemon: Daemon, tmp_path: Path
) -> None:
    """D10, X8: nothing in the directory of packages changes, whatever a program tries."""
    built = packages.made(tmp_path, language="evil", version="6.6.6")
    _install(client, built.path.read_bytes())
    place = _state(daemon) / "packages/evil/6.6.6"
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*")}
    code = (
        "cd /piston/packages/evil/6.6.6 || exit 1\n"
        "for f in run .env .ppman-installed bin/mysh; do echo > $f; rm -f $f; chmod 7 $f; done\n"
        "mkdir x; ln -s / y; mv bin bun; touch run; echo x > ../../x; mkdir ../../new\n"
        "ls /piston/packages"
    )
    answer = client.call("runtime.execute", {"language": "evil", "files": [{"data": code}]})
    assert answer["run"]["stdout"] == b"evil\n"
    assert {path: path.lstat().st_mtime_ns for path in place.rglob("*")} == before
    client.uninstall_package("evil", "6.6.6")


def test_many_at_once(client: Client, nothing_left: Path, daemon: Daemon) -> None:
    """A6: installations wait for each other; jobs do not wait for them."""
    data = _whole(member("environment", b"sleep 0.2; exit 1"))
    digest = hashlib.sha256(data).hexdigest()
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        for number in range(12):
            params = {"language": f"evil{number}", "version": "6.6.6", "sha256": digest}
            with_fds = {**params, "fds": {"archive": 0}}
            client._connection.send("package.install", with_fds, [file.fileno()])
        with Client(daemon.socket) as other:
            assert other.run(["true"], limits={"wall_time_ns": 5 * SECOND}).ok
        answered = 0
        while answered < 12:
            for message in client._connection.receive():
                if hasattr(message, "error"):
                    assert "not of evil" in str(message.error)
                    answered += 1
