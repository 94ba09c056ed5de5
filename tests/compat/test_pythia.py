"""Pythia's API on a real daemon: the documentation's examples, every status, every refusal."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import socket
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from compat.gateway import Gateway, running
from compat.pythia_tasks import Pythia, taskfs
from sandboxd_client import Client
from support import daemon as daemons
from support import squashfs_images
from support.archives import archive, member, zeros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

HELLO = {"control": "/task/hello.sh\n", "hello.sh": "#!/bin/sh\necho 'Hello World!'\n"}


@pytest.fixture(scope="module")
def pythia_daemon(require_sandbox: None) -> Iterator[Daemon]:
    with daemons.running(jobs=3) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pythia(pythia_daemon: Daemon) -> Iterator[Pythia]:
    with running(pythia_daemon.socket) as gateway:
        yield Pythia(gateway)
        assert "Traceback" not in gateway.log_text()


# -- the documentation's examples, as they are typed ---------------------------------------------


def test_the_examples(pythia_daemon: Daemon) -> None:
    """On a gateway and in an order of their own: at first there are no tasks."""
    with daemons.running(jobs=1) as daemon, running(daemon.socket) as gateway:
        assert gateway.get("/api/tasks", {"accept": "application/json"}).json == []
        made = gateway.request(
            "POST",
            "/api/tasks",
            b'{\n  "taskid": "hello-go",\n  "environment": "go1.12",\n  "type": "raw",\n'
            b'  "config": {\n    "taskfs": "..."\n  }\n}\n',
            {"content-type": "application/json"},
        )
        assert (made.status, made.body) == (200, b"")
        hello: dict[str, Any] = {
            "taskid": "hello-world",
            "name": "Hello World (Shell)",
            "authors": ["John Doe"],
            "description": "This task prints 'Hello World!' to the standard output.",
            "environment": "busybox",
            "limits": {"time": 60, "memory": 32, "disk": 50, "output": 1024},
        }
        given = hello | {"config": {"taskfs": taskfs(**HELLO)}}
        assert gateway.send("POST", "/api/tasks", given).status == 200
        answer = gateway.get("/api/tasks/hello-world", {"accept": "application/json"})
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.json == hello
        found = {entry["taskid"]: entry for entry in gateway.get("/api/tasks").json}
        assert found["hello-go"] == {"taskid": "hello-go"}
        assert (
            found["hello-world"].items() >= {"name": hello["name"], "authors": ["John Doe"]}.items()
        )
        answer = gateway.send("POST", "/api/execute", {"tid": "hello-world"})
        assert answer.json == {
            "tid": "hello-world", "status": "success", "output": "Hello World!\n",
        }  # fmt: skip
        assert gateway.send("POST", "/api/execute", {"tid": "hello-go"}).json["status"] == "fatal"


def test_health(pythia: Pythia) -> None:
    assert pythia.gateway.get("/api/health").json == {"running": True}


def test_health_without_a_daemon(tmp_path: object) -> None:
    with running("/tmp/no-such-directory/socket") as gateway:
        assert gateway.get("/api/health").json == {"running": False}
        assert gateway.get("/api/tasks").status == 503


def test_environments(pythia: Pythia) -> None:
    entries = pythia.gateway.get("/api/environments").json
    assert all(entry.keys() == {"envid", "name", "authors", "description"} for entry in entries)
    names = [entry["envid"] for entry in entries]
    assert {"bash", "python"} <= set(names)
    assert names == sorted(names)
    python = pythia.gateway.get("/api/environments/python").json
    assert python in entries
    assert pythia.gateway.get("/api/environments/python3.7.3").json == python
    assert pythia.gateway.get("/api/environments/busybox").json["envid"] == "bash"
    for name in ("nothing", "..", "%2e%2e%2fpython", "a" * 5000):
        answer = pythia.gateway.get(f"/api/environments/{name}")
        assert (answer.status, answer.body) == (404, b""), name


# -- statuses ------------------------------------------------------------------------------------


def test_success(pythia: Pythia) -> None:
    text = 'while read name; do echo "Hello $name!"; done'
    assert pythia.outcome(text, "me\npythia\n") == ("success", "Hello me!\nHello pythia!\n")


@pytest.mark.parametrize("limit", [10, 6, 5])
def test_no_overflow(pythia: Pythia, limit: int) -> None:
    assert pythia.outcome("printf abcde", limits={"output": limit}) == ("success", "abcde")


@pytest.mark.parametrize("limit", [4, 3, 1])
def test_overflow_is_cut_to_the_byte(pythia: Pythia, limit: int) -> None:
    assert pythia.outcome("printf abcde", limits={"output": limit}) == ("overflow", "abcde"[:limit])


def test_overflow_ends_what_never_ends(pythia: Pythia) -> None:
    begun = time.monotonic()
    status, output = pythia.outcome("yes abcd", limits={"output": 1000})
    assert (status, output) == ("overflow", "abcd\n" * 200)
    assert time.monotonic() - begun < 10


def test_timeout_has_the_output_so_far(pythia: Pythia) -> None:
    assert pythia.outcome("echo Start; sleep 30", limits={"time": 1}) == ("timeout", "Start\n")


def test_timeout_of_what_computes(pythia: Pythia) -> None:
    text = "echo Start; while :; do :; done"
    assert pythia.outcome(text, limits={"time": 1}) == ("timeout", "Start\n")


@pytest.mark.parametrize("end", ["exit 3", "kill -SEGV $$"])
def test_crash(pythia: Pythia, end: str) -> None:
    assert pythia.outcome(f"echo Start; {end}") == ("crash", "Start\n")


def test_crash_of_what_takes_too_much_memory(pythia: Pythia) -> None:
    text = "echo Start; exec python3 -c 'x = bytearray(10**9); print(len(x))'"
    assert pythia.outcome(text) == ("crash", "Start\n")


def test_a_full_disk_is_not_the_end(pythia: Pythia) -> None:
    text = "echo Start; cat /dev/zero 2>/dev/null >/tmp/full; wc -c </tmp/full; echo Done"
    status, output = pythia.outcome(text, limits={"memory": 64, "disk": 25})
    assert (status, output.split()[0], output.split()[-1]) == ("success", "Start", "Done")
    assert int(output.split()[1]) <= 16 * 2**20 + 8192


def test_a_fork_bomb_is_not_the_end(pythia: Pythia) -> None:
    text = "echo Start; (b() { b | b & }; b) >/dev/null 2>&1; sleep 0.5; echo Done"
    status, output = pythia.outcome(text, limits={"time": 20})
    assert output.startswith("Start\n")
    assert status in ("success", "crash")  # The shell itself may be what cannot fork.


def test_abort(pythia: Pythia, pythia_daemon: Daemon) -> None:
    taskid = pythia.script("echo Start; exec sleep 30")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(pythia.execute(taskid)))
    thread.start()
    with Client(pythia_daemon.socket) as client:
        client.call("execution.stop", {"id": _running(client, taskid, b"Start\n")})
    thread.join(20)
    assert [(r["status"], r["output"]) for r in results] == [("abort", "Start\n")]


def _running(client: Client, taskid: str, log: bytes) -> str:
    """The id of a task's execution that has written that."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        params = {"space": "tasks", "name": taskid}
        for execution in client.call("execution.list", params)["executions"]:
            found = client.call("execution.get", {"id": execution["id"], "log": True})
            if found["status"] != "ended" and found["log"] == log:
                return str(execution["id"])
        time.sleep(0.02)
    raise AssertionError("it does not run")


