"""PIFOP's Functions API against a real daemon: the page's examples, and what is refused."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from compat.gateway import Gateway, running
from compat.pifop import (
    COORDS,
    FUNCTION,
    TOUR,
    Caller,
    Client,
    Curl,
    Failed,
    certificate,
    curl,
    serving,
)
from support.daemon import Daemon
from support.daemon import running as running_daemon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxd_client import Client as NativeClient

MIB = 1024 * 1024


@dataclass
class World:
    """A daemon with the function joe/tsp, a gateway, and keys."""

    daemon: Daemon
    gateway: Gateway
    curl: Curl
    native: NativeClient
    directory: Path
    master: str
    key: str

    def caller(self, key: str | None) -> Caller:
        # As PIFOP's own clients for localhost: any certificate will do.
        context = ssl.create_default_context(cafile=str(certificate(self.directory)))
        return Caller(self.gateway, key, context)

    @property
    def call(self) -> Caller:
        return self.caller(self.key)

    def client(self, key: str | None = None, **options: Any) -> Client:
        """One that asks four times as often, unless told otherwise."""
        options.setdefault("sleep", lambda seconds: time.sleep(seconds / 4))
        return Client(self.caller(key or self.key), "joe/tsp", **options)

    def pending(self, **options: Any) -> str:
        """A new execution that has its inputs."""
        id = str(self.call.ok("POST", "/joe/tsp/executions")["id"])
        self.call.ok("POST", f"/joe/tsp/executions/{id}/input/coords", COORDS.encode())
        if options:
            body = json.dumps(options).encode()
            self.call.ok("POST", f"/joe/tsp/executions/{id}/input/options", body)
        return id

    def started(self, **options: Any) -> str:
        id = self.pending(**options)
        self.call.ok("POST", f"/joe/tsp/executions/{id}/start")
        return id

    def ended(self, id: str, query: str = "") -> Any:
        """Its state when it has ended."""
        self.native.wait_execution(id)
        info = self.call.ok("GET", f"/joe/tsp/executions/{id}{query}")
        assert info["status"] == "ended"
        return info


@pytest.fixture(scope="module")
def world(require_sandbox: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from sandboxd_client import Client as NativeClient

    directory = tmp_path_factory.mktemp("pifop")
    limits = {"wall_time_ns": 20_000_000_000, "memory_bytes": 128 * MIB}
    with (
        running_daemon(jobs=3, limits=limits) as daemon,
        NativeClient(daemon.socket) as native,
        serving(daemon.socket, directory, pifop={"max_input_bytes": MIB}) as gateway,
    ):
        for name in ("tsp", "other"):
            native.create_function(name, **FUNCTION)
        bound = {"space": "joe", "function": "tsp"}
        master = native.create_key("master-of-tsp", "master", **bound)
        key = native.create_key("tests", "run", **bound)
        secrets = master["secret"], key["secret"]
        yield World(daemon, gateway, curl(gateway, directory), native, directory, *secrets)
        assert "Traceback" not in gateway.log_text()
        assert "Traceback" not in daemon.log_text()
        for secret in secrets:
            assert secret not in gateway.log_text()
            assert secret not in daemon.log_text()


# -- the page's examples, as they are typed ------------------------------------------------------


def test_the_examples_of_the_page(world: World) -> None:
    run = world.curl
    key = {"apikey_ABC123": world.key}
    master = {"master_ABC123": world.master}

    made = run(
        """curl -X POST https://func.pifop.com/joe/tsp/executions \
        -H "Authorization: Bearer apikey_ABC123" """,
        **key,
    )
    assert (made["func_author"], made["func_id"]) == ("joe", "tsp")
    assert (made["status"], made["end_reason"]) == ("pending", None)
    assert made["init_date"].endswith("Z")
    assert (made["start_date"], made["end_date"]) == (None, None)
    given = {**key, "exec_ABC1234": made["id"]}

    uploaded = run(
        """curl -X POST https://func.pifop.com/joe/tsp/executions/exec_ABC1234/input/coords \
        -H "Authorization: Bearer apikey_ABC123" \
        -d "150, 254, 145, 222, 478, 644, 98, 51" """,
        **given,
    )
    assert uploaded == {"id": "coords", "path": "coords.txt", "size": len(COORDS)}

    started = run(
        """curl -X POST https://func.pifop.com/joe/tsp/executions/exec_ABC1234/start \
        -H "Authorization: Bearer apikey_ABC123" """,
        **given,
    )
    assert started["id"] == made["id"]
    assert started["status"] in ("running", "ended")

    world.native.wait_execution(made["id"])
    info = run(
        """curl https://func.pifop.com/joe/tsp/executions/exec_ABC1234 \
        -H "Authorization: Bearer apikey_ABC123" """,
        **given,
    )
    assert (info["status"], info["end_reason"]) == ("ended", "normal")
    assert info["log"] == "reading\ndone\n"
    assert info["init_date"] <= info["start_date"] <= info["end_date"]
    assert [(each["id"], each["path"]) for each in info["output"]] == [("result", "result.json")]

    result = run(
        """curl https://func.pifop.com/joe/tsp/executions/exec_ABC1234/output/result \
        -H "Authorization: Bearer apikey_ABC123" """,
        **given,
    )
    assert result == {"tour": TOUR}

    stopped = run(
        """curl -X POST https://func.pifop.com/joe/tsp/executions/exec_ABC1234/stop \
        -H "Authorization: Bearer apikey_ABC123" """,
        **given,
    )
    assert (stopped["status"], stopped["end_reason"]) == ("ended", "normal")

    terminated = run(
        """curl -X DELETE https://func.pifop.com/joe/tsp/executions/exec_ABC1234 \
        -H "Authorization: Bearer apikey_ABC123" """,
        **given,
    )
    assert terminated["id"] == made["id"]
    gone = """curl https://func.pifop.com/joe/tsp/executions/exec_ABC1234 \
        -H "Authorization: Bearer apikey_ABC123" """
    assert run.raw(gone, **given)[0] == 404

    function = run(
        """curl https://func.pifop.com/joe/tsp \
        -H "Authorization: Bearer master_ABC123" """,
        **master,
    )
    assert (function["id"], function["author"]) == ("tsp", "joe")
    assert function["title"] == "Travelling salesman"

    new = run(
        """curl -X POST "https://func.pifop.com/joe/tsp/api_keys?key_name=david&max_executions=2" \
        -H "Authorization: Bearer master_ABC123" """,
        **master,
    )
    assert new["key"].startswith("apikey_")
    assert (new["name"], new["max_executions"]) == ("david", 2)
    assert (new["max_memory"], new["max_time"]) == (None, None)
    assert world.client(new["key"]).execute(COORDS.encode()) == {"tour": TOUR}

    deleted = run(
        """curl -X DELETE https://func.pifop.com/joe/tsp/api_keys/david \
        -H "Authorization: Bearer master_ABC123" """,
        **master,
    )
    assert deleted["name"] == "david"
    assert "key" not in deleted
    assert world.caller(new["key"]).refused("GET", "/joe/tsp")[0] == 401


# -- what a client sees --------------------------------------------------------------------------


def test_the_client_from_nothing_to_the_result(world: World) -> None:
    client = world.client(sleep=time.sleep)
    assert client.execute(COORDS.encode()) == {"tour": TOUR}
    assert [event for event in client.events if event != "execution_info"] == [
        "function_initialized", "execution_initialized", "input_uploaded", "ready_to_start",
        "execution_started", "execution_ended", "output_retrieved", "result_ready",
        "execution_terminated",
    ]  # fmt: skip
    assert world.call.refused("GET", client.endpoint)[0] == 404


def test_several_inputs_and_outputs(world: World) -> None:
    client = world.client()
    options = json.dumps({"both": True}).encode()
    found = client.execute({"coords": COORDS.encode(), "options": options})
    assert found == {"result": {"tour": TOUR}, "table": "a;b\n1;ä\n"}


def test_the_log_while_it_runs(world: World) -> None:
    """Cumulative by default; what is new for the older clients."""
    lines = [f"line {number} ä" for number in range(4)]
    inputs = {
        "coords": COORDS.encode(),
        "options": json.dumps({"lines": lines, "pause": 0.4}).encode(),
    }
    logs: list[str] = []
    for incremental in (False, True):
        client = world.client(incremental=incremental)
        seen: list[str] = []

        def sleep(seconds: float, client: Client = client, seen: list[str] = seen) -> None:
            seen.append(client.log)
            time.sleep(seconds / 4)

        client.sleep = sleep
        client.execute(inputs)
        assert client.log.splitlines() == lines
        assert any(0 < text.count("\n") < 4 for text in seen), "nothing was seen while it ran"
        logs.append(client.log)
    assert logs[0] == logs[1]


def test_polls_of_the_incremental_form(world: World) -> None:
    id = world.started()
    info = world.ended(id, "?stdout=true&include_log=false")
    assert info["stdout"] == "reading\ndone\n"
    assert "log" not in info
    path = f"/joe/tsp/executions/{id}"
    assert world.call.ok("GET", f"{path}?stdout=true")["stdout"] == ""
    both = world.call.ok("GET", f"{path}?stdout=true")
    assert (both["stdout"], both["log"]) == ("", "reading\ndone\n")
    # Somebody else has seen nothing yet.
    other = world.caller(world.master).ok("GET", f"{path}?include_log=true&stdout=true")
    assert (other["stdout"], other["log"]) == ("reading\ndone\n", "reading\ndone\n")
    assert "stdout" not in world.call.ok("GET", f"{path}?stdout=false")
    assert world.call.refused("GET", f"{path}?stdout=perhaps")[0] == 400


def test_without_the_log(world: World) -> None:
    id = world.started()
    for text in ("false", "False", "0"):
        assert "log" not in world.ended(id, f"?include_log={text}")
    assert world.ended(id, "?include_log=true")["log"] == "reading\ndone\n"
    assert world.call.refused("GET", f"/joe/tsp/executions/{id}?include_log=x")[0] == 400


def test_going_on_where_another_client_was(world: World) -> None:
    first = world.client()
    first.initialize()
    world.call.ok("POST", f"{first.endpoint}/input/coords", COORDS.encode())
    options = {"lines": ["a", "b", "c"], "pause": 0.5}
    world.call.ok("POST", f"{first.endpoint}/input/options", json.dumps(options).encode())
    first.start()
    second = world.client()
    assert second.resume(first.id) == {"tour": TOUR}
    assert second.log == "a\nb\nc\n"


def test_a_key_that_may_run_one_at_a_time_is_asked_again(world: World) -> None:
    master = world.caller(world.master)
    key = master.ok("POST", "/joe/tsp/api_keys?name=one&max_parallel_jobs=1")["key"]
    try:
        first = world.client(key)
        first.initialize()
        options = json.dumps({"pause": 1.2}).encode()
        for id, content in (("coords", COORDS.encode()), ("options", options)):
            first.call.ok("POST", f"{first.endpoint}/input/{id}", content)
        first.start()
        second = world.client(key, sleep=time.sleep)
        answer_before = second.call
        assert second.execute(COORDS.encode()) == {"tour": TOUR}
        assert second.events.count("retry") == 1
        assert answer_before.ok("GET", first.endpoint)["status"] == "ended"
    finally:
        master.ok("DELETE", "/joe/tsp/api_keys/one")


def test_who_is_refused_again_and_again_gives_up(world: World) -> None:
    master = world.caller(world.master)
    key = master.ok("POST", "/joe/tsp/api_keys?name=two&max_executions=1")["key"]
    slept: list[float] = []
    blocking = world.client(key)
    blocking.initialize()
    for id, content in (("coords", COORDS.encode()), ("options", b'{"hang": true}')):
        blocking.call.ok("POST", f"{blocking.endpoint}/input/{id}", content)
    blocking.start()
    waiting = world.client(key, sleep=slept.append)
    with pytest.raises(Failed) as caught:
        waiting.execute(COORDS.encode())
    operation, status, message = caught.value.args
    assert (operation, status) == ("start", 503)
    assert message
    assert slept == [3] * 5
    answer = waiting.call("POST", f"{waiting.endpoint}/start")
    assert int(answer.headers["retry-after"]) >= 1
    # A key that is deleted takes along what runs with it.
    master.ok("DELETE", "/joe/tsp/api_keys/two")
    ended = world.native.wait_execution(blocking.id)
    assert ended["end_reason"] == "cancelled"
    assert waiting.call.refused("GET", waiting.endpoint)[0] == 401


# -- how executions end --------------------------------------------------------------------------


def test_limits_of_the_key(world: World) -> None:
    master = world.caller(world.master)
    made = master.ok("POST", "/joe/tsp/api_keys?name=small&max_memory=32&max_time=1.5")
    assert (made["max_memory"], made["max_time"]) == (32.0, 1.5)
    try:
        for options, reason in (({"fill": True}, "out-of-memory"), ({"hang": True}, "timeout")):
            client = world.client(made["key"])
            inputs = {"coords": COORDS.encode(), "options": json.dumps(options).encode()}
            client.execute(inputs)
            assert client.data["end_reason"] == reason
            assert client.data["output"] == []
            assert client.outputs == {}
    finally:
        master.ok("DELETE", "/joe/tsp/api_keys/small")


def test_a_program_that_fails_has_ended_normally(world: World) -> None:
    info = world.ended(world.started(status=3))
    assert (info["end_reason"], info["exit_code"]) == ("normal", 3)


def test_stop_keeps_what_there_is(world: World) -> None:
    id = world.started(lines=["begun"], hang=True)
    path = f"/joe/tsp/executions/{id}"
    while world.call.ok("GET", path)["log"] != "begun\n":
        time.sleep(0.05)
    info = world.call.ok("POST", f"{path}/stop")
    world.native.wait_execution(id)
    info = world.call.ok("GET", path)
    assert (info["status"], info["end_reason"], info["log"]) == ("ended", "stopped", "begun\n")


def test_terminate_at_every_point_of_its_life(world: World) -> None:
    running_one = world.started(hang=True)
    ended = world.started()
    world.native.wait_execution(ended)
    for id in (world.pending(), running_one, ended):
        path = f"/joe/tsp/executions/{id}"
        assert world.call.ok("DELETE", path)["id"] == id
        assert world.call.refused("GET", path)[0] == 404
        assert world.call.refused("DELETE", path)[0] == 404
        assert world.call.refused("GET", f"{path}/output/result")[0] == 404


def test_one_that_waits_for_its_turn_is_running(world: World) -> None:
    """PIFOP's client asks no more when it is told `pending` after the start."""
    inputs = {"coords": COORDS, "options": '{"hang": true}'}
    before = [world.native.run_function("tsp", space="joe", inputs=inputs)["id"] for _ in range(40)]
    id = world.started()
    assert world.native.execution(id)["status"] == "pending", "it has not waited"
    info = world.call.ok("GET", f"/joe/tsp/executions/{id}")
    assert (info["status"], info["end_date"]) == ("running", None)
    assert info["start_date"] >= info["init_date"]
    for each in before:
        world.native.delete_execution(each)
    assert world.ended(id)["end_reason"] == "normal"


