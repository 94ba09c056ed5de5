"""Environments: archives of every kind become roots that jobs run in, and go again."""

import bz2
import gzip
import lzma
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from test_daemon_tenants import ALICE, as_user

from sandboxd_client import Client, RequestError
from sandboxd_client.aio import TrioClient
from support import host
from support.daemon import Daemon, running
from support.environments import (
    eventually,
    fresh_name,
    import_bytes,
    imported,
    kept,
    shell,
    state,
)
from support.images import (
    Image,
    Member,
    directory,
    hardlink,
    small_root,
    symlink,
    tar,
    unpacked_root,
)
from support.requirements import need_readable_tree

pytestmark = pytest.mark.usefixtures("require_sandbox")


@pytest.fixture(scope="module")
def base() -> bytes:
    return tar(small_root())


@pytest.fixture
def keep() -> Iterator[dict[str, Any]]:
    """Settings of a daemon that finds again what an earlier one kept: in a directory that its user
    can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-state-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield {"state_directory": f"{place}/state", "jobs": 1, "user": "70099"}


@pytest.fixture
def environment(client: Client, base: bytes) -> Iterator[str]:
    with imported(client, base) as name:
        yield name


# -- what can be imported ------------------------------------------------------------------------


def _zstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed: apt-get install zstd")
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, _zstd],
    ids=["plain", "gzip", "bzip2", "xz", "zstd"],
)  # fmt: skip
def test_root_file_system(client: Client, base: bytes, pack: Any) -> None:
    with imported(client, pack(base)) as name:
        [found] = [item for item in client.environments() if item["name"] == name]
        members = [member for member in small_root() if member.data]
        assert found["source"] == "tar"
        assert found["files"] == len(members)
        assert found["size_bytes"] == sum(len(member.data) for member in members)
        result = shell(client, name, "cat /etc/passwd; echo $PATH; pwd; ls -d /[a-z]*")
        assert (result.status, result.stderr) == ("ok", b"")
        lines = result.stdout.decode().splitlines()
        assert lines[:4] == ["root:x:0:0::/:/bin/sh", "guest:x:1000:1000::/work:/bin/sh",
                             "/usr/local/bin:/usr/bin:/bin", "/work"]  # fmt: skip
        top = {path.split("/")[0] for path in (member.name.lstrip("./") for member in members)}
        expected = top | {"dev", "piston", "proc", "task", "tmp", "work"}
        assert {line.lstrip("/") for line in lines[4:]} == expected


def test_directory(client: Client, tmp_path: Path) -> None:
    root = unpacked_root(tmp_path / "root")
    (root / "bin/again").hardlink_to(root / "bin/cat")
    (root / "link").symlink_to("/etc/passwd")
    name = fresh_name()
    made = client.import_environment(name, root)
    try:
        assert made["name"] == name
        result = shell(client, name, "again /link")
        assert result.stdout.startswith(b"root:x:0:0::/:/bin/sh\n")
    finally:
        client.remove_environment(name)


def test_archive_by_its_path(client: Client, base: bytes, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(base)
    name = fresh_name()
    client.import_environment(name, str(tmp_path / "root.tar"))
    client.remove_environment(name)


def test_path_that_is_not_there(client: Client, tmp_path: Path) -> None:
    """The daemon hears nothing of it."""
    (tmp_path / "closed").symlink_to("nowhere")
    for path in ("nosuch", "closed"):
        with pytest.raises(FileNotFoundError):
            client.import_environment(fresh_name(), tmp_path / path)
    assert client.health()["status"] == "ok"


async def test_with_trio(daemon: Daemon, tmp_path: Path) -> None:
    async with await TrioClient.connect(daemon.socket) as client:
        name = fresh_name()
        root = await trio.to_thread.run_sync(unpacked_root, tmp_path)
        made = await client.import_environment(name, root)
        assert made in await client.environments()
        result = await client.run(["sh", "-c", "echo $0"], environment=name)
        assert result.stdout == b"sh\n"
        await client.remove_environment(name)
        assert made not in await client.environments()


def test_pipe(client: Client, base: bytes) -> None:
    """As it comes; its end is the archive's."""
    reader, writer = os.pipe()

    def feed() -> None:
        with open(writer, "wb") as file:
            file.write(base)

    feeder = threading.Thread(target=feed)
    feeder.start()
    name = fresh_name()
    try:
        client.import_environment(name, reader)
    finally:
        os.close(reader)
        feeder.join()
    assert shell(client, name, "echo in").stdout == b"in\n"
    client.remove_environment(name)


