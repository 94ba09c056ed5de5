"""`sandboxctl environments` against a scripted daemon: what is sent, and what is never sent."""

import io
import json
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxctl.__main__ import main
from sandboxctl.commands import parse
from sandboxctl.progress import Progress
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import RequestError
from support.scripted import Peer
from support.world import World

Start = Callable[..., str]
Screen = tuple[World, Callable[[], str]]
ANSWER = {"name": "deb", "size_bytes": 3 * 2**20, "files": 7}


def environments(path: str, world: World, *argv: str) -> int:
    command, *rest = argv
    return main(["environments", command, "--socket", path, *rest], world)


def import_script(got: list[bytes]) -> Callable[[Peer], None]:
    """Takes an archive and answers once it has all of it."""

    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, params) == ("environment.import", {"name": "deb", "fds": {"archive": 0}})
        with open(peer.fds[0], "rb") as archive:
            got.append(archive.read())
        peer.answer(msgid, ANSWER)

    return script


def test_an_archive_is_sent_as_it_is(daemon_with: Start, world: World, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "a.tar").write_bytes(data)
    got: list[bytes] = []
    path = daemon_with(import_script(got), import_script(got))
    assert environments(path, world, "import", "deb", str(tmp_path / "a.tar")) == 0
    assert world.stdout_text == "deb: 7 files, 3.0 MiB\n"
    assert world.stderr_text == ""
    assert environments(path, world, "import", "--json", "deb", str(tmp_path / "a.tar")) == 0
    assert json.loads(world.stdout_text.splitlines()[1]) == ANSWER
    assert got == [data, data]


def test_an_archive_from_stdin(daemon_with: Start, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    got: list[bytes] = []
    path = daemon_with(import_script(got))
    assert environments(path, World(tmp_path, data), "import", "deb", "-") == 0
    assert got == [data]


def test_a_directory_is_packed_and_links_are_not_followed(
    daemon_with: Start, world: World, tmp_path: Path
) -> None:
    root = tmp_path / "-root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "os-release").write_text("ID=x")
    (root / "passwd").symlink_to("/etc/passwd")
    (root / "big").write_bytes(bytes(500_000))
    got: list[bytes] = []
    os.chdir(tmp_path)
    path = daemon_with(import_script(got))
    assert environments(path, world, "import", "--", "deb", "-root") == 0
    with tarfile.open(fileobj=io.BytesIO(got[0])) as archive:
        members = {member.name: member for member in archive}
    assert set(members) == {".", "./etc", "./etc/os-release", "./passwd", "./big"}
    assert members["./passwd"].linkname == "/etc/passwd"
    assert members["./big"].size == 500_000


def test_half_a_directory_never_becomes_an_archive(
    daemon_with: Start, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tar fails after it has written much: what the daemon has is cut off, and the connection is
    closed before the pipe is."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(os.urandom(50_000))
    tar = tmp_path / "bin" / "tar"
    tar.write_text(
        '#!/bin/sh\nPATH=/usr/bin:/bin; tar "$@"; echo tar: x: no >&2; echo more >&2; exit 2\n'
    )
    tar.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    got: list[bytes] = []
    read = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        with pytest.raises(EOFError):
            peer.request()
        with open(peer.fds[0], "rb") as archive:
            got.append(archive.read())
        read.set()

    path = daemon_with(script)
    assert environments(path, world, "import", "deb", str(tmp_path / "root")) == 1
    assert world.stderr_text == ("sandboxctl: the directory could not be packed: tar: x: no\n")
    assert read.wait(10), "the daemon reads on after the command has ended"
    assert len(got[0]) > 20_000
    assert bytes(1024) not in got[0][-1024:], "the end of the archive was not sent"
    with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(got[0])) as archive:
        archive.extractfile("./file").read()  # type: ignore[union-attr]


def test_without_tar(
    daemon_with: Start, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    def script(peer: Peer) -> None:
        with pytest.raises(EOFError):
            peer.request()

    path = daemon_with(script)
    assert environments(path, world, "import", "deb", str(tmp_path)) == 1
    assert world.stderr_text == (
        "sandboxctl: a directory is packed by tar, which cannot be started:"
        " No such file or directory\n"
    )


@pytest.mark.parametrize("json_", [False, True], ids=["text", "json"])
def test_a_refusal_before_the_archive_is_read(
    daemon_with: Start, world: World, tmp_path: Path, json_: bool
) -> None:
    """The daemon closes its end at once: that is not what is reported, its answer is."""
    (tmp_path / "a.tar").write_bytes(bytes(3_000_000))

    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        os.close(peer.fds[0])
        refused = RequestError("exists", "name: deb is there already")
        peer.sock.sendall(rpc.encode_error(msgid, refused))

    options = ["--json"] if json_ else []
    path = daemon_with(script)
    assert environments(path, world, "import", *options, "deb", str(tmp_path / "a.tar")) == 1
    if json_:
        error = {"code": "exists", "message": "name: deb is there already", "data": {}}
        assert json.loads(world.stdout_text) == {"error": error}
    else:
        assert world.stderr_text == "sandboxctl: name: deb is there already\n"


def test_a_daemon_that_goes_away(daemon_with: Start, world: World, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(3_000_000))

    def script(peer: Peer) -> None:
        peer.request()

    path = daemon_with(script)
    assert environments(path, world, "import", "deb", str(tmp_path / "a.tar")) == 125
    assert world.stderr_text == "sandboxctl: sandboxd closed the connection\n"


def test_a_file_that_is_not_there(daemon_with: Start, world: World) -> None:
    def script(peer: Peer) -> None:
        with pytest.raises(EOFError):
            peer.request()

    assert environments(daemon_with(script), world, "import", "deb", "/nowhere/x") == 1
    assert world.stderr_text == "sandboxctl: /nowhere/x: No such file or directory\n"


def test_list(daemon_with: Start, world: World) -> None:
    there = [{"name": "deb", "size_bytes": 2**20, "imported_ns": 1_700_000_000 * 10**9,
              "source": "oci"}]  # fmt: skip

    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, params) == ("environment.list", {})
        peer.answer(msgid, {"environments": there})

    def nothing(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"environments": []})

    path = daemon_with(script, nothing, script)
    assert environments(path, world, "list") == 0
    head, line = world.stdout_text.splitlines()
    assert head.split() == ["NAME", "SIZE", "IMPORTED", "SOURCE"]
    assert line.startswith("deb   1.0 MiB  2023-11-1")
    assert environments(path, world, "list") == 0
    assert "There is none" in world.stdout_text
    assert environments(path, world, "list", "--json") == 0
    assert json.loads(world.stdout_text.splitlines()[-1]) == {"environments": there}