# -- calls that are not right now ----------------------------------------------------------------


def test_what_is_too_early_or_too_late(world: World) -> None:
    id = world.pending()
    path = f"/joe/tsp/executions/{id}"
    assert world.call.refused("GET", f"{path}/output/result")[0] == 409
    world.call.ok("POST", f"{path}/start")
    for _ in range(2):  # While it runs, and when it has ended.
        status, message = world.call.refused("POST", f"{path}/input/coords", b"1")
        assert status == 409
        assert "new execution" in message
        assert world.call.refused("POST", f"{path}/start")[0] == 409
        world.native.wait_execution(id)
    assert world.call.ok("GET", path)["log"] == "reading\ndone\n"
    running_one = f"/joe/tsp/executions/{world.started(hang=True)}"
    assert world.call.refused("GET", f"{running_one}/output/result")[0] == 409
    assert world.call.refused("POST", f"{running_one}/start")[0] == 409
    world.call.ok("DELETE", running_one)


def test_a_start_without_a_required_input(world: World) -> None:
    id = world.call.ok("POST", "/joe/tsp/executions")["id"]
    info = world.call.ok("GET", "/joe/tsp")
    assert [(each["id"], each["required"]) for each in info["input"]] == [
        ("coords", True), ("options", False),
    ]  # fmt: skip
    status, message = world.call.refused("POST", f"/joe/tsp/executions/{id}/start")
    assert status in (400, 409)
    assert "coords" in message
    world.call.ok("POST", f"/joe/tsp/executions/{id}/input/coords", COORDS.encode())
    world.call.ok("POST", f"/joe/tsp/executions/{id}/start")


