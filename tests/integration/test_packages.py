"""Packages from an index to a program that runs, with the real daemon and real archives."""

import contextlib
import hashlib
import os
import shutil
import signal
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sandboxd
from sandboxd_client import Client, RequestError
from sandboxd_client.aio import TrioClient
from sandboxd_packages import DownloadFailed, Package, fetch_index, install, select
from support import packages
from support.daemon import Daemon, running
from support.jobs import SECOND
from support.packages import Repository

# Of daemons one after the other on the same state: no account has it.
_USER = "1234567890"
_PATIENT = {"wall_time_ns": 60 * SECOND, "cpu_time_ns": 20 * SECOND}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with packages.serving(tmp_path) as repository:
        yield repository


@pytest.fixture(scope="module")
def packager(require_sandbox: None) -> Iterator[Daemon]:
    """A daemon whose packages are these tests' own."""
    with running(jobs=2, max_limits=_PATIENT) as daemon:
        yield daemon
        assert daemon.process.poll() is None, daemon.log_text()


@pytest.fixture
def client(packager: Daemon) -> Iterator[Client]:
    with Client(packager.socket) as client:
        yield client
        for package in client.packages():
            client.uninstall_package(package["language"], package["version"])
    _await_empty(packager)


def _state(daemon: Daemon) -> Path:
    return Path(daemon.socket).parent / "state"


def _left(daemon: Daemon) -> list[str]:
    """What lies in the directories of packages and of what is being made."""
    state = _state(daemon)
    return [str(path) for name in ("packages", "staging") for path in (state / name).iterdir()]


def _await_empty(daemon: Daemon) -> None:
    deadline = time.monotonic() + 10
    while _left(daemon) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _left(daemon) == []


def _add(repository: Repository, tmp_path: Path, **kwargs: Any) -> Package:
    repository.add(packages.made(tmp_path, **kwargs))
    return select(fetch_index(repository.index).packages, kwargs.get("language", "mysh"))


def _execute(client: Client, language: str, code: str, **options: Any) -> dict[str, Any]:
    files = [{"data": code}]
    return dict(client.call("runtime.execute", {"language": language, "files": files, **options}))


def test_from_the_index_to_a_result(
    client: Client, packager: Daemon, repository: Repository, tmp_path: Path
) -> None:
    repository.add(packages.made(tmp_path, version="1.2.3"))
    package = _add(repository, tmp_path, version="1.10.0")
    assert package.version == "1.10.0", "the highest, not the last by alphabet"
    seen: list[tuple[str, int, int | None]] = []
    assert install(client, package, lambda *what: seen.append(what)) == ("mysh", "1.10.0")
    phases = list(dict.fromkeys(phase for phase, _, _ in seen))
    assert phases == ["download", "unpack", "environment", "done"]
    [installed] = client.packages()
    assert installed["runtimes"] == ["mysh"]
    assert installed["size_bytes"] > os.path.getsize("/bin/dash")
    assert abs(installed["installed_ns"] - time.time_ns()) < 60 * SECOND

    code = 'echo "$1 $HOME $PISTON_LANGUAGE $PATH $LD_LIBRARY_PATH $PWD ${SHLVL-}"; cat; : > here'
    answer = _execute(client, "ms", code, args=["one"], stdin="two")
    directory = "/piston/packages/mysh/1.10.0"
    assert (answer["language"], answer["version"]) == ("mysh", "1.10.0")
    assert answer["run"]["status"] == "ok", answer
    first, second = answer["run"]["stdout"].split(b"\n")
    words = first.decode().split()
    assert words[:3] == ["one", "/tmp", "mysh"]
    assert words[3].startswith(f"{directory}/bin:")
    assert words[4:6] == [f"{directory}/lib", "/work"]
    assert second == b"two"

    client.uninstall_package("mysh", "1.10.0")
    assert client.packages() == []
    with pytest.raises(RequestError, match=r"^mysh-\* runtime is unknown$"):
        _execute(client, "mysh", "true")
    _await_empty(packager)