def test_error_when_the_helper_dies() -> None:
    with daemons.running(jobs=1) as daemon, running(daemon.socket) as gateway:
        pythia = Pythia(gateway)
        taskid = pythia.script("echo Start; exec sleep 30")
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(pythia.execute(taskid)))
        thread.start()
        with Client(daemon.socket) as client:
            _running(client, taskid, b"Start\n")
        keeper, worker = sorted(daemon.helpers())[:2]
        assert keeper != worker
        os.kill(worker, signal.SIGKILL)
        thread.join(20)
        assert [result["status"] for result in results] == ["error"]
        assert "helper" in results[0]["output"]


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (None, "needs a file task/control"),
        ("", "no command"),
        ("/task/run.sh 'x", "line 1: a ' is not closed"),
        ("a " * 101, "101 arguments; at most 100"),
        ("x" * 4097, "4097 characters; at most 4096"),
    ],
)
def test_fatal(pythia: Pythia, control: str | None, words: str) -> None:
    files = {"run.sh": "#!/bin/sh\n"} | ({} if control is None else {"control": control})
    result = pythia.execute(pythia.task({"taskfs": taskfs(**files)}))
    assert result["status"] == "fatal"
    assert words in result["output"]


def test_fatal_without_the_environment(pythia: Pythia) -> None:
    result = pythia.execute(pythia.script("echo x", environment="plan9"))
    assert (result["status"], result["output"]) == ("fatal", "there is no environment 'plan9'")