LAYERS = [
    tar([*small_root(), directory("etc/d"), Member("etc/d/one"), Member("etc/d/two"),
         directory("opaque"), Member("opaque/below"), Member("gone"), Member("changed", b"old"),
         symlink("link", "/gone"), directory("replaced"), Member("replaced/inner")]),
    tar([Member(".wh.gone"), Member("etc/d/.wh.one"), Member("opaque/.wh..wh..opq"),
         Member("opaque/above"), Member("changed", b"new"), Member(".wh..wh.plnk"),
         Member("replaced", b"a file now"), Member(".wh.nothing")]),
    tar([Member("gone", b"here again"), Member("tools/hello", b"#!/bin/sh\necho hello $A\n", 0o755),
         hardlink("tools/same", "tools/hello")]),
]  # fmt: skip
ENV = ["PATH=/tools:/bin", "A=from the image"]
_LOOK = (
    "hello; same; cat gone changed replaced; echo; ls -a etc/d opaque;"
    " for name in .wh* */.wh*; do test -e $name && echo $name; done; echo $HOME"
)
_SEEN = (
    "hello from the image\nhello from the image\nhere againnewa file now\n"
    "etc/d:\n.\n..\ntwo\n\nopaque:\n.\n..\nabove\n/work\n"
)


@pytest.mark.parametrize(
    "kind", ["oci", "oci plain", "oci zstd", "oci packed", "docker", "docker with links", "both"]
)
def test_container_image(client: Client, kind: str) -> None:
    image = Image(LAYERS, env=ENV, working_dir="/srv")
    archive = {
        "oci": image.oci().tar,
        "oci plain": image.oci(bytes).tar,
        "oci zstd": lambda: image.oci(_zstd).tar(),
        "oci packed": lambda: gzip.compress(image.oci().tar(), 1),
        "docker": lambda: tar(image.docker()),
        "docker with links": lambda: tar(image.docker(duplicates=True)),
        "both": lambda: tar([*image.docker(), *image.oci().members()]),
    }[kind]()
    with imported(client, archive) as name:
        [found] = [item for item in client.environments() if item["name"] == name]
        assert found["source"] == ("docker" if kind.startswith("docker") else "oci")
        assert found["env"] == {"PATH": "/tools:/bin", "A": "from the image"}
        assert found["working_directory"] == "/srv"
        result = shell(client, name, _LOOK, cwd="/")
        assert (result.status, result.stdout.decode()) == ("ok", _SEEN), result.stderr