def test_what_is_not_there(world: World) -> None:
    id = world.started()
    world.native.wait_execution(id)
    pending = world.pending()
    for method, path in (
        ("GET", "/joe/nosuch"),
        ("GET", "/nobody/tsp"),
        ("POST", "/joe/nosuch/executions"),
        ("GET", "/joe/tsp/executions/nosuch"),
        ("GET", "/joe/tsp/executions/00000000-0000-4000-8000-000000000000"),
        ("POST", f"/joe/tsp/executions/{pending}/input/nosuch"),
        ("GET", f"/joe/tsp/executions/{id}/output/nosuch"),
        ("GET", f"/joe/tsp/executions/{id}/output/table"),  # Not generated by this one.
        ("GET", f"/joe/other/executions/{id}"),
        ("DELETE", f"/joe/other/executions/{id}"),
        ("GET", f"/joe/tsp/executions/{id}/nosuch"),
        ("GET", f"/joe/tsp/executions/{id}/output/..%2f..%2fetc"),
        ("GET", f"/joe/tsp/executions/..%2f{id}"),
    ):
        assert world.call.refused(method, path)[0] == 404, (method, path)
    assert world.call.refused("PUT", "/joe/tsp")[0] == 405
    assert world.call.refused("GET", f"/joe/tsp/executions/{id}/start")[0] == 405
    assert world.ended(id)["end_reason"] == "normal"


