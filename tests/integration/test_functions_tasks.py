"""Tasks by the socket: files from archives and templates, and what is refused."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxd_client import Client, RequestError
from support import daemon as daemons
from support import squashfs_images
from support.archives import archive, member
from support.raw import RawConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

HELLO = archive(
    member("control", b"/task/bin/hello.sh\n"),
    member("bin/hello.sh", b"#!/bin/sh\necho Hello $1\n", mode=0o755),
)


@pytest.fixture(scope="module")
def task_daemon(require_sandbox: None) -> Iterator[Daemon]:
    with daemons.running(jobs=2) as daemon:
        yield daemon


@pytest.fixture
def tasks(task_daemon: Daemon) -> Iterator[Client]:
    with Client(task_daemon.socket) as client:
        yield client


def refused(client: Client, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as error:
        client.create_function("bad", fields.pop("kind", "task"), **fields)
    with pytest.raises(RequestError, match="no function"):
        client.function("bad")
    return error.value


def test_an_archive_becomes_files(tasks: Client) -> None:
    made = tasks.create_function("archived", "task", archive=HELLO)
    assert [(file["path"], file["mode"]) for file in made["files"]] == [
        ("task/bin/hello.sh", 0o755),
        ("task/control", 0o644),
    ]
    assert tasks.call_function("archived", log=True)["log"] == b"Hello\n"
    files = [{"path": "task/control", "data": "/task/bin/hello.sh again"}]
    tasks.update_function("archived", files=files, archive=archive(
        member("bin/hello.sh", b"#!/bin/sh\necho Hello $1\n", mode=0o755))
    )  # fmt: skip
    assert tasks.call_function("archived", log=True)["log"] == b"Hello again\n"


def test_many_archives_of_one_tenant(task_daemon: Daemon, tasks: Client) -> None:
    """They delay another's by a few, and those that are too many are told so."""
    packed = gzip.compress(archive(member("control", b"true"), member("data", bytes(8 << 20))))
    tasks.health()
    with RawConnection(task_daemon.socket, 60) as one:
        for number in range(30):
            one.request(
                number, "function.create", tenant=1111, name=f"f{number}", kind="task",
                archive=packed, check=False,
            )  # fmt: skip
        made, busy = [], []
        while not busy and len(made) < 30:
            _sort(one.message(), made, busy)
        mine = tasks.create_function("mine", "task", archive=packed, check=False)
        while len(made) + len(busy) < 30:
            _sort(one.message(), made, busy)
    assert all(error["data"]["retry_after_ns"] for error in busy)
    assert len(made) >= 10  # Two that were unpacked, and eight that waited.
    # Of those that waited when it came, some are after it.
    assert sum(time_ns > mine["created_ns"] for time_ns in made) >= 3


def _sort(message: Any, made: list[int], busy: list[dict[str, Any]]) -> None:
    _, _, error, result = message
    if error is None:
        made.append(result["created_ns"])
    else:
        assert error["code"] == "busy", error
        busy.append(error)


def test_of_another_kind_they_are_where_they_say(tasks: Client) -> None:
    tasks.create_function("program", "program", command=["sh", "bin/hello.sh"], archive=HELLO)
    assert tasks.call_function("program", log=True)["log"] == b"Hello\n"
    code = "def main(args, context):\n    return open('text').read()[:14]\n"
    image = squashfs_images.TREES["xz"]
    tasks.create_function("python", "python", code=code, archive=image)
    assert tasks.call_function("python")["result"] == '"400 bottles of"'


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"archive": "text"}, "archive: must be the bytes"),
        ({"archive": b"x"}, "archive: the archive is damaged"),
        ({"archive": archive(member("../x"))}, "'../x' has '..'"),
        (
            {"archive": HELLO, "files": [{"path": "task/control", "data": "x"}]},
            "'task/control' is the path of two",
        ),
        ({"archive": archive(member("a"), member("b/c"))}, "needs a file task/control"),
        ({"template": {"type": "raw", "language": "c"}}, "template"),
        ({"template": {"type": "input-output", "language": "x"}}, "template.language"),
        (
            {"kind": "program", "command": ["true"],
             "template": {"type": "input-output", "language": "c"}},
            "is for tasks",
        ),
        ({"kind": "python", "code": "x", "archive": archive(member("function.py"))}, "function.py"),
    ],
)  # fmt: skip
def test_refusals(tasks: Client, fields: dict[str, Any], words: str) -> None:
    error = refused(tasks, **fields)
    assert error.code == "invalid_argument"
    assert words in error.message, error.message


def test_a_template(tasks: Client) -> None:
    config = {"predefined": [{"input": "x", "output": "x"}]}
    template = {"type": "input-output", "language": "bash", "config": config}
    made = tasks.create_function("template", "task", template=template)
    assert {"task/control", "task/config/test.json"} <= {file["path"] for file in made["files"]}
    stdin = json.dumps({"tid": "t", "fields": {"code": "cat"}})
    called = tasks.call_function("template", stdin=stdin, log=True)
    assert json.loads(called["log"])["status"] == "success"


def test_a_malformed_task_is_refused_or_says_so(tasks: Client) -> None:
    files = [{"path": "task/control", "data": "'"}]
    assert "line 1" in refused(tasks, files=files).message
    tasks.create_function("malformed", "task", files=files, check=False)
    with pytest.raises(RequestError, match="line 1") as error:
        tasks.call_function("malformed")
    assert error.value.code == "invalid_argument"


def test_nobody_unpacks_who_may_not_create(tasks: Client) -> None:
    """It would cost the daemon work: the archive is damaged, and nobody says so."""
    tasks.create_function("owner", "program", command=["true"])
    key = tasks.create_key("runner", "run", space="main", function="owner")
    with pytest.raises(RequestError) as error:
        tasks.create_function("bad", "task", archive=b"x", key=key["secret"])
    assert error.value.code in ("permission_denied", "not_found")
    with pytest.raises(RequestError) as error:
        tasks.update_function("owner", archive=b"x", key=key["secret"])
    assert error.value.code in ("permission_denied", "not_found")


def test_what_stands_beside_an_execution_is_gone_after_it(tasks: Client) -> None:
    files = [{"path": "task/control", "data": "!/bin/sleep 100\n/bin/echo done\n"}]
    limits = {"wall_time_ns": 500_000_000}
    tasks.create_function("slow", "task", files=files, limits=limits)
    begun = time.monotonic()
    called = tasks.call_function("slow", log=True)
    assert (called["end_reason"], called["log"]) == ("timeout", b"")
    assert time.monotonic() - begun < 10