def test_image_of_umoci_and_skopeo(client: Client, tmp_path: Path) -> None:
    """What the reference implementations write is understood."""
    for tool in ("umoci", "skopeo"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install --no-install-recommends {tool}")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    run("umoci", "init", "--layout", "layout")
    run("umoci", "new", "--image", "layout:test")
    for number, layer in enumerate(LAYERS[:1]):
        (tmp_path / f"{number}.tar").write_bytes(layer)
        run("umoci", "raw", "add-layer", "--image", "layout:test", f"{number}.tar")
    run("umoci", "unpack", "--image", "layout:test", "bundle")
    (tmp_path / "bundle/rootfs/gone").unlink()
    (tmp_path / "bundle/rootfs/added").write_text("of the second layer")
    run("umoci", "repack", "--image", "layout:test", "bundle")
    run("umoci", "config", "--image", "layout:test", "--config.env", "PATH=/bin:/x")
    skopeo = ("skopeo", "--insecure-policy", "--tmpdir", ".", "copy", "-q", "oci:layout:test")
    run(*skopeo, "oci-archive:oci.tar:test")
    run(*skopeo, "docker-archive:docker.tar:test:1")
    for source in ("oci", "docker"):
        name = fresh_name()
        made = client.import_environment(name, tmp_path / f"{source}.tar")
        try:
            assert (made["source"], made["env"]) == (source, {"PATH": "/bin:/x"})
            result = shell(client, name, "cat /added; test -e /gone || echo; echo $PATH")
            assert result.stdout == b"of the second layer\n/bin:/x\n"
        finally:
            client.remove_environment(name)


# -- jobs in environments ------------------------------------------------------------------------


def test_read_only_under_every_job(client: Client, environment: str, daemon: Daemon) -> None:
    before = _content(state(daemon) / "environments" / environment)
    script = (
        "for name in /x /etc/passwd /bin/x /dev/x /piston/x /piston/packages/x /proc/x; do"
        " (echo spoilt > $name) 2>/dev/null && echo $name; done;"
        " echo fine > /work/x; echo fine > /tmp/x; echo fine > /dev/shm/x;"
        " cat /work/x /tmp/x /dev/shm/x"
    )
    for mode in ("recycled", "fresh"):
        result = shell(client, environment, script, mode=mode)
        assert (result.status, result.stdout) == ("ok", b"fine\n" * 3)
    assert _content(state(daemon) / "environments" / environment) == before


def _content(where: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in where.rglob("*")
    }


def test_each_sees_its_own(client: Client) -> None:
    """Not another's files, not the host's, and no job in the host's /usr sees any of them."""
    one = tar([*small_root(), Member("mark-one", b"one")])
    two = tar([*small_root(), Member("mark-two", b"two")])
    look = (
        "for file in /mark* /usr/bin/env /etc/nsswitch.conf; do test -e $file && echo $file; done"
    )
    with imported(client, one) as first, imported(client, two) as second:
        for _ in range(3):
            assert shell(client, first, look).stdout == b"/mark-one\n"
            assert shell(client, second, look).stdout == b"/mark-two\n"
            plain = client.run(["sh", "-c", look])
            assert plain.stdout == b"/usr/bin/env\n/etc/nsswitch.conf\n"


def test_what_others_cannot_read(client: Client) -> None:
    """A job is another user than the owner, and no bit gives it more than it had."""
    members = [Member("secret", b"s", 0o600), Member("group", b"g", 0o640),
               directory("private", 0o700), Member("private/x", b"x"),
               Member("open", b"o", 0o604), Member("setid", b"#!", 0o6755)]  # fmt: skip
    with imported(client, tar([*small_root(), *members])) as name:
        script = "cat secret group private/x open; test -u setid -o -g setid || echo plain"
        result = shell(client, name, script, cwd="/")
        assert result.stdout == b"oplain\n"
        assert result.stderr.count(b"Permission denied") == 3


def test_variables_of_an_image_are_the_default_only(client: Client) -> None:
    with imported(client, Image(LAYERS, env=ENV).oci().tar()) as name:
        script = "echo $PATH $A $B $LANG"
        assert shell(client, name, script).stdout == b"/tools:/bin from the image C.UTF-8\n"
        env = {"B": "own", "PATH": "/bin"}
        assert shell(client, name, script, env=env).stdout == b"/bin own\n"


def test_all_of_a_job_works_in_one(client: Client, environment: str) -> None:
    result = client.run(
        ["sh", "-c", "cat made given; cat; echo out > collected"],
        compile={"argv": ["sh", "-c", "echo made > made"]},
        files={"given": b"given\n"},
        stdin=b"stdin\n",
        collect=["coll*"],
        environment=environment,
    )
    assert result.compile.status == "ok"
    assert result.run is not None
    assert result.run.stdout == b"made\ngiven\nstdin\n"
    assert dict(result.run.files) == {"collected": b"out\n"}


def test_nothing_stays_for_the_next_job(client: Client, environment: str) -> None:
    for _ in range(4):
        result = shell(client, environment, "ls -A /work /tmp; echo x > x; echo x > /tmp/x")
        assert result.stdout == b"/tmp:\n\n/work:\n"


def test_unknown_environment(client: Client, environment: str) -> None:
    for name in ("nosuch", "../environments/" + environment, "."):
        with pytest.raises(RequestError, match="environment: there is no") as caught:
            client.run(["true"], environment=name)
        assert caught.value.code == "not_found"


# -- changing ------------------------------------------------------------------------------------


def test_removal_while_a_job_uses_it(client: Client, daemon: Daemon, base: bytes) -> None:
    """The job goes on with all its files, and the name is free at once."""
    name = import_bytes(client, base)["name"]
    script = "read line; cat /etc/passwd; read line; ls -d /bin"
    job = client.start(
        ["sh", "-c", script], environment=name, stdin_stream=True, stream=True,
        limits={"wall_time_ns": 60_000_000_000},
    )  # fmt: skip
    client.remove_environment(name)
    assert not (state(daemon) / "environments" / name).exists()
    assert name not in [item["name"] for item in client.environments()]
    with pytest.raises(RequestError, match="there is no"):
        shell(client, name, "true")
    job.write(b"\n")
    stream = iter(job)
    assert next(stream)[1].startswith(b"root:x:0:0::/:/bin/sh\n")
    other = tar([*small_root(), Member("other", b"other")])
    import_bytes(client, other, name)
    assert shell(client, name, "cat /other").stdout == b"other"
    [removed] = (state(daemon) / "staging").iterdir()
    assert (removed / "rootfs/etc/passwd").exists()
    job.write(b"\n")
    assert next(stream)[1] == b"/bin\n"
    assert job.wait().status == "ok"
    client.remove_environment(name)
    eventually(lambda: not kept(daemon), "what was removed stayed on the disk")


def test_removal_while_a_job_waits_for_its_turn(base: bytes) -> None:
    with running(jobs=1) as daemon, Client(daemon.socket) as client:
        name = import_bytes(client, base)["name"]
        first = client.start(["sh", "-c", "read x"], stdin_stream=True)
        script = ["sh", "-c", "cat /etc/passwd"]
        waiting = [client.start(script, environment=name) for _ in range(5)]
        client.remove_environment(name)
        first.close_stdin()
        for job in waiting:
            assert job.wait().stdout.startswith(b"root:x:0:0::/:/bin/sh\n")
        eventually(lambda: not kept(daemon), "what was removed stayed on the disk")


def test_removal_while_its_sandbox_is_made(base: bytes) -> None:
    """Whatever has been made of it by then goes as well, and the next one is made at once."""
    with running(jobs=2) as own, Client(own.socket) as client:
        for round_ in range(16):
            name = import_bytes(client, base)["name"]
            client.start(["true"], environment=name).cancel()
            time.sleep(round_ % 8 * 0.0005)
            client.remove_environment(name)
        assert client.run(["true"]).status == "ok"
        eventually(
            lambda: not any(host.is_zombie(pid) for pid in host.descendants(own.pid)),
            "a process was never waited for",
        )
        assert "no slot could be made" not in own.log_text()


def test_one_that_the_helper_does_not_know(base: bytes, tmp_path: Path) -> None:
    """No job is run with the host's directories in place of its environment."""
    (tmp_path / "sitecustomize.py").write_text(
        "from sandboxd.engine.roots import Roots; Roots._tell = lambda self, root: None"
    )
    environ = {"PYTHONPATH": str(tmp_path)}
    with running(environ, jobs=1) as own, Client(own.socket) as client:
        result = shell(client, import_bytes(client, base)["name"], "cat /etc/passwd")
        assert (result.status, result.stdout) == ("internal_error", b"")
        assert client.run(["true"]).status == "ok"


def test_names_are_taken_once(client: Client, environment: str, base: bytes) -> None:
    with pytest.raises(RequestError, match="is there already") as caught:
        import_bytes(client, base, environment)
    assert caught.value.code == "exists"
    client.remove_environment(name := import_bytes(client, base)["name"])
    with pytest.raises(RequestError, match=f"there is no environment {name}") as caught:
        client.remove_environment(name)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "x" * 65, "a\nb"])
