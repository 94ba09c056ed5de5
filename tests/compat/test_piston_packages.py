"""GET, POST and DELETE /packages, with real packages from an index on the loopback interface."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from compat.gateway import Gateway, running
from support import packages
from support.daemon import running as running_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compat.gateway import Answer
    from support.daemon import Daemon
    from support.packages import Repository

PATH = "/api/v2/packages"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    directory = tmp_path_factory.mktemp("packages")
    with packages.serving(directory) as repository:
        for version in ("1.0.0", "1.2.3", "2.0.0-rc.1"):
            repository.add(packages.made(directory, version=version))
        repository.add(packages.made(directory, language="broken"), sha256="0" * 64)
        repository.lines.insert(2, "a line that is none")
        yield repository


@pytest.fixture(scope="module")
def installer(require_sandbox: None, repository: Repository) -> Iterator[Gateway]:
    with (
        running_daemon(jobs=2) as daemon,
        running(daemon.socket, environment={"PISTON_REPO_URL": repository.index}) as gateway,
    ):
        yield gateway


def ask(gateway: Gateway, method: str, language: str = "mysh", version: str = "*") -> Answer:
    return gateway.send(method, PATH, {"language": language, "version": version})


def test_from_the_list_to_a_result_and_back(installer: Gateway) -> None:
    listed = installer.get(PATH)
    assert listed.status == 200
    names = [(p["language"], p["language_version"], p["installed"]) for p in listed.json]
    assert names == [
        ("mysh", "1.0.0", False),
        ("mysh", "1.2.3", False),
        ("mysh", "2.0.0-rc.1", False),
        ("broken", "1.2.3", False),
    ]
    assert installer.execute("mysh", "").message == "mysh-* runtime is unknown"

    done = ask(installer, "POST", version="1.x")
    assert (done.status, done.json) == (200, {"language": "mysh", "version": "1.2.3"})
    installed = [p for p in installer.get(PATH).json if p["installed"]]
    assert [p["language_version"] for p in installed] == ["1.2.3"]
    answer = installer.run("ms", "echo $PISTON_LANGUAGE $((6 * 7)) $1", args=["x"])
    assert (answer["language"], answer["version"]) == ("mysh", "1.2.3")
    assert answer["run"]["stdout"] == "mysh 42 x\n"
    assert "mysh" in {r["language"] for r in installer.get("/api/v2/runtimes").json}

    again = ask(installer, "POST", version="1.2.3")
    assert (again.status, again.message) == (500, "Already installed")

    gone = ask(installer, "DELETE", version="1.x")
    assert (gone.status, gone.json) == (200, {"language": "mysh", "version": "1.2.3"})
    assert installer.execute("mysh", "").message == "mysh-* runtime is unknown"
    twice = ask(installer, "DELETE", version="1.x")
    assert (twice.status, twice.message) == (500, "mysh-1.2.3 is not installed")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    ("language", "version"), [("nosuch", "*"), ("mysh", "3.x"), ("mysh", "no range"), ("ms", "*")]
)
def test_what_does_not_exist(installer: Gateway, method: str, language: str, version: str) -> None:
    answer = ask(installer, method, language, version)
    assert answer.status == 404
    assert answer.message == f"Requested package {language}-{version} does not exist"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("name", ["language", "version"])
@pytest.mark.parametrize("wrong", [None, "", 1, [], {}])
def test_what_is_no_request(installer: Gateway, method: str, name: str, wrong: object) -> None:
    answer = installer.send(method, PATH, {"language": "mysh", "version": "*", name: wrong})
    assert (answer.status, answer.message) == (400, f"{name} is required as a string")


def test_a_wrong_checksum(installer: Gateway) -> None:
    answer = ask(installer, "POST", "broken")
    assert answer.status == 500
    assert answer.message.startswith(f"Checksum miss-match want: {'0' * 64} got: ")
    assert not [p for p in installer.get(PATH).json if p["installed"]]


def test_two_at_once_install_it_once(installer: Gateway, repository: Repository) -> None:
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(installer, "POST", version="1.0.0")))
        for _ in range(2)
    ]
    before = len([path for path in repository.requests if "mysh-1.0." in path])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = len([path for path in repository.requests if "mysh-1.0." in path])
    assert sorted(answer.status for answer in answers) in ([200, 200], [200, 500])
    assert after - before == 1
    assert ask(installer, "DELETE", version="1.0.0").status == 200


def test_an_index_that_cannot_be_read(daemon: Daemon) -> None:
    environment = {"PISTON_REPO_URL": "http://127.0.0.1:9/index"}
    with running(daemon.socket, environment=environment) as gateway:
        answer = gateway.get(PATH)
        assert answer.status == 500
        assert "index" in answer.message
        assert gateway.run("bash", "echo hi")["run"]["stdout"] == "hi\n"