def test_a_package_with_several_languages_that_is_compiled(
    client: Client, repository: Repository, tmp_path: Path
) -> None:
    provides = [
        {"language": "alpha", "aliases": ["a"], "limit_overrides": {"run_timeout": 1500}},
        {"language": "beta", "aliases": [], "limit_overrides": {"max_process_count": 7, "no": 1}},
    ]
    compile_ = '#!/bin/bash\necho "compiled $PISTON_LANGUAGE: $*"; cp "$1" a.out; chmod +x a.out\n'
    package = _add(
        repository,
        tmp_path,
        language="both",
        info={"provides": provides},
        files={"compile": compile_, "run": "#!/bin/bash\nshift; mysh ./a.out\n"},
    )
    install(client, package)
    found = {item["language"]: item for item in client.call("runtime.list", {})["runtimes"]}
    assert found["alpha"]["runtime"] == found["beta"]["runtime"] == "both"
    assert found["alpha"]["aliases"] == ["a"]
    assert found["alpha"]["compiled"]
    assert found["alpha"]["limits"]["run"] == {"wall_time_ns": 1_500_000_000}
    assert found["alpha"]["limits"]["compile"] == {}
    assert found["beta"]["limits"]["run"] == {"processes": 7}
    answer = _execute(client, "a", "echo ran $PISTON_LANGUAGE")
    assert answer["compile"]["stdout"] == b"compiled alpha: file0.code\n"
    assert answer["run"]["stdout"] == b"ran alpha\n"
    with pytest.raises(RequestError, match="runtime is unknown"):
        _execute(client, "both", "true")


def test_it_is_there_after_a_restart(require_sandbox: None, tmp_path: Path) -> None:
    built = packages.made(tmp_path)
    with _state_directory() as state:
        settings = {"jobs": 1, "user": _USER, "state_directory": state}
        with running(**settings) as daemon, Client(daemon.socket) as client:
            _install_file(client, built)
            before = client.packages()
        with running(**settings) as daemon, Client(daemon.socket) as client:
            assert client.packages() == before
            assert _execute(client, "mysh", "echo again")["run"]["stdout"] == b"again\n"
            with running(**settings) as other, Client(other.socket) as reader:
                assert reader.packages() == before
                _read_beside(client, reader, built)
            assert Path(state, "packages/mysh/1.2.3").is_dir(), "it was in use"
        with running(**settings):
            deadline = time.monotonic() + 5
            while os.listdir(f"{state}/packages") and time.monotonic() < deadline:
                time.sleep(0.01)
            assert os.listdir(f"{state}/packages") == []


def _read_beside(client: Client, reader: Client, built: Any) -> None:
    """One daemon that reads what another one writes."""
    with pytest.raises(RequestError, match="cannot write"):
        reader.uninstall_package("mysh", "1.2.3")
    client.uninstall_package("mysh", "1.2.3")
    assert client.packages() == []
    with pytest.raises(RequestError, match="another sandboxd uses it") as error:
        _install_file(client, built)
    assert error.value.code == "busy"
    assert _execute(reader, "mysh", "echo still")["run"]["stdout"] == b"still\n"


def test_from_a_tree_only_root_can_read(require_sandbox: None, tmp_path: Path) -> None:
    """The daemon gives up root, and its children are to run all the same."""
    source = Path(str(sandboxd.__file__)).parent
    shutil.copytree(source, tmp_path / "tree" / source.name)
    tmp_path.chmod(0o700)
    environ = {"PYTHONPATH": str(tmp_path / "tree")}
    with running(environ, jobs=1) as daemon, Client(daemon.socket) as client:
        _install_file(client, packages.made(tmp_path))
        assert _execute(client, "mysh", "echo 1")["run"]["stdout"] == b"1\n"


def test_a_package_without_environment(client: Client, tmp_path: Path) -> None:
    run = "#!/bin/bash\necho ${PATH} $PISTON_LANGUAGE\n"
    _install_file(client, packages.made(tmp_path, files={"environment": None, "run": run}))
    configured = client.info()["env"]["PATH"]
    assert _execute(client, "mysh", "")["run"]["stdout"] == f"{configured} mysh\n".encode()