def test_names_that_are_none(client: Client, base: bytes, name: str, daemon: Daemon) -> None:
    eventually(lambda: not kept(daemon), "other tests left something")
    with pytest.raises(RequestError, match=r"name: .* must be 1 to 64") as caught:
        import_bytes(client, base, name)
    assert caught.value.code == "invalid_argument"
    with pytest.raises(RequestError, match=r"name: .* must be 1 to 64"):
        client.remove_environment(name)
    assert not kept(daemon)


class Slow:
    """An import that does not get its archive to the end until it is told to."""

    def __init__(self, daemon: Daemon, archive: bytes, name: str = "") -> None:
        self.name = name or fresh_name()
        self.client = Client(daemon.socket)
        self._rest = archive[len(archive) // 2 :]
        reader, self._writer = os.pipe()
        self._result: dict[str, Any] | RequestError | None = None
        params = {"name": self.name, "fds": {"archive": 0}}
        self._msgid = self.client._connection.send("environment.import", params, [reader])
        os.close(reader)
        feed = memoryview(archive)[: len(archive) // 2]
        while feed:  # When the pipe has taken this, the import has begun.
            feed = feed[os.write(self._writer, feed) :]

    def finish(self) -> dict[str, Any]:
        with open(self._writer, "wb") as file:
            file.write(self._rest)
        while self._msgid not in self.client._answers:
            self.client._receive()
        answer = self.client._answers.pop(self._msgid)
        if answer.error is not None:
            raise answer.error
        assert isinstance(answer.result, dict)
        return answer.result

    def abandon(self) -> None:
        self.client.close()
        os.close(self._writer)


def test_two_of_one_name_at_once(client: Client, daemon: Daemon, base: bytes) -> None:
    slow = Slow(daemon, base)
    with pytest.raises(RequestError, match="being imported at the moment") as caught:
        import_bytes(client, base, slow.name)
    assert caught.value.code == "exists"
    assert slow.finish()["name"] == slow.name
    assert shell(client, slow.name, "echo won").stdout == b"won\n"
    slow.client.close()
    client.remove_environment(slow.name)


def test_too_many_at_once(client: Client, daemon: Daemon, base: bytes) -> None:
    slow = [Slow(daemon, base) for _ in range(2)]
    with pytest.raises(RequestError, match="imports are being done") as caught:
        import_bytes(client, base)
    assert caught.value.code == "busy"
    for one in slow:
        one.abandon()
    eventually(lambda: not kept(daemon), "an import that was given up left something")
    with imported(client, base):
        pass


def test_client_that_goes_away(client: Client, daemon: Daemon, base: bytes) -> None:
    """Nothing is left, and nothing is in the way of the next one."""
    slow = Slow(daemon, base)
    assert kept(daemon)
    slow.abandon()
    eventually(lambda: not kept(daemon), "an import that was given up left something")
    import_bytes(client, base, slow.name)
    client.remove_environment(slow.name)


def test_archive_that_ends_early(client: Client, daemon: Daemon, base: bytes) -> None:
    with pytest.raises(RequestError, match=r"archive.*(damaged|ends)") as caught:
        import_bytes(client, base[: len(base) // 2])
    assert caught.value.code == "invalid_argument"
    with pytest.raises(RequestError, match="the archive has no files"):
        import_bytes(client, tar([directory("empty")]))
    eventually(lambda: not kept(daemon), "a refused archive left something")


def test_what_is_no_archive(client: Client, tmp_path: Path) -> None:
    for content in (b"", b"text" * 1000, gzip.compress(b"text"), b"\x1f\x8b" + b"\0" * 600):
        with pytest.raises(RequestError, match="archive: ") as caught:
            import_bytes(client, content)
        assert caught.value.code == "invalid_argument"
    for fd, problem in (
        (os.open(tmp_path, os.O_RDONLY), "must be a file, pipe, socket or terminal"),
        (os.open(tmp_path / "w", os.O_WRONLY | os.O_CREAT), "must be open for reading"),
    ):
        with pytest.raises(RequestError, match=rf"fds\.archive: {problem}"):
            client.import_environment(fresh_name(), fd)
        os.close(fd)
    with pytest.raises(RequestError, match="fds"):
        client.call("environment.import", {"name": "x", "fds": {"archive": 0}})


def test_restart(keep: dict[str, Any], base: bytes) -> None:
    """What was imported is there again, what was interrupted is not, and what is damaged does not
    keep the daemon from starting."""
    archive = Image([base], env=["A=1", "PATH=/bin"]).oci().tar()
    place = Path(keep["state_directory"])
    with running(**keep) as daemon:
        with Client(daemon.socket) as client:
            import_bytes(client, archive, "kept")
            import_bytes(client, base, "damaged")
        slow = Slow(daemon, base, "interrupted")
        daemon.process.kill()
        daemon.process.wait()
        slow.abandon()
    (place / "environments/damaged/environment.json").write_text("{")
    (place / "environments/no name").mkdir()
    assert list((place / "staging").iterdir())
    with running(**keep) as daemon, Client(daemon.socket) as client:
        assert list((place / "staging").iterdir()) == []
        assert [item["name"] for item in client.environments()] == ["kept"]
        assert shell(client, "kept", "echo $A").stdout == b"1\n"
        assert "an environment is not usable name=damaged" in daemon.log_text()
        with pytest.raises(RequestError, match="is there already; remove it first"):
            import_bytes(client, base, "damaged")
        client.remove_environment("damaged")
        import_bytes(client, base, "interrupted")
        assert shell(client, "interrupted", "echo in").stdout == b"in\n"


def test_worker_that_dies(base: bytes) -> None:
    """The next one knows them all, and those that are in use while they are removed."""
    with running(jobs=2) as daemon, Client(daemon.socket) as client:
        name = import_bytes(client, base)["name"]
        job = client.start(["sh", "-c", "read x"], environment=name, stdin_stream=True)
        os.kill(int(client.info()["helper"]["pid"]), signal.SIGKILL)
        assert job.wait().status == "internal_error"
        assert shell(client, name, "echo again").stdout == b"again\n"
        client.remove_environment(name)
        eventually(lambda: not kept(daemon), "what was removed stayed on the disk")


def test_only_administrators_change_them(base: bytes) -> None:
    need_readable_tree()
    with running(jobs=1, socket_mode=0o666) as daemon, Client(daemon.socket) as client:
        name = import_bytes(client, base)["name"]
        script = (
            "import os\n"
            f"print(client.run(['sh', '-c', 'echo ran'], environment={name!r}).stdout)\n"
            "print(len(client.environments()))\n"
            "for call in (lambda: client.import_environment('x', os.open('/dev/null', 0)),\n"
            f"             lambda: client.remove_environment({name!r})):\n"
            "    try: call()\n"
            "    except RequestError as error: print(error.code, error)\n"
        )
        process = as_user(ALICE, daemon, script)
        lines = process.communicate()[0].decode().splitlines()
        refused = f"permission_denied uid {ALICE} may not change packages and environments"
        assert lines[:2] == ["b'ran\\n'", "1"]
        assert [line.partition(";")[0] for line in lines[2:]] == [refused] * 2
        assert [item["name"] for item in client.environments()] == [name]


def test_second_daemon_only_reads(keep: dict[str, Any], base: bytes) -> None:
    """And what it reads stays under its jobs, whatever the first one does."""
    with running(**keep) as first, Client(first.socket) as client:
        import_bytes(client, base, "shared")
        with running(**keep) as second, Client(second.socket) as reader:
            assert shell(reader, "shared", "echo read").stdout == b"read\n"
            for change in (
                lambda: import_bytes(reader, base, "new"),
                lambda: reader.remove_environment("shared"),
            ):
                with pytest.raises(RequestError, match="cannot write") as caught:
                    change()
                assert caught.value.code == "permission_denied"
            job = reader.start(
                ["sh", "-c", "read x; cat /etc/passwd"], environment="shared", stdin_stream=True
            )
            client.remove_environment("shared")
            eventually(lambda: "another sandboxd uses it" in first.log_text(), "no word of that")
            job.close_stdin()
            assert job.wait().stdout.startswith(b"root:x:0:0::/:/bin/sh\n")
        import_bytes(client, base, "shared")
        assert shell(client, "shared", "echo there").stdout == b"there\n"


RUNTIME = """
language = "{name}"
environment = "{name}"
[version]
programs = ["tool"]
command = ["tool", "--version"]
pattern = '(\\d+\\.\\d+)'
[run]
command = ["tool", "{{main}}", "{{args}}"]
env = {{ OWN = "of the file" }}
"""
TOOL = b"""#!/bin/sh
case $1 in --version) echo "tool 1.$MINOR";; *) cat "$1"; shift; echo "$@ $OWN $MINOR";; esac
"""


def test_runtime_in_an_environment(client: Client, daemon: Daemon) -> None:
    """Is there as long as the environment is, in the version that is found out in it, with the
    variables of its image."""
    name = fresh_name()
    file = Path(daemon.socket).parent / "runtimes" / f"{name}.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(RUNTIME.format(name=name))
    layers = [tar([*small_root(), Member("tools/tool", TOOL, 0o755)])]
    try:
        for minor in ("4", "5"):
            with pytest.raises(RequestError, match="runtime is unknown"):
                client.execute(name, ["text\n"])
            image = Image(layers, env=["PATH=/tools:/bin", f"MINOR={minor}"])
            import_bytes(client, image.oci().tar(), name)
            result = client.execute(name, ["text\n"], args=["a b", "c"])
            assert result.version == f"1.{minor}.0"
            assert result.run is not None
            assert result.run.stdout == f"text\na b c of the file {minor}\n".encode()
            client.remove_environment(name)
    finally:
        file.unlink()
