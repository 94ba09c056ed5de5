"""`sandboxctl packages` against a scripted daemon and an index in a file."""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxctl.__main__ import main
from sandboxctl.specfile import BadSpec, parse_spec, plan
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import RequestError
from sandboxd_packages import Package
from support.scripted import Peer, Script
from support.world import World

Start = Callable[..., str]
ARCHIVE = os.urandom(200_000)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
INSTALLED = [
    {"language": "lua", "version": "5.4.6", "size_bytes": 2**20, "runtimes": ["lua", "luajit"],
     "installed_ns": 1_700_000_000 * 10**9},
    {"language": "own", "version": "1.0.0", "size_bytes": 10, "runtimes": ["own"],
     "installed_ns": 0},
]  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> str:
    """The address of an index with lua, python and dash."""
    (tmp_path / "archive").write_bytes(ARCHIVE)
    url = (tmp_path / "archive").as_uri()
    names = (
        "lua,5.4.6",
        "lua,5.3.0",
        "python,3.9.4",
        "python,3.12.0",
        "python,2.7.18",
        "dash,0.5.12",
    )
    lines = "".join(f"{name},{SHA256},{url}\n" for name in names)
    (tmp_path / "index").write_text("\n" + lines)
    return (tmp_path / "index").as_uri()


def packages(path: str, world: World, *argv: str) -> int:
    command, *rest = argv
    return main(["packages", command, "--socket", path, *rest], world)


def listing(peer: Peer) -> None:
    msgid, method, _ = peer.request()
    assert method == "package.list"
    peer.answer(msgid, {"packages": INSTALLED})


def accept(peer: Peer, done: list[tuple[str, str]]) -> None:
    """Take a package.install as the daemon does. It is in ``done`` before the client knows."""
    msgid, method, params = peer.request()
    assert (method, params["sha256"]) == ("package.install", SHA256)
    key = {name: params[name] for name in ("language", "version")}
    peer.notify("package.progress", **key, phase="download", bytes=0)
    with open(peer.fds.pop(0), "rb") as archive:
        assert archive.read() == ARCHIVE
    peer.notify("package.progress", **key, phase="done", bytes=len(ARCHIVE))
    done.append((key["language"], key["version"]))
    peer.answer(msgid, key)


def refuse(peer: Peer, code: str, message: str) -> None:
    msgid, _, _ = peer.request()
    os.close(peer.fds.pop())
    peer.sock.sendall(rpc.encode_error(msgid, RequestError(code, message)))


def installs(count: int, done: list[tuple[str, str]]) -> Script:
    def script(peer: Peer) -> None:
        for _ in range(count):
            accept(peer, done)

    return script


def test_list(daemon_with: Start, world: World) -> None:
    path = daemon_with(listing, listing)
    assert packages(path, world, "list") == 0
    head, lua, own = world.stdout_text.splitlines()
    assert head.split() == ["PACKAGE", "VERSION", "SIZE", "INSTALLED", "RUNTIMES"]
    assert lua.split()[:4] == ["lua", "5.4.6", "1.0", "MiB"]
    assert lua.endswith("lua, luajit")
    assert own.startswith("own      1.0.0")
    assert packages(path, world, "list", "--json") == 0
    assert json.loads(world.stdout_text.splitlines()[-1]) == {"packages": INSTALLED}


def test_list_what_is_available(daemon_with: Start, world: World, index: str) -> None:
    path = daemon_with(listing, listing)
    assert packages(path, world, "list", "--index", index) == 0
    assert [line.split() for line in world.stdout_text.splitlines()] == [
        ["PACKAGE", "VERSION", "INSTALLED"],
        ["dash", "0.5.12", "no"],
        ["lua", "5.4.6", "yes"],
        ["lua", "5.3.0", "no"],
        ["own", "1.0.0", "yes"],
        ["python", "3.12.0", "no"],
        ["python", "3.9.4", "no"],
        ["python", "2.7.18", "no"],
    ]
    assert packages(path, world, "list", "--available", "--json", "--index", index) == 0
    printed = json.loads(world.stdout_text.splitlines()[-1])
    assert printed["packages"][1] == {"language": "lua", "version": "5.4.6", "installed": True}


def test_the_index_of_the_environment(daemon_with: Start, tmp_path: Path, index: str) -> None:
    world = World(tmp_path, SANDBOXD_PACKAGE_INDEX=index)
    assert packages(daemon_with(listing), world, "list", "--available") == 0
    assert "dash" in world.stdout_text