async def test_by_the_trio_client(packager: Daemon, client: Client, tmp_path: Path) -> None:
    built = packages.made(tmp_path)
    phases: list[str] = []
    async with await TrioClient.connect(packager.socket) as trio_client:
        with open(built.path, "rb") as file:  # noqa: ASYNC230 - a local file
            await trio_client.install_package(
                "mysh", "1.2.3", built.sha256, file.fileno(), lambda *what: phases.append(what[0])
            )
        assert [package["language"] for package in await trio_client.packages()] == ["mysh"]
        await trio_client.uninstall_package("mysh", "1.2.3")
        assert await trio_client.packages() == []
    assert list(dict.fromkeys(phases)) == ["download", "unpack", "environment", "done"]


@contextlib.contextmanager
def _state_directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-state-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield f"{directory}/state"


def _install_file(client: Client, built: Any, **kwargs: Any) -> None:
    with open(built.path, "rb") as file:
        client.install_package(built.language, built.version, built.sha256, file.fileno(), **kwargs)


# -- what is refused ---------------------------------------------------------------------------


def test_a_wrong_checksum(
    client: Client, packager: Daemon, repository: Repository, tmp_path: Path
) -> None:
    built = packages.made(tmp_path)
    wanted = "0123456789abcdef" * 4
    repository.add(built, wanted)
    package = select(fetch_index(repository.index).packages, "mysh")
    with pytest.raises(RequestError) as error:
        install(client, package)
    assert error.value.message == f"Checksum miss-match want: {wanted} got: {built.sha256}"
    assert (error.value.code, client.packages()) == ("invalid_argument", [])
    _await_empty(packager)


def test_already_installed_and_not_installed(client: Client, tmp_path: Path) -> None:
    built = packages.made(tmp_path)
    _install_file(client, built)
    with pytest.raises(RequestError, match=r"^Already installed$") as error:
        _install_file(client, built)
    assert error.value.code == "exists"
    with pytest.raises(RequestError, match=r"^mysh-9\.9\.9 is not installed$") as error:
        client.uninstall_package("mysh", "9.9.9")
    assert error.value.code == "not_found"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"info": {"language": "other"}}, r"pkg-info\.json: it is of other-1\.2\.3, not of mysh"),
        ({"info": {"aliases": ["no word"]}}, r"pkg-info\.json: .*aliases"),
        ({"files": {"pkg-info.json": "{"}}, r"pkg-info\.json"),
        ({"files": {"run": None}}, "it has no run"),
        ({"files": {"environment": "echo broken >&2; exit 3"}}, "nonzero_exit .*broken"),
        ({"files": {"environment": "exit 0"}}, "environment ended"),
    ],
)
def test_what_is_no_package(
    client: Client, packager: Daemon, tmp_path: Path, kwargs: Any, message: str
) -> None:
    directory = packages.make(tmp_path, **kwargs)
    archive = tmp_path / "pkg.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(directory, ".")
    with pytest.raises(RequestError, match=message) as error:
        _install_archive(client, archive)
    assert (error.value.code, client.packages()) == ("invalid_argument", [])
    _await_empty(packager)


def _install_archive(client: Client, archive: Path) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with open(archive, "rb") as file:
        client.install_package("mysh", "1.2.3", digest, file.fileno())


@pytest.mark.parametrize("language", ["..", "a/b", ".hidden", "", "x" * 65, "a:b", "-rf", "a\nb"])
def test_names_that_are_no_names(client: Client, language: str, tmp_path: Path) -> None:
    with open("/dev/null", "rb") as file, pytest.raises(RequestError, match=r"^language: "):
        client.install_package(language, "1.2.3", "0" * 64, file.fileno())
    with open("/dev/null", "rb") as file, pytest.raises(RequestError, match=r"^version: "):
        client.install_package("mysh", language or "1", "0" * 64, file.fileno())


def test_a_package_cannot_bring_the_marks_of_an_installation(
    client: Client, packager: Daemon, tmp_path: Path
) -> None:
    files = {"environment": "export TRUE=1\n"}
    directory = packages.make(tmp_path, files=files)
    (directory / ".env").symlink_to("run")
    (directory / ".ppman-installed").mkdir()
    (directory / ".ppman-installed.new").write_text("1")
    archive = tmp_path / "pkg.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(directory, ".")
    _install_archive(client, archive)
    place = _state(packager) / "packages" / "mysh" / "1.2.3"
    assert (place / ".env").read_text() == "TRUE=1\n"
    assert not (place / ".env").is_symlink()
    assert (place / ".ppman-installed").read_text().isdigit()


