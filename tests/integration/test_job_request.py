"""What a request says is what the job sees: arguments, environment, directory, stdin, files."""

import hashlib

import pytest

from sandboxd_client import Client, RequestError
from support.jobs import GIB, MIB, run, run_ok, run_or_refusal
from support.programs import report


def test_defaults(client: Client) -> None:
    found = run_ok(client, "show_job", "one", "")
    assert (found["argc"], found["argv_0"], found["argv_1"], found["argv_2"]) == (
        "3", "./show_job", "one", "",
    )  # fmt: skip
    assert found["cwd"] == found["env_HOME"] == "/work"
    assert found["env_PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert (found["uid"], found["gid"]) == ("1000", "1000")
    assert (found["stdin"], found["tty"]) == ("0", "0")


def test_arguments_are_bytes(client: Client) -> None:
    arguments = ["", " ", "a\nb", "ü€", b"\xff\xfe", "-n", "'\"\\$(x)`", "*", "x" * 100_000]
    result = client.run(argv=["printf", "%s\\0", *arguments])
    sent = [word.encode() if isinstance(word, str) else word for word in arguments]
    assert result.stdout.split(b"\0")[:-1] == sent


def test_environment_is_the_whole_environment(client: Client) -> None:
    result = client.run(argv=["/usr/bin/env"], env={"B": "2", "A": b"\xff", "EMPTY": ""})
    assert result.stdout.splitlines() == [b"B=2", b"A=\xff", b"EMPTY="]
    assert client.run(argv=["/usr/bin/env"], env={}).stdout == b""


def test_program_is_looked_up_in_the_job_s_path(client: Client) -> None:
    files = {"bin/hello": {"data": b"#!/bin/sh\necho hello\n", "mode": 0o755}}
    result = client.run(argv=["hello"], env={"PATH": "/nowhere:/work/bin"}, files=files)
    assert result.stdout == b"hello\n"


def test_program_that_is_not_there(client: Client) -> None:
    for name in ("no-such-program", "./no-such-program", "/no/such/program"):
        result = client.run(argv=[name])
        assert (result.status, result.exit_code) == ("nonzero_exit", 127)
        assert name in result.message


@pytest.mark.parametrize(
    ("data", "mode"), [(b"#!/bin/sh\n", 0o644), (b"\x7fELF rubbish", 0o755), (b"", 0o755)]
)
def test_program_that_cannot_be_executed(client: Client, data: bytes, mode: int) -> None:
    result = client.run(argv=["./p"], files={"p": {"data": data, "mode": mode}})
    assert (result.status, result.exit_code) == ("nonzero_exit", 126)
    assert result.message


def test_directory_as_program(client: Client) -> None:
    assert client.run(argv=["/usr"]).exit_code == 126


@pytest.mark.parametrize(("cwd", "seen"), [("/tmp", "/tmp"), ("sub/deep", "/work/sub/deep"),
                                           ("/", "/"), (".", "/work")])  # fmt: skip
def test_working_directory(client: Client, cwd: str, seen: str) -> None:
    result = client.run(argv=["/bin/pwd"], cwd=cwd, files={"sub/deep/file": b""})
    assert result.stdout == f"{seen}\n".encode()


def test_working_directory_that_is_not_there(client: Client) -> None:
    result = client.run(argv=["true"], cwd="nowhere")
    assert result.status != "ok"
    assert "directory" in result.message


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, MIB, 20 * MIB])
def test_stdin_of_every_size(client: Client, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    result = client.run(argv=["sha256sum"], stdin=data)
    assert result.status == "ok"
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_stdin_may_be_text(client: Client) -> None:
    assert client.run(argv=["cat"], stdin="grüße").stdout == "grüße".encode()


def test_stdin_is_at_its_end_without_any(client: Client) -> None:
    assert client.run(argv=["cat"]).status == "ok"


def test_input_files(client: Client) -> None:
    files = {
        "plain": b"bytes",
        "text": "grüße",
        "deep/er/file": b"x",
        "secret": {"data": b"y", "mode": 0o400},
        "program": {"data": b"#!/bin/sh\n", "mode": 0o755},
        "empty": b"",
    }
    result = client.run(argv=["find", ".", "-type", "f", "-printf", "%P %m %s %U\\n"], files=files)
    assert sorted(result.stdout.decode().splitlines()) == [
        "deep/er/file 644 1 1000",
        "empty 644 0 1000",
        "plain 644 5 1000",
        "program 755 10 1000",
        "secret 400 1 1000",
        "text 644 7 1000",
    ]
    for name, content in (("plain", b"bytes"), ("text", "grüße".encode()), ("secret", b"y")):
        assert client.run(argv=["cat", name], files=files).stdout == content


@pytest.mark.parametrize("size", [65_000, 70_000, 5 * MIB, 40 * MIB])
def test_large_input_file(client: Client, size: int) -> None:
    data = b"0123456789abcdef" * (size // 16)
    limits = {"disk_bytes": 64 * MIB, "file_size_bytes": 64 * MIB}
    result = client.run(argv=["sha256sum", "big"], files={"big": data}, limits=limits)
    assert result.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_input_files_larger_than_the_disk(client: Client) -> None:
    """Not the daemon's failure: the answer says which limit was too small for what was sent."""
    request = {"files": {"big": bytes(MIB)}, "limits": {"disk_bytes": 65536}}
    outcome = run_or_refusal(client, argv=["true"], **request)
    assert isinstance(outcome, RequestError) or outcome.status != "ok"
    assert "file" in outcome.message or "disk" in outcome.message


def test_every_limit_reaches_the_job(client: Client) -> None:
    limits = {"file_size_bytes": 3 * MIB, "open_files": 33, "stack_bytes": 5 * MIB}
    found = report(run(client, "show_job", limits=limits).stdout)
    assert found["fsize"] == str(3 * MIB)
    assert found["nofile"] == "33"
    assert found["stack"] == str(5 * MIB)
    assert (found["core"], found["as"]) == ("1", "-1")


def test_limits_at_the_maximum(client: Client) -> None:
    limits = dict(client.info()["max_limits"])
    assert limits["memory_bytes"] >= GIB
    assert client.run(argv=["true"], limits=limits).status == "ok"


def test_temporary_directories_can_be_written(client: Client) -> None:
    script = "for d in /work /tmp /dev/shm; do echo x > $d/f && cat $d/f; done"
    assert client.run(argv=["sh", "-c", script]).stdout == b"x\nx\nx\n"


def test_extra_directory(client: Client) -> None:
    result = client.run(argv=["cat", "/data/readable"], mounts=["data"])
    assert result.stdout == b"of the administrator"
    result = client.run(argv=["touch", "/data/planted"], mounts=["data"])
    assert b"Read-only" in result.stderr


def test_extra_directory_only_when_asked_for(client: Client) -> None:
    assert client.run(argv=["cat", "/data/readable"], mounts=["data"]).status == "ok"
    for _ in range(4):
        assert client.run(argv=["ls", "/data"]).status == "nonzero_exit"


@pytest.mark.parametrize("mode", ["recycled", "fresh"])
def test_modes(client: Client, mode: str) -> None:
    for _ in range(5):
        result = client.run(argv=["cat"], stdin=b"x", mode=mode)
        assert (result.status, result.stdout) == ("ok", b"x")


def test_network_modes(client: Client) -> None:
    argv = ["cat", "/proc/net/dev"]
    script = "import socket; s=socket.create_server(('127.0.0.1', 0)); " \
             "socket.create_connection(s.getsockname()); print('met')"  # fmt: skip
    python = ["/usr/bin/python3", "-c", script]
    assert client.run(argv=python, network="loopback").stdout == b"met\n"
    assert client.run(argv=python, network="none").status == "nonzero_exit"
    assert client.run(argv=argv).stdout.count(b":") <= 1


def test_result_of_an_ordinary_job(client: Client) -> None:
    result = client.run(argv=["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.status, result.exit_code, result.signal) == ("nonzero_exit", 3, None)
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert not result.stdout_truncated
    assert not result.stderr_truncated
    assert result.message
    assert "output" not in result.raw
    assert "files" not in result.raw
    assert result.cpu_time_ns > 0
    assert result.wall_time_ns > 0
    # Counters move in batches of 64 pages for each processor: a small program may not move them.
    assert 0 <= result.memory_bytes <= result.memory_peak_bytes < 8 * MIB
    assert result.memory_source in {"cgroup.peak", "memory.peak", "memory.max_usage_in_bytes"}


def test_message_is_empty_only_when_ok(client: Client) -> None:
    assert client.run(argv=["true"]).message == ""
    assert client.run(argv=["sh", "-c", "kill -SEGV $$"]).message