# -- what a task sees ----------------------------------------------------------------------------


def test_output_is_merged_in_order(pythia: Pythia) -> None:
    text = "for n in 1 2 3; do echo out$n; echo err$n >&2; done"
    assert pythia.outcome(text)[1] == "out1\nerr1\nout2\nerr2\nout3\nerr3\n"


def test_line_ends_and_what_is_no_text(pythia: Pythia) -> None:
    assert pythia.outcome(r"printf 'a\r\nb\rc\n\r\n'")[1] == "a\nb\rc\n\n"
    assert pythia.outcome(r"printf 'a\377b'")[1] == "a\ufffdb"


def test_the_control_file(pythia: Pythia) -> None:
    files = {
        "control": "/task/say one 'a  b' \"c\\n\"\n!/task/hide me\n/task/say 'two'\n",
        "say": '#!/bin/sh\nread line; printf "%s [%s] [%s] [%s]\\n" "$line" "$@"; umask\n',
        "hide": "#!/bin/sh\necho hidden; echo hidden >&2; cat >/tmp/$1; exit 5\n",
    }
    result = pythia.execute(pythia.task({"taskfs": taskfs(**files)}), "x\ny\n")
    assert result["status"] == "success"
    assert result["output"] == "x [one] [a  b] [c\n]\n0077\ny [two] [] []\n0077\n"


def test_what_a_task_finds(pythia: Pythia) -> None:
    text = "echo $PATH $HOME $LANG; ls /task; cat /task/data; ls -d /work/task/run.sh"
    files = {"control": "/task/run.sh", "run.sh": f"#!/bin/sh\n{text}\n", "data": "d\n"}
    result = pythia.execute(pythia.task({"taskfs": taskfs(**files)}))
    assert result["output"].splitlines() == [
        "/usr/local/bin:/usr/bin:/bin /tmp C", "control", "data", "run.sh", "d",
        "/work/task/run.sh",
    ]  # fmt: skip


def test_executions_see_nothing_of_each_other(pythia: Pythia) -> None:
    taskid = pythia.script(
        "ls /tmp; cat /task/left /tmp/left 2>&-; echo x | tee /task/left >/tmp/left"
    )
    assert [pythia.execute(taskid)["output"] for _ in range(3)] == ["", "", ""]


def test_the_files_of_a_task_take_nothing_of_its_memory(pythia: Pythia) -> None:
    files = {**HELLO, "large": os.urandom(8 * 2**20)}
    taskid = pythia.task({"taskfs": taskfs(**files)}, limits={"memory": 8, "disk": 50})
    assert pythia.execute(taskid)["output"] == "Hello World!\n"


def test_limits(pythia: Pythia) -> None:
    taskid = pythia.script("true", limits={"memory": 64})
    limits = pythia.gateway.get(f"/api/tasks/{taskid}").json["limits"]
    assert limits == {"time": 60, "memory": 64, "disk": 50, "output": 1024}