# -- inputs and outputs --------------------------------------------------------------------------


def test_an_input_is_taken_as_it_is(world: World) -> None:
    id = str(world.call.ok("POST", "/joe/tsp/executions")["id"])
    path = f"/joe/tsp/executions/{id}/input"
    for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain", ""):
        body = b"\x00\xff\r\n" + kind.encode()
        answer = world.call("POST", f"{path}/options", body, content_type=kind)
        assert answer.status == 200, answer
        assert answer.json["size"] == len(body)
    # The last one counts.
    world.call.ok("POST", f"{path}/options", b'{"lines": ["the last"]}')
    world.call.ok("POST", f"{path}/coords", b"3,1,2")
    world.call.ok("POST", f"/joe/tsp/executions/{id}/start")
    assert world.ended(id)["log"] == "the last\n"
    assert world.call("GET", f"/joe/tsp/executions/{id}/output/result").json == {"tour": [1, 2, 3]}


def test_an_input_that_is_too_large(world: World) -> None:
    id = world.pending()
    path = f"/joe/tsp/executions/{id}/input/options"
    assert world.call.ok("POST", path, b" " * MIB)["size"] == MIB
    status, message = world.call.refused("POST", path, b" " * (MIB + 1))
    assert status == 413
    assert str(MIB) in message
    # Also where it is not said before how large it is; and curl asks whether it may send.
    large = world.directory / "large"
    large.write_bytes(b" " * (2 * MIB))
    lines = (
        'curl -X POST -H "Transfer-Encoding: chunked" -H "Expect:" --data-binary @FILE URL',
        "curl -X POST --data-binary @FILE URL",
    )
    for line in lines:
        status, body = world.curl.raw(
            f'{line} -H "Authorization: Bearer KEY"',
            FILE=str(large),
            URL=f"https://func.pifop.com{path}",
            KEY=world.key,
        )
        assert status == 413, body
    assert world.call.ok("GET", f"/joe/tsp/executions/{id}")["input"][-1]["size"] == MIB
    answer = world.call("POST", path, b"x", content_encoding="gzip")
    assert answer.status == 415