def test_none_is_installed(daemon_with: Start, world: World) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"packages": []})

    assert packages(daemon_with(script), world, "list") == 0
    assert world.stdout_text.startswith("None is installed; see")


def test_install_takes_the_highest_in_the_range(
    daemon_with: Start, world: World, index: str
) -> None:
    done: list[tuple[str, str]] = []
    path = daemon_with(installs(3, done))
    line = ["install", "--index", index, "python", "python=<3.10", "lua=5.3.x"]
    assert packages(path, world, *line) == 0
    assert done == [("python", "3.12.0"), ("python", "3.9.4"), ("lua", "5.3.0")]
    assert world.stdout_text == "".join(f"{name} {version} installed\n" for name, version in done)
    assert world.stderr_text == ""


def test_one_that_fails_does_not_stop_the_others(
    daemon_with: Start, world: World, index: str
) -> None:
    def script(peer: Peer) -> None:
        refuse(peer, "exists", "Already installed")
        refuse(peer, "invalid_argument", "Checksum miss-match want: a got: b")
        accept(peer, [])

    line = ["install", "--index", index, "lua", "ruby", "python", "dash"]
    path = daemon_with(script, script)
    assert packages(path, world, *line) == 1
    assert world.stdout_text == "lua 5.4.6 already installed\ndash 0.5.12 installed\n"
    assert world.stderr_text == (
        "sandboxctl: ruby *: Requested package ruby-* does not exist\n"
        "sandboxctl: python 3.12.0: Checksum miss-match want: a got: b\n"
    )
    assert packages(path, world, "install", "--json", *line[1:]) == 1
    done = json.loads(world.stdout_text.splitlines()[-1])["packages"]
    assert [package["status"] for package in done] == [
        "already_installed", "failed", "failed", "installed",
    ]  # fmt: skip
    assert done[2]["error"]["code"] == "invalid_argument"


def test_progress_on_a_terminal(
    daemon_with: Start, screen: tuple[World, Callable[[], str]], index: str
) -> None:
    world, read = screen

    def script(peer: Peer) -> None:
        msgid, _, params = peer.request()
        key = {name: params[name] for name in ("language", "version")}
        peer.notify("package.progress", **key, phase="download", bytes=0)
        with open(peer.fds[0], "rb") as archive:
            archive.read()
        peer.notify("package.progress", **key, phase="download", bytes=102_400)
        peer.notify("package.progress", **key, phase="unpack", bytes=50, total=200)
        peer.notify("package.progress", **key, phase="environment", bytes=0)
        peer.notify("package.progress", **key, phase="done", bytes=0)
        peer.answer(msgid, key)

    assert packages(daemon_with(script), world, "install", "--index", index, "lua") == 0
    clear = "\r\x1b[K"
    lines = read().split(clear)
    assert lines[1:3] == [f"reading {index}", ""]
    assert lines[3].startswith("lua 5.4.6: downloading")
    assert lines[-4:] == [
        "lua 5.4.6: downloading  100.0 KiB of 195.3 KiB  51 %",
        "lua 5.4.6: unpacking  50 B of 200 B  25 %",
        "lua 5.4.6: asking for its environment",
        "",
    ]


def test_what_cannot_be_downloaded(daemon_with: Start, world: World, tmp_path: Path) -> None:
    (tmp_path / "index").write_text(f"lua,5.4.6,{SHA256},file:///nowhere/x\n")

    def script(peer: Peer) -> None:
        msgid, _, params = peer.request()
        key = {name: params[name] for name in ("language", "version")}
        peer.notify("package.progress", **key, phase="download", bytes=0)
        with open(peer.fds[0], "rb") as archive:
            assert archive.read() == b""
        peer.sock.sendall(rpc.encode_error(msgid, RequestError("invalid_argument", "Checksum")))

    path = daemon_with(script)
    assert packages(path, world, "install", "--index", (tmp_path / "index").as_uri(), "lua") == 1
    assert world.stderr_text == (
        "sandboxctl: lua 5.4.6: file:///nowhere/x: No such file or directory\n"
    )


def silent(peer: Peer) -> None:
    with pytest.raises(EOFError):
        peer.request()