def test_a_stranger_may_not_change_anything(tmp_path: Path, require_sandbox: None) -> None:
    with running(jobs=1, admin_uids=[12345]) as daemon, Client(daemon.socket) as client:
        with pytest.raises(RequestError, match="add it to admin_uids") as error:
            client.uninstall_package("mysh", "1.2.3")
        assert error.value.code == "permission_denied"
        with open("/dev/null", "rb") as file, pytest.raises(RequestError, match="admin_uids"):
            client.install_package("mysh", "1.2.3", "0" * 64, file.fileno())
        assert client.packages() == []


def test_a_download_that_fails(
    client: Client, packager: Daemon, repository: Repository, tmp_path: Path
) -> None:
    package = _add(repository, tmp_path)
    gone = package._replace(url=f"{repository.url}/nowhere/at/all")
    with pytest.raises(DownloadFailed, match="nowhere/at/all"):
        install(client, gone)
    _await_empty(packager)


# -- at the same time, and interrupted ---------------------------------------------------------


def test_two_at_once_are_one(
    client: Client, packager: Daemon, repository: Repository, tmp_path: Path
) -> None:
    package = _add(repository, tmp_path)
    repository.requests.clear()
    repository.go_on.clear()
    begun = threading.Event()
    answers: list[object] = []

    def first() -> None:
        with Client(packager.socket) as mine:
            answers.append(install(mine, package, lambda *_: begun.set()))

    phases: list[str] = []

    def progress(phase: str, done: int, total: int | None) -> None:
        phases.append(phase)
        repository.go_on.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(20)
    answers.append(install(client, package, progress))
    thread.join(20)
    assert answers == [("mysh", "1.2.3"), ("mysh", "1.2.3")]
    assert phases[0] == "wait"
    assert phases[-1] == "done"
    assert "download" not in phases
    assert len(repository.requests) == 1, "it was downloaded once"
    assert len(client.packages()) == 1


def test_a_client_that_goes_away(
    client: Client, packager: Daemon, repository: Repository, tmp_path: Path
) -> None:
    built = packages.made(tmp_path)
    reader, writer = os.pipe()
    gone = Client(packager.socket)
    params = {"language": "mysh", "version": "1.2.3", "sha256": built.sha256}
    gone._connection.send("package.install", {**params, "fds": {"archive": 0}}, [reader])
    os.close(reader)
    os.write(writer, built.path.read_bytes()[:1000])
    while not gone._connection.receive():
        pass
    assert list((_state(packager) / "staging").iterdir())
    gone.close()
    _await_empty(packager)
    os.close(writer)
    _install_file(client, built)