def test_outputs_are_for_who_asked_and_no_page_of_ours(world: World) -> None:
    id = world.started(both=True)
    world.native.wait_execution(id)
    for name, kind in (("result", "application/json"), ("table", "text/csv; charset=utf-8")):
        answer = world.call("GET", f"/joe/tsp/executions/{id}/output/{name}")
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")


@contextlib.contextmanager
def sending(world: World, path: str, size: int) -> Iterator[http.client.HTTPSConnection]:
    """A request that says that its body is so long; nothing of that is sent yet."""
    client = http.client.HTTPSConnection(
        "localhost", world.gateway.port, timeout=30, context=world.call.context
    )
    with contextlib.closing(client):
        client.putrequest("POST", path)
        client.putheader("authorization", f"Bearer {world.key}")
        client.putheader("content-length", str(size))
        client.endheaders()
        yield client


def test_who_still_sends_when_it_is_refused_sees_why(world: World) -> None:
    """The connection is not reset under a client that looks for the answer when it has sent all."""
    path = f"/joe/tsp/executions/{world.pending()}/input/options"
    with sending(world, path, 8 * MIB) as client:
        for _ in range(8):
            time.sleep(0.1)
            client.send(bytes(MIB))
        answer = client.getresponse()
        assert (answer.status, answer.getheader("connection")) == (413, "close")
        assert "errorMessage" in json.loads(answer.read())