@pytest.mark.parametrize("json_", [False, True], ids=["text", "json"])
def test_an_index_that_is_not_there(daemon_with: Start, world: World, json_: bool) -> None:
    options = ["--json"] if json_ else []
    path = daemon_with(silent)
    assert packages(path, world, "install", *options, "--index", "file:///nowhere", "lua") == 1
    said = json.loads(world.stdout_text)["error"]["message"] if json_ else world.stderr_text
    assert "the index of packages cannot be read: file:///nowhere: No such file" in said


def test_lines_that_are_none_are_named(daemon_with: Start, world: World, tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a bad line\x1b\n" * 13)
    url = (tmp_path / "index").as_uri()
    assert packages(daemon_with(listing), world, "list", "--index", url) == 0
    lines = world.stderr_text.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(f"sandboxctl: {url}: line 1 is left out")
    assert "\x1b" not in world.stderr_text
    assert lines[-1] == "sandboxctl: 3 more lines of it are left out"


@pytest.mark.parametrize("word", ["=1", "lua="])
def test_a_package_that_is_none(world: World, word: str) -> None:
    for command in ("install", "uninstall"):
        assert main(["packages", command, "--socket", "/nowhere", word], world) == 2
    assert "is not LANGUAGE or LANGUAGE=RANGE" in world.stderr_text


def test_without_a_daemon(world: World) -> None:
    assert packages("/nowhere", world, "uninstall", "lua") == 125
    assert world.stderr_text.startswith("sandboxctl: cannot reach sandboxd at /nowhere")


def test_uninstall(daemon_with: Start, world: World) -> None:
    asked = []

    def script(peer: Peer) -> None:
        for _ in range(2):
            listing(peer)
            msgid, method, params = peer.request()
            asked.append((method, params))
            if params["version"] == "5.4.6":
                peer.answer(msgid, params)
            else:
                missing = RequestError("not_found", "lua-9.x is not installed")
                peer.sock.sendall(rpc.encode_error(msgid, missing))

    path = daemon_with(script, script)
    assert packages(path, world, "uninstall", "lua=5.x", "lua=9.x") == 1
    assert asked == [
        ("package.uninstall", {"language": "lua", "version": "5.4.6"}),
        ("package.uninstall", {"language": "lua", "version": "9.x"}),
    ]
    assert world.stdout_text == "lua 5.4.6 uninstalled\n"
    assert world.stderr_text == "sandboxctl: lua 9.x: lua-9.x is not installed\n"
    assert packages(path, world, "uninstall", "--json", "lua=5.x", "lua=9.x") == 1
    done = json.loads(world.stdout_text.splitlines()[-1])["packages"]
    assert [package["status"] for package in done] == ["uninstalled", "failed"]


# Spec files.


def test_a_spec_file(daemon_with: Start, world: World, index: str, tmp_path: Path) -> None:
    """Installs what is missing, removes what is not wanted, leaves what the index does not have."""
    (tmp_path / "spec").write_text("# ours\npython 3.x\ndash *\nerlang *\n")
    done: list[tuple[str, str]] = []
    removed = []

    def script(peer: Peer) -> None:
        listing(peer)
        installs(2, done)(peer)
        msgid, method, params = peer.request()
        removed.append((method, params))
        peer.answer(msgid, params)

    path = daemon_with(script)
    assert packages(path, world, "spec", "--index", index, str(tmp_path / "spec")) == 1
    assert done == [("python", "3.12.0"), ("dash", "0.5.12")]
    assert removed == [("package.uninstall", {"language": "lua", "version": "5.4.6"})]
    spec = tmp_path / "spec"
    assert world.stderr_text == f"sandboxctl: {spec}: line 4: the index has no erlang *\n"


INDEX = [
    Package(language, version, "", "")
    for language, version in [
        ("python", "2.7.18"), ("python", "3.12.0"), ("python", "3.9.4"), ("pypy", "7.3.0"),
        ("lua", "5.4.6"), ("lua", "5.5.0-rc.1"),
    ]
]  # fmt: skip

SPECS: dict[str, tuple[str, list[str], list[str]]] = {
    "exact": ("python 3.9.4", ["python 3.9.4"], []),
    "highest": ("python *", ["python 3.12.0"], []),
    "two of one language": ("python 2.x\npython 3.x", ["python 2.7.18", "python 3.12.0"], []),
    "twice the same": ("python 3.x\npython *", ["python 3.12.0"], []),
    "glob": ("py* *", ["pypy 7.3.0", "python 3.12.0"], []),
    "everything": ("* *", ["lua 5.4.6", "pypy 7.3.0", "python 3.12.0"], []),
    "negated": ("* *\n!py* *\npypy *", ["lua 5.4.6", "pypy 7.3.0"], []),
    "negated by version": ("python 2.x\npython 3.x\n!python <3", ["python 3.12.0"], []),
    "negated with a space": ("* *\n! py* *", ["lua 5.4.6"], []),
    "negated nothing": ("lua *\n!ruby *", ["lua 5.4.6"], []),
    "range of two": ("python >=3 <3.10", ["python 3.9.4"], []),
    "comments and space": ("  # x\n\n\t python 3.x  # why\r\n", ["python 3.12.0"], []),
    "pre-release": ("lua 5.5.0-rc.1", ["lua 5.5.0-rc.1"], []),
    "unmatched": ("ruby *\nlua 9.x\nlua 5.4.x", ["lua 5.4.6"], ["ruby", "lua"]),
    "empty": ("", [], []),
}


@pytest.mark.parametrize(("text", "wanted", "unmatched"), SPECS.values(), ids=SPECS.keys())
def test_what_a_spec_wants(text: str, wanted: list[str], unmatched: list[str]) -> None:
    steps = plan(parse_spec(text), INDEX, set())
    assert [f"{package.language} {package.version}" for package in steps.install] == wanted
    assert steps.uninstall == []
    assert [rule.language for rule in steps.unmatched] == unmatched


def test_what_is_not_wanted_is_removed() -> None:
    installed = {("python", "3.9.4"), ("pypy", "7.3.0"), ("own", "1.0.0")}
    steps = plan(parse_spec("pypy *\nlua *"), INDEX, installed)
    assert [package.language for package in steps.install] == ["lua"]
    assert [package[:2] for package in steps.uninstall] == [("python", "3.9.4")]


BAD_SPECS = {
    "python": "line 1: 'python' is not a language and a range, such as python 3.x",
    "lua *\n!": "line 2: '!' is not a language and a range",
    "python three": "line 1: 'three' is not a range of versions",
    "{lua,dash} *": "line 1: braces are not known in '{lua,dash}'; write two lines",
}


@pytest.mark.parametrize(("text", "why"), BAD_SPECS.items(), ids=BAD_SPECS.keys())
def test_a_spec_that_is_none(world: World, tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(BadSpec) as caught:
        parse_spec(text)
    assert str(caught.value).startswith(why)
    (tmp_path / "spec").write_text(text)
    assert main(["packages", "spec", "--socket", "/nowhere", str(tmp_path / "spec")], world) == 1
    assert world.stderr_text.startswith(f"sandboxctl: {tmp_path}/spec: {why}")


# Building.


def package_directory(tmp_path: Path, **info: Any) -> Path:
    directory = tmp_path / "lua"
    directory.mkdir()
    (directory / "pkg-info.json").write_text(json.dumps(info))
    (directory / "run").write_text("#!/bin/bash\nlua $@\n")
    (directory / "run").chmod(0o755)
    return directory


def test_build(world: World, tmp_path: Path) -> None:
    directory = package_directory(tmp_path, language="lua", version="5.4.6")
    target = tmp_path / "lua.tar.gz"
    line = ["packages", "build", "-o", str(target), "--url", "http://x/lua.tar.gz", str(directory)]
    assert main(line, world) == 0
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    assert world.stdout_text == f"lua,5.4.6,{digest},http://x/lua.tar.gz\n"
    with tarfile.open(target) as archive:
        assert sorted(archive.getnames()) == ["./pkg-info.json", "./run"]
    assert main([*line, "--json"], world) == 0
    printed = json.loads(world.stdout_text.splitlines()[-1])
    assert (printed["sha256"], printed["path"]) == (digest, str(target))


@pytest.mark.parametrize("json_", [False, True], ids=["text", "json"])
def test_a_directory_that_is_no_package(world: World, tmp_path: Path, json_: bool) -> None:
    directory = package_directory(tmp_path, language="lua", version="five")
    line = ["packages", "build", *(["--json"] if json_ else []), str(directory)]
    assert main(line, world) == 1
    said = json.loads(world.stdout_text)["error"]["message"] if json_ else world.stderr_text
    assert "version 'five' is not of the form 1.2.3" in said