def test_a_client_that_goes_away_while_the_script_runs(
    client: Client, packager: Daemon, tmp_path: Path
) -> None:
    built = packages.made(tmp_path, files={"environment": "sleep 30\n"})
    gone = Client(packager.socket)
    params = {"language": "mysh", "version": "1.2.3", "sha256": built.sha256}
    with open(built.path, "rb") as file:
        with_fds = {**params, "fds": {"archive": 0}}
        gone._connection.send("package.install", with_fds, [file.fileno()])
    _await_phase(gone, "environment")
    assert (_state(packager) / "packages" / "mysh" / "1.2.3").is_dir()
    assert client.packages() == [], "it is visible to its script, and not installed"
    gone.close()
    _await_empty(packager)
    deadline = time.monotonic() + 5
    while client.stats()["queue"]["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert client.stats()["queue"]["running"] == 0


def test_the_second_takes_over_when_the_first_goes_away(
    client: Client, packager: Daemon, tmp_path: Path
) -> None:
    built = packages.made(tmp_path)
    reader, writer = os.pipe()
    first = Client(packager.socket)
    params = {"language": "mysh", "version": "1.2.3", "sha256": built.sha256}
    first._connection.send("package.install", {**params, "fds": {"archive": 0}}, [reader])
    os.close(reader)
    while not first._connection.receive():
        pass
    phases: list[str] = []

    def progress(phase: str, done: int, total: int | None) -> None:
        phases.append(phase)
        if phase == "wait":
            first.close()

    _install_file(client, built, progress=progress)
    os.close(writer)
    assert phases[0] == "wait"
    assert phases[-1] == "done"
    assert "download" in phases


@pytest.mark.parametrize("phase", ["download", "environment"])
def test_a_daemon_that_is_killed_leaves_nothing(
    require_sandbox: None, tmp_path: Path, phase: str
) -> None:
    built = packages.made(tmp_path, files={"environment": "sleep 30\n"})
    reader, writer = os.pipe()
    with _state_directory() as state:
        with (
            running(jobs=1, user=_USER, state_directory=state) as daemon,
            Client(daemon.socket) as client,
        ):
            params = {"language": "mysh", "version": "1.2.3", "sha256": built.sha256}
            client._connection.send("package.install", {**params, "fds": {"archive": 0}}, [reader])
            data = built.path.read_bytes()
            feeder = threading.Thread(target=_feed, args=(writer, data, phase))
            feeder.start()
            _await_phase(client, phase)
            os.kill(daemon.pid, signal.SIGKILL)
            daemon.process.wait()
            feeder.join()
        left = [path for name in ("packages", "staging") for path in Path(state, name).iterdir()]
        assert left, "it was killed in the middle"
        with (
            running(jobs=1, user=_USER, state_directory=state) as daemon,
            Client(daemon.socket) as client,
        ):
            assert client.packages() == []
            deadline = time.monotonic() + 5
            while any(any(Path(state, name).iterdir()) for name in ("packages", "staging")):
                assert time.monotonic() < deadline, os.listdir(f"{state}/packages")
                time.sleep(0.01)
    os.close(reader)
    with contextlib.suppress(OSError):
        os.close(writer)


def _feed(writer: int, data: bytes, phase: str) -> None:
    if phase == "download":
        os.write(writer, data[: len(data) // 2][:60000])
        return
    view = memoryview(data)
    while view:
        view = view[os.write(writer, view) :]
    os.close(writer)


def _await_phase(client: Client, phase: str) -> None:
    while True:
        for message in client._connection.receive():
            if message.params["phase"] == phase:  # type: ignore[union-attr]
                return


def test_uninstalled_while_a_job_uses_it(client: Client, packager: Daemon, tmp_path: Path) -> None:
    built = packages.made(tmp_path)
    _install_file(client, built)
    params = {
        "language": "mysh",
        "files": [{"data": "read line; again -c 'echo still $0'; ls $LD_LIBRARY_PATH"}],
        "stdin_stream": True,
        "run": {"limits": _PATIENT},
    }
    job = client.call("runtime.start", params)["job"]
    client.uninstall_package("mysh", "1.2.3")
    assert client.packages() == []
    with pytest.raises(RequestError, match="runtime is unknown"):
        _execute(client, "mysh", "true")
    place = _state(packager) / "packages" / "mysh" / "1.2.3"
    assert place.is_dir()
    client.call("job.write", {"job": job, "data": b"go on\n"})
    result = client.call("job.wait", {"job": job})["run"]
    assert result["status"] == "ok", result
    assert result["stdout"].startswith(b"still")
    assert b"libc" in result["stdout"]
    _await_empty(packager)


def test_installed_again_while_the_old_one_is_leaving(
    client: Client, packager: Daemon, tmp_path: Path
) -> None:
    built = packages.made(tmp_path)
    _install_file(client, built)
    params = {"language": "mysh", "files": [{"data": "read line"}], "stdin_stream": True}
    job = client.call("runtime.start", params)["job"]
    client.uninstall_package("mysh", "1.2.3")
    done = threading.Event()

    def again() -> None:
        with Client(packager.socket) as other:
            _install_file(other, built)
        done.set()

    thread = threading.Thread(target=again)
    thread.start()
    assert not done.wait(0.3)
    client.call("job.cancel", {"job": job})
    assert done.wait(20)
    thread.join()
    assert _execute(client, "mysh", "echo new")["run"]["stdout"] == b"new\n"