def test_refused_requests_that_go_on_keep_nothing(world: World) -> None:
    """Whatever comes after one is forgotten, and the gateway ends as soon as ever: neither what is
    still open nor what was left by clients that have gone is waited for."""
    with contextlib.ExitStack() as stack:
        with serving(world.daemon.socket, world.directory) as gateway:
            other = replace(world, gateway=gateway)
            for n in range(20):
                plain = socket.create_connection(("localhost", gateway.port), timeout=30)
                sock = stack.enter_context(
                    other.call.context.wrap_socket(plain, False, True, True, "localhost")
                )
                sock.sendall(
                    b"POST /joe/nothing/executions HTTP/1.1\r\nhost: localhost\r\n"
                    b"content-length: 4\r\n\r\n"
                )
                head = sock.recv(65536).lower()
                assert head.startswith(b"http/1.1 401 ")
                assert b"connection: close" in head
                sock.sendall(b"abcd" + b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3)
                if n % 2:
                    sock.close()
            assert other.call("GET", "/joe/tsp").status == 200
            ended = time.monotonic()
            gateway.stop()
        assert time.monotonic() - ended < 3.0


def test_a_connection_is_kept_where_all_was_sent(world: World) -> None:
    client = http.client.HTTPSConnection(
        "localhost", world.gateway.port, timeout=30, context=world.call.context
    )
    with contextlib.closing(client):
        for _ in range(50):
            client.request("GET", "/joe/nothing")
            answer = client.getresponse()
            assert (answer.status, answer.getheader("connection")) == (401, None)
            answer.read()


def test_too_many_files_at_once(world: World, tmp_path: Path) -> None:
    """A client that does not send what it said it would holds all the memory for it."""
    import socket

    settings = {"max_transfer_bytes": 10, "plain_http": True}
    with running(world.daemon.socket, pifop=settings, write_timeout_ns="2s") as gateway:
        call = Caller(gateway, world.key)
        id = call.ok("POST", "/joe/tsp/executions")["id"]
        path = f"/joe/tsp/executions/{id}/input/coords"
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
                f"Authorization: Bearer {world.key}\r\n\r\n1"
            )
            sock.sendall(head.encode())
            deadline = time.monotonic() + 10
            while call("POST", path, b"1").status != 503:
                assert time.monotonic() < deadline
            answer = call("POST", path, b"1")
            assert int(answer.headers["retry-after"]) >= 1
            # Who has no key takes no place, and nothing else is held up.
            assert Caller(gateway, "x").refused("POST", path, b"1")[0] == 401
            assert call.ok("GET", f"/joe/tsp/executions/{id}")["status"] == "pending"
        while call("POST", path, b"1,2").status != 200:
            assert time.monotonic() < deadline
        call.ok("POST", f"/joe/tsp/executions/{id}/start")
        world.native.wait_execution(id)
        for _ in range(3):  # Each gives its place back.
            assert call("GET", f"/joe/tsp/executions/{id}/output/result").status == 200


# -- keys ----------------------------------------------------------------------------------------


def test_who_may_not(world: World) -> None:
    for caller in (world.caller(None), world.caller("apikey_ABC123"), world.caller("")):
        for method, path in (("GET", "/joe/tsp"), ("POST", "/joe/tsp/executions")):
            answer = caller(method, path)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json["errorMessage"]
    answer = world.caller(None)("GET", "/joe/tsp", authorization=f"Token {world.key}")
    assert answer.status == 401


def test_keys_reach_their_function_only(world: World) -> None:
    master = world.caller(world.master)
    assert world.call.refused("GET", "/joe/other")[0] == 404
    assert world.call.refused("POST", "/joe/other/executions")[0] == 404
    assert master.refused("POST", "/joe/other/api_keys?key_name=x")[0] == 404
    # Those of API keys do not administer.
    for method, path in (
        ("POST", "/joe/tsp/api_keys?key_name=x"),
        ("GET", "/joe/tsp/api_keys"),
        ("DELETE", "/joe/tsp/api_keys/x"),
    ):
        assert world.call.refused(method, path)[0] == 403, (method, path)
    # One key's executions are nothing to another.
    other = master.ok("POST", "/joe/tsp/api_keys?key_name=other")["key"]
    id = world.pending()
    assert world.caller(other).refused("GET", f"/joe/tsp/executions/{id}")[0] == 404
    assert master.ok("GET", f"/joe/tsp/executions/{id}")["id"] == id
    listed = world.caller(other).ok("GET", "/joe/tsp/executions")
    assert listed == []
    assert id in [each["id"] for each in master.ok("GET", "/joe/tsp/executions?limit=1000")]
    for limit in ("0", "1001", "-1", "x", "000000001" + "9" * 20, "1" * 5000):
        assert master.refused("GET", f"/joe/tsp/executions?limit={limit}")[0] == 400, limit
    master.ok("DELETE", "/joe/tsp/api_keys/other")