def test_a_daemon_that_allows_less() -> None:
    second = 10**9
    settings: dict[str, Any] = {
        "jobs": 1,
        "limits": {"wall_time_ns": second, "cpu_time_ns": second, "memory_bytes": 16 * 2**20},
        "max_limits": {
            "wall_time_ns": 2 * second, "cpu_time_ns": second, "memory_bytes": 16 * 2**20,
        },
    }  # fmt: skip
    with daemons.running(**settings) as daemon, running(daemon.socket) as gateway:
        pythia = Pythia(gateway)
        assert pythia.outcome("echo Start; sleep 9") == ("timeout", "Start\n")
        for limits in ({"time": 3}, {"memory": 17}, {"output": 2**30}):
            answer = pythia.create(taskid="x", environment="bash", limits=limits)
            assert answer.status == 400, limits
            assert "this server allows" in answer.headers["sandboxd-message"]


# -- taskfs --------------------------------------------------------------------------------------


def _zip(*members: tuple[str, bytes, int]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            made.writestr(info, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", *squashfs_images.TREES])
def test_every_archive(pythia: Pythia, kind: str) -> None:
    if kind == "zip":
        data = _zip(*((name, text.encode(), 0o100755) for name, text in HELLO.items()))
    elif kind == "tar":
        data = archive(*(member(name, text.encode(), mode=0o755) for name, text in HELLO.items()))
    else:
        data = squashfs_images.TREES[kind]
    result = pythia.execute(pythia.task({"taskfs": base64.b64encode(data).decode()}))
    assert (result["status"], result["output"]) == ("success", "Hello World!\n")


def test_links_within(pythia: Pythia) -> None:
    link = archive(
        member("control", b"/task/run\n"),
        member("bin/hello.sh", HELLO["hello.sh"].encode(), mode=0o755),
        member("again", kind=b"2", link="bin/hello.sh"),
        member("run", kind=b"2", link="/task/again"),
    )
    result = pythia.execute(pythia.task({"taskfs": base64.b64encode(link).decode()}))
    assert result["output"] == "Hello World!\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive(member("../../x", b"x")), "'../../x' has '..'"),
        (archive(member("/etc/x", b"x")), "absolute"),
        (archive(member("l", kind=b"2", link="/etc/passwd")), "'l' is a link to '/etc/passwd'"),
        (archive(member("n", kind=b"3")), "'n' is a device"),
        (archive(*(member(f"d{n}/f") for n in range(5001))), "more than 10000 members"),
        (zeros(100 * 2**20), "'zeros' is larger than"),
        (archive(member("l", kind=b"2", link="nowhere")), "'l' is a link to 'nowhere'"),
        (archive(member("a\nb", b"x")), "control character"),
        (_zip(("../x", b"x", 0o100644)), "'../x' has '..'"),
        (_zip(("l", b"../x", 0o120777)), "'l' is a link to '../x'"),
        (_zip(("z", bytes(100 * 2**20), 0o100644)), "'z' is larger than"),
        (squashfs_images.PLAIN, "'ll' is a link to '../../precious'"),
        (squashfs_images.FIFO, "'fifo' is a FIFO"),
        (b"no archive", "damaged"),
    ],
)
def test_archives_that_are_refused(
    pythia: Pythia, pythia_daemon: Daemon, data: bytes, words: str
) -> None:
    answer = pythia.create(taskid="bad", config={"taskfs": base64.b64encode(data).decode()})
    assert (answer.status, answer.body) == (400, b"")
    assert words in answer.headers["sandboxd-message"], answer.headers["sandboxd-message"]
    assert pythia.gateway.get("/api/tasks/bad").status == 404
    staging = os.path.join(os.path.dirname(pythia_daemon.socket), "state", "staging")
    assert os.listdir(staging) == []


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b'{"taskid": 5}', b"{}", b"\xff", b"[" * 100_000,
        b'{"taskid": "x", "limits": 5}', b'{"taskid": "x", "limits": {"time": "60"}}',
        b'{"taskid": "x", "limits": {"time": 0}}', b'{"taskid": "x", "limits": {"memory": -1}}',
        b'{"taskid": "x", "limits": {"disk": 101}}', b'{"taskid": "x", "limits": {"time": 1e9}}',
        b'{"taskid": "x", "limits": {"time": 99999999}}', b'{"taskid": "x", "type": "cooked"}',
        b'{"taskid": "x", "config": 5}', b'{"taskid": "x", "config": {"taskfs": 5}}',
        b'{"taskid": "x", "config": {"taskfs": "!!!"}}', b'{"taskid": ""}',
        b'{"taskid": "../x"}', b'{"taskid": ".x"}', b'{"taskid": "a/b"}', b'{"taskid": "-x"}',
        b'{"taskid": "x", "authors": "me"}',
        json.dumps({"taskid": "x" * 65}).encode(),
        json.dumps({"taskid": "x", "authors": ["a"] * 90_000}).encode(),
    ],
)  # fmt: skip
def test_tasks_that_are_refused(pythia: Pythia, body: bytes) -> None:
    answer = pythia.gateway.request("POST", "/api/tasks", body)
    assert (answer.status, answer.body) == (400, b""), answer
    assert answer.headers["sandboxd-message"]