def test_remove(daemon_with: Start, world: World) -> None:
    asked = []

    def script(peer: Peer) -> None:
        for _ in range(2):
            msgid, method, params = peer.request()
            asked.append((method, params["name"]))
            peer.answer(msgid, {})

    def refusing(peer: Peer) -> None:
        missing = RequestError("not_found", "name: there is no environment a")
        peer.sock.sendall(rpc.encode_error(peer.request()[0], missing))

    path = daemon_with(script, script, refusing)
    assert environments(path, world, "remove", "a", "b") == 0
    assert world.stdout_text == "a removed\nb removed\n"
    assert asked == [("environment.remove", "a"), ("environment.remove", "b")]
    assert environments(path, world, "remove", "--json", "a", "b") == 0
    assert json.loads(world.stdout_text.splitlines()[-1]) == {"removed": ["a", "b"]}
    assert environments(path, world, "remove", "a", "b") == 1
    assert world.stderr_text == "sandboxctl: name: there is no environment a\n"


def test_progress_is_for_terminals(daemon_with: Start, screen: Screen, tmp_path: Path) -> None:
    world, read = screen
    (tmp_path / "a.tar").write_bytes(bytes(2_000_000))
    script = import_script([])
    path = daemon_with(script, script, script)
    archive = str(tmp_path / "a.tar")
    assert environments(path, world, "import", "deb", archive) == 0
    text = read()
    assert "\r\x1b[Ksending  " in text
    assert " of 1.9 MiB  " in text
    assert text.endswith("\r\x1b[Kunpacking\r\x1b[K")
    assert environments(path, world, "import", "--quiet", "deb", archive) == 0
    assert environments(path, world, "import", "--json", "deb", archive) == 0
    assert read() == text


def test_progress_says_what_is_known(screen: Screen) -> None:
    world, read = screen
    progress = Progress(parse(["environments", "list"]), world)
    progress.show("a\x1b[31m", 0, 100)
    progress.show("b", 2048)
    progress.show("b", 2049)  # Reads the same.
    progress.show("c", 300, 200)
    progress.clear()
    progress.clear()
    clear = "\r\x1b[K"
    assert read() == (
        f"{clear}a\\x1b[31m  0 B of 100 B  0 %{clear}b  2.0 KiB{clear}c  300 B of 200 B  100 %"
        f"{clear}"
    )


def test_a_slow_daemon_holds_the_source_back(daemon_with: Start, tmp_path: Path) -> None:
    """No more than a pipe's worth is read ahead, however large the archive is."""
    reader, writer = os.pipe()
    world = World(tmp_path)
    os.dup2(reader, world.stdin)
    os.close(reader)
    fed = []
    go = threading.Event()

    def feed() -> None:
        with open(writer, "wb", buffering=0) as pipe:
            os.set_blocking(writer, False)
            while not go.wait(0.05):
                try:
                    fed.append(pipe.write(bytes(65536)) or 0)
                except BlockingIOError:
                    continue
            os.set_blocking(writer, True)

    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        assert not go.wait(1)
        before = sum(fed)
        assert not go.wait(0.3)
        assert sum(fed) == before <= 1_000_000
        go.set()
        with open(peer.fds[0], "rb") as archive:
            assert len(archive.read()) == sum(fed)
        peer.answer(msgid, ANSWER)

    thread = threading.Thread(target=feed)
    thread.start()
    assert environments(daemon_with(script), world, "import", "deb", "-") == 0
    thread.join()