def test_names_of_keys(world: World) -> None:
    master = world.caller(world.master)
    bound = {"space": "joe", "function": "other"}
    secret = world.native.create_key("master-of-other", "master", **bound)["secret"]
    of_other = world.caller(secret)
    # Two functions may each have a david.
    master.ok("POST", "/joe/tsp/api_keys?key_name=david")
    of_other.ok("POST", "/joe/other/api_keys?name=david&max_time=500ms")
    status, message = master.refused("POST", "/joe/tsp/api_keys?key_name=david")
    assert status == 409
    assert "david" in message
    listed = of_other.ok("GET", "/joe/other/api_keys")
    assert [(each["name"], each["max_time"]) for each in listed] == [("david", 0.5)]
    assert "key" not in listed[0]
    # One that was made by other means is deleted by the name it has.
    world.native.create_key("by-hand", "run", **bound)
    of_other.ok("DELETE", "/joe/other/api_keys/by-hand")
    of_other.ok("DELETE", "/joe/other/api_keys/david")
    assert of_other.refused("DELETE", "/joe/other/api_keys/david")[0] == 404
    assert [each["name"] for each in master.ok("GET", "/joe/tsp/api_keys")].count("david") == 1
    master.ok("DELETE", "/joe/tsp/api_keys/david")
    for query in ("", "?key_name=", "?key_name=a%20b", "?key_name=a&name=b", "?key_name=%ff",
                  "?key_name=" + "a" * 64, "?key_name=a&max_memory=much"):  # fmt: skip
        assert master.refused("POST", f"/joe/tsp/api_keys{query}")[0] == 400, query


# -- beside the others ---------------------------------------------------------------------------


def test_nothing_of_the_others_is_in_its_shadow(world: World) -> None:
    world.native.create_function("v2", **{**FUNCTION, "space": "api"})
    call = world.caller(None)
    assert call.ok("GET", "/") == {"message": "Piston v3.1.1"}
    assert call("GET", "/docs").status == 200
    assert "/{author}/{func}/executions" in call.ok("GET", "/openapi.json")["paths"]
    assert call("GET", "/metrics").status == 200
    assert call("GET", "/api/v2/runtimes").status == 200
    for path in ("/api/v2", "/api/v2/executions", "/docs/tsp", "/nothing/of/anybody"):
        answer = call("GET", path)
        assert answer.status == 404
        assert answer.json.keys() == {"message"}


def test_it_counts_paths_and_not_names(world: World) -> None:
    world.call.ok("GET", "/joe/tsp/")
    text = world.caller(None)("GET", "/metrics").body.decode()
    assert 'path="/{author:pifop_author}/{func:pifop_name}"' in text
    assert "joe" not in text


def test_generated_requests_against_the_description(world: World, tmp_path: Path) -> None:
    with running(world.daemon.socket, pifop={"plain_http": True}) as gateway:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
                *("--max-examples", "10", "--max-time", "20", "--phases", "coverage,fuzzing"),
                *("--include-path-regex", "{author}", "--seed", "1", "--no-color"),
                *("-H", f"Authorization: Bearer {world.master}", "--generation-database", "none"),
                # A name that could be one of a key and is none of an execution is 404.
                *("--exclude-checks", "positive_data_acceptance"),
            ],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Traceback" not in gateway.log_text()


def test_who_is_refused_with_much_to_send_leaves_no_connection(world: World) -> None:
    context = ssl.create_default_context(cafile=str(certificate(world.directory)))
    head = "POST /joe/tsp/executions/x/input/coords HTTP/1.1\r\nHost: localhost\r\n"
    head += "Authorization: Bearer unknown\r\nContent-Length: 20000000\r\n\r\n"
    descriptors = Path(f"/proc/{world.gateway.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(10):
        with (
            socket.create_connection(("127.0.0.1", world.gateway.port), 1) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as stream,
            contextlib.suppress(OSError),
        ):
            stream.sendall(head.encode() + b"x" * 2_000_000)
    deadline = time.monotonic() + 5
    while len(list(descriptors.iterdir())) > before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