def test_a_task_that_is_there_already(pythia: Pythia) -> None:
    taskid = pythia.script("true")
    answer = pythia.create(taskid=taskid)
    assert (answer.status, answer.body) == (400, b"")
    assert "exists" in answer.headers["sandboxd-message"] or "already" in str(answer.headers)


def test_null_is_not_given(pythia: Pythia) -> None:
    taskid = pythia.task(None, type=None, limits={"time": None}, authors=None)
    assert pythia.gateway.get(f"/api/tasks/{taskid}").json["limits"]["time"] == 60
    document = pythia.gateway.get("/openapi.json").json
    schemas = document["components"]["schemas"]
    for schema, may_be_null in (
        ("PythiaSubmission", True),
        ("PythiaWantedLimits", True),
        ("PythiaLimits", False),
    ):
        for each in schemas[schema]["properties"].values():
            assert ({"type": "null"} in each.get("anyOf", [])) == may_be_null, (schema, each)
    assert "anyOf" not in schemas["PythiaTaskCreation"]["properties"]["taskid"]


def test_one_address_does_not_take_all_the_places(pythia_daemon: Daemon) -> None:
    head = (
        b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    )
    body = json.dumps({"taskid": "of-another-address"})
    with running(pythia_daemon.socket, pythia={"max_uploads": 2}) as gateway:
        address = ("127.0.0.1", gateway.port)
        with socket.create_connection(address, 10) as slow:
            slow.sendall(head)
            assert slow.recv(100).startswith(b"HTTP/1.1 100 ")  # It has its place.
            for source, status in (("127.0.0.1", 503), ("127.0.0.2", 200)):
                connection = http.client.HTTPConnection(
                    *address, timeout=20, source_address=(source, 0)
                )
                connection.request("POST", "/api/tasks", body, {"content-type": "application/json"})
                assert connection.getresponse().status == status
                connection.close()


def test_delete(pythia: Pythia) -> None:
    taskid = pythia.script("true")
    answer = pythia.gateway.request("DELETE", f"/api/tasks/{taskid}")
    assert (answer.status, answer.body) == (200, b"")
    assert taskid not in {entry["taskid"] for entry in pythia.gateway.get("/api/tasks").json}
    for method, path in (
        ("DELETE", f"/api/tasks/{taskid}"), ("GET", f"/api/tasks/{taskid}"),
        ("GET", "/api/tasks/%2e%2e"), ("DELETE", "/api/tasks/..%2f..%2fetc"),
        ("GET", "/api/tasks/" + "x" * 3000), ("GET", "/api/tasks/%00"),
        ("GET", "/api/tasks/x/y"), ("GET", "/api/tasksx"),
    ):  # fmt: skip
        answer = pythia.gateway.request(method, path)
        assert (answer.status, answer.body) == (404, b""), path


