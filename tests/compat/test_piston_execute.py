"""POST /execute and GET /runtimes: every field of the answer, against a real daemon."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from compat.gateway import JSON, running

if TYPE_CHECKING:
    from pathlib import Path

    from compat.gateway import Gateway
    from support.daemon import Daemon

STAGE = {
    "signal", "stdout", "stderr", "code", "output", "memory", "message", "status", "cpu_time",
    "wall_time",
}  # fmt: skip


def test_who_it_is(gateway: Gateway) -> None:
    answer = gateway.get("/")
    assert (answer.status, answer.json) == (200, {"message": "Piston v3.1.1"})


@pytest.mark.parametrize("prefix", ["/api/v2", "/api/v2/piston"])
def test_runtimes(gateway: Gateway, prefix: str) -> None:
    answer = gateway.get(f"{prefix}/runtimes")
    assert answer.status == 200
    found = {runtime["language"]: runtime for runtime in answer.json}
    assert "sh" in found["bash"]["aliases"]
    assert found["c"]["runtime"] == "gcc"
    assert "runtime" not in found["bash"]
    for runtime in answer.json:
        assert runtime.keys() - {"runtime"} == {"language", "version", "aliases"}
        assert runtime["version"].count(".") >= 2
    assert gateway.get(f"{prefix}/runtimes/").json == answer.json


def test_a_program_that_ends_well(gateway: Gateway) -> None:
    source = "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr)"
    answer = gateway.run("python", source)
    assert answer.keys() == {"run", "language", "version"}
    assert answer["language"] == "python"
    run = answer["run"]
    assert run.keys() == STAGE
    assert (run["stdout"], run["stderr"], run["output"]) == ("out\n", "err\n", "out\nerr\n")
    assert (run["code"], run["signal"], run["status"], run["message"]) == (0, None, None, None)
    assert 1_000_000 < run["memory"] < 500_000_000
    assert 1 < run["cpu_time"] < 3000
    assert 1 < run["wall_time"] < 3000


def test_the_public_path(gateway: Gateway) -> None:
    body = {"language": "sh", "version": ">=1", "files": [{"content": "echo $((6 * 7))"}]}
    answer = gateway.send("POST", "/api/v2/piston/execute", body).json
    assert (answer["language"], answer["run"]["stdout"]) == ("bash", "42\n")


def test_output_is_in_the_order_of_arrival(gateway: Gateway) -> None:
    source = "for i in 1 2 3; do echo o$i; sleep 0.05; echo e$i >&2; sleep 0.05; done"
    run = gateway.run("bash", source)["run"]
    assert run["output"] == "o1\ne1\no2\ne2\no3\ne3\n"
    assert (run["stdout"], run["stderr"]) == ("o1\no2\no3\n", "e1\ne2\ne3\n")


def test_exit_code(gateway: Gateway) -> None:
    run = gateway.run("bash", "exit 7")["run"]
    assert (run["code"], run["signal"], run["status"]) == (7, None, "RE")
    assert run["message"] == "Exited with error status 7"


@pytest.mark.parametrize(("name", "number"), [("SEGV", 11), ("KILL", 9), ("TERM", 15)])
def test_signal(gateway: Gateway, name: str, number: int) -> None:
    run = gateway.run("python", f"import os; os.kill(os.getpid(), {number})")["run"]
    assert (run["code"], run["signal"], run["status"]) == (None, f"SIG{name}", "SG")
    assert run["message"] == f"Caught fatal signal {number}"


def test_wall_time(gateway: Gateway) -> None:
    run = gateway.run("bash", "echo before; sleep 60", run_timeout=300)["run"]
    assert (run["code"], run["signal"], run["status"]) == (None, "SIGKILL", "TO")
    assert run["message"] == "Time limit exceeded (wall clock)"
    assert run["stdout"] == "before\n"
    assert 250 < run["wall_time"] < 2000


def test_cpu_time(gateway: Gateway) -> None:
    run = gateway.run("bash", "while :; do :; done", run_cpu_time=200)["run"]
    assert (run["code"], run["signal"], run["status"]) == (None, "SIGKILL", "TO")
    assert run["message"] == "Time limit exceeded"
    assert 150 < run["cpu_time"] < 1000


def test_memory(gateway: Gateway) -> None:
    source = "x = bytearray(200_000_000)"
    run = gateway.run("python", source, run_memory_limit=64_000_000)["run"]
    assert (run["code"], run["signal"], run["status"]) == (None, "SIGKILL", "SG")
    assert run["message"] == "Memory limit exceeded"


@pytest.mark.parametrize(
    ("redirect", "status", "name"), [("", "OL", "stdout"), (" >&2", "EL", "stderr")]
)
def test_output_limit(gateway: Gateway, redirect: str, status: str, name: str) -> None:
    run = gateway.run("bash", f"while :; do echo 0123456789{redirect}; done")["run"]
    assert (run["code"], run["signal"], run["status"]) == (None, "SIGKILL", status)
    assert run["message"] == f"{name} length exceeded"
    assert len(run[name]) == 65_536, "the prefix up to the limit"
    assert run[name].startswith("0123456789\n")


def test_stdin_ends_with_a_newline(gateway: Gateway) -> None:
    for given, seen in (("", "\n"), ("abc", "abc\n"), ("abc\n", "abc\n"), ("\n\n", "\n\n")):
        assert gateway.run("bash", "cat", stdin=given)["run"]["stdout"] == seen
    assert gateway.run("bash", "cat")["run"]["stdout"] == "\n"


def test_args(gateway: Gateway) -> None:
    args = ["1", "two words", "", "$HOME", "ä😀"]
    source = "import sys; print(sys.argv[1:])"
    assert gateway.run("python", source, args=args)["run"]["stdout"] == f"{args}\n"


def test_bytes_that_are_no_text(gateway: Gateway) -> None:
    source = r"printf 'a\xff\xe2\x82b\xc3\xa4'"
    assert gateway.run("bash", source)["run"]["stdout"] == "a\ufffd\ufffdbä"


# -- compiled languages --------------------------------------------------------------------------

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


def test_a_compiled_program(gateway: Gateway) -> None:
    answer = gateway.run("c", HELLO)
    assert answer.keys() == {"run", "compile", "language", "version"}
    assert answer["compile"].keys() == STAGE
    assert (answer["compile"]["code"], answer["compile"]["status"]) == (0, None)
    assert (answer["run"]["stdout"], answer["run"]["code"]) == ("hello\n", 0)


def test_a_program_that_does_not_compile(gateway: Gateway) -> None:
    answer = gateway.run("c", "int main(void) { return x; }")
    assert answer["run"] == answer["compile"]
    assert (answer["run"]["status"], answer["run"]["code"]) == ("RE", 1)
    assert "error" in answer["run"]["stderr"]


def test_a_compiler_out_of_time(gateway: Gateway) -> None:
    answer = gateway.run("c", HELLO, compile_timeout=1)
    assert answer["run"] == answer["compile"]
    assert (answer["compile"]["status"], answer["compile"]["signal"]) == ("TO", "SIGKILL")


def test_text_files_are_compiled_and_others_are_there(gateway: Gateway) -> None:
    files = [
        {"name": "data.bin", "content": base64.b64encode(b"\0\1\2").decode(), "encoding": "base64"},
        {"name": "a.c", "content": "int f(void); int main(void) { return f(); }"},
        {"name": "b.c", "content": "int f(void) { return 5; }"},
    ]
    assert gateway.run("c", "", files=files)["run"]["code"] == 5


# -- files ---------------------------------------------------------------------------------------


def test_encodings(gateway: Gateway) -> None:
    data = bytes(range(256))
    source = "for n in 'xyz': print(open(n, 'rb').read() == bytes(range(256)))"
    files = [
        {"name": "x", "content": data.hex(), "encoding": "hex"},
        {"name": "y", "content": base64.b64encode(data).decode(), "encoding": "base64"},
        {"name": "z", "content": base64.urlsafe_b64encode(data).decode().rstrip("="),
         "encoding": "base64"},
       {"name": "main.py", "content": source},
        {"name": "w", "content": "ä", "encoding": "latin1"},
    ]  # fmt: skip
    answer = gateway.run("python", "", files=files)
    assert answer["run"]["output"] == "True\n" * 3


def test_names(gateway: Gateway) -> None:
    """Without a name: file0.code. Directories are made. A path is normalized as Node does it."""
    source = "import os; print(sorted(os.path.join(d, f) for d, _, n in os.walk('.') for f in n))"
    files = [
        {"content": source},
        {"content": "", "name": None},
        {"content": "", "name": ""},
        {"content": "", "name": "a/b/c.txt"},
        {"content": "", "name": "/etc/passwd"},
        {"content": "", "name": "./p/../q//r"},
    ]
    expected = [
        "./a/b/c.txt", "./etc/passwd", "./file0.code", "./file1.code", "./file2.code", "./q/r",
    ]  # fmt: skip
    assert gateway.run("python", "", files=files)["run"]["output"] == f"{expected}\n"


def test_of_two_files_with_one_name_the_later_one_is_there(gateway: Gateway) -> None:
    files = [{"name": "m", "content": "echo one"}, {"name": "./m", "content": "echo two"}]
    assert gateway.run("bash", "", files=files)["run"]["stdout"] == "two\n"


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [0, 0.0, False, "", None])
def test_no_limit_is_the_configured_one_and_never_none(daemon: Daemon, nothing: object) -> None:
    limits = {
        "run_timeout": 1000, "run_cpu_time": 5000, "run_memory_limit": 32_000_000,
        "output_max_size": 1000,
    }  # fmt: skip
    asked = {"run_timeout": nothing, "run_cpu_time": nothing, "run_memory_limit": nothing}
    with running(daemon.socket, piston=limits) as gateway:
        slow = gateway.run("bash", "sleep 4", **asked)["run"]
        assert (slow["status"], slow["signal"]) == ("TO", "SIGKILL")
        assert slow["wall_time"] < 3000
        large = gateway.run("python", "x = bytearray(200_000_000)", **asked)["run"]
        assert large["message"] == "Memory limit exceeded"


def test_a_tiny_limit_is_rounded_up(gateway: Gateway) -> None:
    run = gateway.run("bash", "while :; do :; done", run_timeout=0.4)["run"]
    assert (run["status"], run["signal"]) == ("TO", "SIGKILL")
    assert run["wall_time"] < 1000
    run = gateway.run("bash", "echo hi", run_memory_limit=1)["run"]
    assert run["status"] in ("SG", "XX", "RE")
    assert run["stdout"] == ""


def test_limits_of_a_language(daemon: Daemon) -> None:
    overrides = '{"bash": {"run_timeout": 300, "output_max_size": 100}}'
    environment = {
        "PISTON_LIMIT_OVERRIDES": overrides,
        "PISTON_RUN_TIMEOUT": "2000",
        "PISTON_MAX_PROCESS_COUNT": "10",
    }
    with running(daemon.socket, environment=environment) as gateway:
        assert gateway.run("bash", "sleep 4")["run"]["status"] == "TO"
        answer = gateway.execute("bash", "", run_timeout=301)
        assert answer.message == "run_timeout cannot exceed the configured limit of 300"
        answer = gateway.execute("python", "", run_timeout=2001)
        assert answer.message == "run_timeout cannot exceed the configured limit of 2000"
        run = gateway.run("bash", "printf %0200d 0")["run"]
        assert (run["status"], len(run["stdout"])) == ("OL", 100)
        source = (
            "import os, time\n"
            "try:\n    for i in range(50):\n        os.fork() or time.sleep(9)\n"
            "except OSError: print(i < 12, flush=True); os._exit(0)"
        )
        assert gateway.run("python", source)["run"]["stdout"] == "True\n"


# -- coming and going ----------------------------------------------------------------------------


def test_who_goes_away_takes_the_job_along(gateway: Gateway, daemon: Daemon) -> None:
    body = json.dumps({
        "language": "bash", "version": "*", "files": [{"content": "sleep 2.9"}],
    }).encode()  # fmt: skip
    before = _running(gateway)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    connection.request("POST", "/api/v2/execute", body, JSON)
    _until(lambda: _running(gateway) > before, 2.0)
    connection.close()
    begun = time.monotonic()
    _until(lambda: _running(gateway) == before, 2.0)
    assert time.monotonic() - begun < 1.0
    _until(lambda: "status=499" in gateway.log_text(), 2.0)


def _running(gateway: Gateway) -> float:
    text = gateway.get("/metrics").body.decode()
    line = next(x for x in text.splitlines() if x.startswith('sandboxd_queue_jobs{state="running"'))
    return float(line.split()[-1])


def _until(true: Any, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_many_requests_on_one_connection(gateway: Gateway) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    for number in range(5):
        body = {"language": "bash", "version": "*", "files": [{"content": f"echo {number}"}]}
        connection.request("POST", "/api/v2/execute", json.dumps(body), JSON)
        answer = connection.getresponse()
        assert json.loads(answer.read())["run"]["stdout"] == f"{number}\n"
    connection.close()


def test_when_the_queue_is_full(require_sandbox: None) -> None:
    from support.daemon import running as running_daemon

    with (
        running_daemon(jobs=1, queue_length=2, queue_per_tenant=2) as daemon,
        running(daemon.socket) as gateway,
    ):
        gateway.run("bash", "")
        answers = []

        def ask() -> None:
            answers.append(gateway.execute("bash", "sleep 0.5"))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = sorted(answer.status for answer in answers)
        assert set(statuses) == {200, 503}
        for answer in answers:
            if answer.status == 503:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.message


def test_when_the_daemon_is_gone_and_back(require_sandbox: None, tmp_path: Path) -> None:
    from support.daemon import running as running_daemon

    path = tmp_path / "socket"
    with running_daemon(jobs=1) as daemon, running_daemon(jobs=1) as other:
        path.symlink_to(daemon.socket)
        with running(str(path)) as gateway:
            assert gateway.run("bash", "echo 1")["run"]["stdout"] == "1\n"
            daemon.stop()
            for answer in (gateway.execute("bash", "echo 2"), gateway.get("/api/v2/runtimes")):
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.message
            assert "sandboxd_up 0.0" in gateway.get("/metrics").body.decode()
            path.unlink()
            path.symlink_to(other.socket)
            assert gateway.run("bash", "echo 3")["run"]["stdout"] == "3\n"
            assert "sandboxd_up 1.0" in gateway.get("/metrics").body.decode()