def test_other_functions_are_no_tasks(pythia: Pythia, pythia_daemon: Daemon) -> None:
    with Client(pythia_daemon.socket) as client:
        client.create_function("program", "program", space="tasks", command=["true"])
    assert pythia.gateway.get("/api/tasks/program").status == 404
    assert pythia.gateway.request("DELETE", "/api/tasks/program").status == 404
    assert "program" not in {entry["taskid"] for entry in pythia.gateway.get("/api/tasks").json}


def test_a_task_that_was_made_in_another_way(pythia: Pythia, pythia_daemon: Daemon) -> None:
    with Client(pythia_daemon.socket) as client:
        client.create_function(
            "by-hand",
            "task",
            space="tasks",
            files=[{"path": "task/control", "data": "/usr/bin/seq 1000"}],
            limits={
                "memory_bytes": 64 * 2**20,
                "disk_bytes": 16 * 2**20,
                "wall_time_ns": 5 * 10**9,
            },
        )
    assert pythia.gateway.get("/api/tasks/by-hand").json == {
        "taskid": "by-hand", "name": "", "authors": [], "description": "", "environment": "",
        "limits": {"time": 5, "memory": 64, "disk": 25, "output": 1024},
    }  # fmt: skip
    result = pythia.execute("by-hand")
    assert (result["status"], len(result["output"].split())) == ("success", 1000)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", b"{"), ("", b""), ("", b"[]"), ("", b'{"tid": 5}'), ("", b'{"tid": "T", "input": 5}'),
        ("?async=maybe", b'{"tid": "T"}'), ("?async=2", b'{"tid": "T"}'),
        ("?async=TrUe", b'{"tid": "T"}'), ("?async=true", b'{"tid": "T"}'),
        ("?async=1", b'{"tid": "T", "callback": ""}'),
        ("?async=t", b'{"tid": "T", "callback": 5}'),
    ],
)  # fmt: skip
def test_executions_that_are_refused(pythia: Pythia, query: str, body: bytes) -> None:
    taskid = pythia.script("true")
    for path in ("/api/execute", f"/api/tasks/{taskid}/execute"):
        data = body.replace(b'"T"', json.dumps(taskid).encode())
        answer = pythia.gateway.request("POST", path + query, data)
        assert (answer.status, answer.body) == (400, b""), path
        assert answer.headers["sandboxd-message"]


@pytest.mark.parametrize("value", ["", "0", "f", "F", "FALSE", "false", "False"])
def test_synchronous_by_any_name(pythia: Pythia, value: str) -> None:
    taskid = pythia.script("echo x")
    # Only the query counts.
    body = {"tid": "another", "async": True, "input": None}
    answer = pythia.gateway.send("POST", f"/api/tasks/{taskid}/execute?async={value}", body)
    assert answer.json == {"tid": taskid, "status": "success", "output": "x\n"}


def test_how_large_a_request_may_be(pythia: Pythia, pythia_daemon: Daemon) -> None:
    taskid = pythia.script("wc -c")
    assert pythia.execute(taskid, "x" * 1_000_000)["output"] == "1000000\n"
    settings = {"max_request_bytes": 4096, "max_input_bytes": 2048}
    with running(pythia_daemon.socket, pythia=settings) as gateway:
        for path, size in (("/api/tasks", 5000), ("/api/execute", 3000)):
            answer = gateway.request("POST", path, b" " * size)
            assert (answer.status, answer.body) == (400, b"")
            assert "too large" in answer.headers["sandboxd-message"]
        assert "too large" not in str(gateway.request("POST", "/api/tasks", b" " * 3000))


@pytest.mark.parametrize(
    "value",
    [
        "[" * 40 + "]" * 40,
        "[" * 900 + "]" * 900,
        "[" + "[]," * 300_000 + "[]]",
        "[" + "[]," * 4_000_000 + "[]]",
        str(2**64),
        str(-(2**63) - 1),
        "1" + "0" * 5000,
    ],
    ids=["deep", "deeper", "many", "more", "large", "small", "long"],
)
@pytest.mark.parametrize("field", ["predefined", "taskfs", "authors"])
def test_json_that_is_no_message_to_the_daemon(pythia: Pythia, field: str, value: str) -> None:
    """It is refused, costs little memory, and does no harm to what others do meanwhile."""
    taskid = pythia.script("sleep 1; echo x")
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(pythia.execute(taskid)["status"]))
    other.start()
    time.sleep(0.2)
    before = pythia.gateway.rss_bytes()
    rest = f'"authors": {value}' if field == "authors" else f'"config": {{"{field}": {value}}}'
    body = f'{{"taskid": "x", "type": "input-output", "environment": "python", {rest}}}'
    answer = pythia.gateway.request("POST", "/api/tasks", body.encode())
    assert (answer.status, answer.body) == (400, b""), answer
    assert pythia.gateway.rss_bytes() - before < 64 * 1024 * 1024
    other.join()
    assert found == ["success"]


def test_who_goes_away_before_it_has_begun_leaves_nothing(
    pythia: Pythia, pythia_daemon: Daemon
) -> None:
    taskid = pythia.script("sleep 4")
    body = json.dumps({"tid": taskid}).encode()
    head = f"POST /api/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    for milliseconds in range(12):
        with socket.create_connection(("127.0.0.1", pythia.gateway.port)) as sock:
            sock.sendall(head.encode() + body)
            time.sleep(milliseconds / 1000)
    time.sleep(1)
    with Client(pythia_daemon.socket) as client:
        found = client.executions(space="tasks", limit=100)["executions"]
    assert [each for each in found if each["status"] != "ended"] == []


def test_as_curl_sends_it(pythia: Pythia) -> None:
    """Pythia does not look at what a body is said to be."""
    taskid = pythia.script("echo x")
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = json.dumps({"tid": taskid}).encode()
    assert pythia.gateway.request("POST", "/api/execute", body, form).json["output"] == "x\n"


def test_unknown_tasks(pythia: Pythia) -> None:
    for tid in ("nothing", "", "../x", "x" * 100_000):
        answer = pythia.gateway.send("POST", "/api/execute", {"tid": tid})
        assert (answer.status, answer.body) == (400, b"")
    answer = pythia.gateway.send("POST", "/api/tasks/nothing/execute", {})
    assert (answer.status, answer.body) == (404, b"")


def test_methods_that_there_are_not(pythia: Pythia) -> None:
    for method, path in (("PUT", "/api/tasks"), ("GET", "/api/execute"), ("POST", "/api/health")):
        answer = pythia.gateway.request(method, path, b"{}")
        assert (answer.status, answer.body) == (405, b"")


def test_web_pages(pythia: Pythia, pythia_daemon: Daemon) -> None:
    """Pythia lets every page in; here it has to be configured."""
    page = {"origin": "https://page.example"}
    answer = pythia.gateway.request("POST", "/api/execute", b'{"tid":"x"}', page)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    with running(pythia_daemon.socket, allowed_origins=["*"]) as gateway:
        answer = gateway.request("POST", "/api/execute", b'{"tid":"x"}', page)
        assert answer.status == 400
        assert answer.headers["access-control-allow-origin"] in ("*", page["origin"])


def test_a_client_that_goes_away_stops_its_execution(pythia: Pythia, pythia_daemon: Daemon) -> None:
    taskid = pythia.script("echo Start; exec sleep 30")
    with pytest.raises(TimeoutError):
        pythia.execute(taskid, timeout=1.5)
    with Client(pythia_daemon.socket) as client:
        params = {"space": "tasks", "name": taskid}
        (execution,) = client.call("execution.list", params)["executions"]
        ended = client.call("execution.wait", {"id": execution["id"]})
    assert ended["end_reason"] == "stopped"
    assert ended["wall_time_ns"] < 10e9


def test_it_can_be_turned_off(pythia_daemon: Daemon) -> None:
    with running(pythia_daemon.socket, pythia={"enabled": False}) as gateway:
        assert gateway.get("/api/tasks").status == 404
        assert isinstance(gateway, Gateway)
