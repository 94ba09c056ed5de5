"""Jobs that are started, watched, fed, signalled and cancelled."""

import contextlib
import os
import signal
import time

import pytest

from sandboxd_client import Client, JobHandle, RequestError, Result
from support.daemon import Daemon, running
from support.jobs import ANSWER_S, KIB, MIB, MS, SECOND, Stopwatch, job
from support.programs import report

LONG = {"wall_time_ns": 60 * SECOND}


def output_until(started: JobHandle, text: bytes) -> bytes:
    """Read a streaming job's output until it contains ``text``."""
    seen = b""
    for _, data in started:
        seen += data
        if text in seen:
            return seen
    raise AssertionError(f"the job ended with {seen!r} and without {text!r}")


def rest(started: JobHandle) -> tuple[bytes, Result]:
    data = b"".join(data for _, data in started)
    result = started.wait()
    assert isinstance(result, Result)
    return data, result


def test_wait(client: Client) -> None:
    started = client.start(argv=["sh", "-c", "echo x; exit 4"])
    result = started.wait()
    assert isinstance(result, Result)
    assert (result.status, result.exit_code, result.stdout) == ("nonzero_exit", 4, b"x\n")


def test_streamed_stdin(client: Client) -> None:
    started = client.start(argv=["cat"], stdin_stream=True)
    for part in (b"one ", b"", b"two ", b"x" * 300_000):
        started.write(part)
    started.close_stdin()
    result = started.wait()
    assert isinstance(result, Result)
    assert result.stdout == b"one two " + b"x" * 300_000


def test_stdin_of_a_job_that_has_ended(client: Client) -> None:
    """Late bytes are an error of the call or of nobody, never of the job."""
    started = client.start(argv=["true"], stdin_stream=True)
    time.sleep(0.1)
    for _ in range(3):
        with contextlib.suppress(RequestError):
            started.write(b"x" * 100_000)
    result = started.wait()
    assert isinstance(result, Result)
    assert result.status == "ok"


def test_stdin_back_pressure(client: Client, daemon: Daemon) -> None:
    """A write is answered when the bytes are taken: a job that does not read holds it up."""
    started = client.start(argv=["sh", "-c", "sleep 0.4; wc -c"], stdin_stream=True)
    watch = Stopwatch()
    for _ in range(16):
        started.write(bytes(64 * KIB))
    assert watch.seconds > 0.2
    started.close_stdin()
    result = started.wait()
    assert isinstance(result, Result)
    assert result.stdout.strip() == str(MIB).encode()


def test_conversation(client: Client) -> None:
    script = 'while read line; do echo "got $line"; done; echo end'
    started = client.start(argv=["sh", "-c", script], stdin_stream=True, stream=True)
    for word in ("one", "two", "three"):
        started.write(word.encode() + b"\n")
        assert output_until(started, b"\n") == f"got {word}\n".encode()
    started.close_stdin()
    data, result = rest(started)
    assert (data, result.status, result.stdout) == (b"end\n", "ok", b"")


def test_streamed_output_names_its_stream(client: Client) -> None:
    started = client.start(**job("interleave", "3", stream=True))
    seen: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for stream, data in started:
        seen[stream] += data
    assert seen == {"stdout": b"o0;o1;o2;", "stderr": b"e0;e1;e2;"}


def test_streamed_output_comes_while_the_job_runs(client: Client) -> None:
    started = client.start(**job("print_slowly", stream=True, limits=LONG))
    watch = Stopwatch()
    assert output_until(started, b"...").startswith(b".")
    assert watch.seconds < ANSWER_S
    started.cancel()
    _, result = rest(started)
    assert result.status == "cancelled"


@pytest.mark.parametrize("size", [0, 1, 100_000, 20 * MIB])
def test_streamed_output_is_whole(client: Client, size: int) -> None:
    argv = ["head", "-c", str(size), "/dev/zero"]
    started = client.start(argv=argv, stream=True, limits={"output_bytes": 32 * MIB})
    data, result = rest(started)
    assert (len(data), result.status) == (size, "ok")
    assert not result.stdout_truncated


def test_streamed_output_is_cut_exactly(client: Client) -> None:
    limits = {"output_bytes": 100_001}
    started = client.start(argv=["yes"], stream=True, limits=limits)
    data, result = rest(started)
    assert (result.status, result.stdout_truncated) == ("output_limit", True)
    assert data == (b"y\n" * 60_000)[:100_001]


@pytest.mark.parametrize("number", [signal.SIGINT, "SIGINT", "SIGTERM", signal.SIGHUP])
def test_signal(client: Client, number: signal.Signals | str) -> None:
    started = client.start(argv=["sleep", "60"], limits=LONG)
    _await_exec(started)
    started.signal(int(number) if isinstance(number, signal.Signals) else number)
    result = started.wait()
    assert isinstance(result, Result)
    assert result.status == "signaled"
    assert result.signal == (signal.Signals[number] if isinstance(number, str) else number)


def _await_exec(started: JobHandle) -> None:
    # `sleep` has no way to say that it runs.
    time.sleep(0.1)


def test_signal_to_a_job_that_waits_in_the_queue(require_sandbox: None) -> None:
    """Ctrl-C of somebody who does not want to wait any more; a window that changes its size is not
    that."""
    with running(jobs=1, spare_slots=1) as busy, Client(busy.socket) as waiting:
        before = [waiting.start(["sleep", "9"]) for _ in range(3)]
        started = waiting.start(["true"], stream=True)
        with pytest.raises(RequestError, match="no program of it runs"):
            started.signal("SIGWINCH")
        started.signal("SIGINT")
        assert started.wait().status == "cancelled"
        for other in before:
            other.cancel()
            assert other.wait().status == "cancelled"


def test_signals_the_program_handles(client: Client) -> None:
    started = client.start(**job("echo_signals", stream=True, limits=LONG))
    output_until(started, b"ready=ok\n")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        started.signal(int(number))
        assert output_until(started, b"\n") == f"signal={number.value}\n".encode()
    started.signal("SIGUSR2")
    data, result = rest(started)
    assert (data, result.status) == (f"signal={signal.SIGUSR2.value}\n".encode(), "ok")


@pytest.mark.parametrize("wrong", [0, -1, 65, 1 << 31, "SIGNOTHING", "", "9"])
def test_signals_that_are_none(client: Client, wrong: int | str) -> None:
    started = client.start(argv=["sleep", "60"], limits=LONG)
    with pytest.raises(RequestError) as caught:
        started.signal(wrong)
    assert caught.value.code == "invalid_argument"
    started.cancel()
    assert started.wait().status == "cancelled"


def test_cancel(client: Client) -> None:
    started = client.start(argv=["sh", "-c", "echo before; sleep 60"], limits=LONG)
    time.sleep(0.1)
    watch = Stopwatch()
    started.cancel()
    result = started.wait()
    assert isinstance(result, Result)
    assert watch.seconds < ANSWER_S
    assert (result.status, result.stdout) == ("cancelled", b"before\n")
    assert (result.exit_code, result.signal) in {(None, None), (None, 9)}


def test_waiting_twice(client: Client) -> None:
    started = client.start(argv=["true"])
    assert started.wait().status == "ok"
    with pytest.raises(RequestError) as caught:
        client.call("job.wait", {"job": started.token})
    assert caught.value.code == "not_found"


def test_many_jobs_on_one_connection(client: Client) -> None:
    started = [client.start(argv=["sh", "-c", f"echo {n}"]) for n in range(20)]
    results = [handle.wait() for handle in reversed(started)]
    assert [result.raw["stdout"] for result in reversed(results)] == [
        b"%d\n" % n for n in range(20)
    ]


@pytest.fixture
def terminal(client: Client) -> JobHandle:
    size = {"rows": 33, "columns": 111}
    return client.start(**job("terminal", tty=size, stream=True, stdin_stream=True, limits=LONG))


def test_terminal(terminal: JobHandle) -> None:
    seen = output_until(terminal, b"size=33x111")
    assert b"ttys=111" in seen
    assert b"foreground=1" in seen
    terminal.write(b"hello\n")
    assert b"line=hello" in output_until(terminal, b"line=hello")
    terminal.resize(10, 20)
    assert b"resized=10x20" in output_until(terminal, b"resized=10x20")
    terminal.close_stdin()
    data, result = rest(terminal)
    assert b"end=ok" in data
    assert result.status == "ok"


def test_terminal_interrupt(terminal: JobHandle) -> None:
    output_until(terminal, b"size=33x111")
    terminal.write(b"\x03")
    _, result = rest(terminal)
    assert (result.status, result.signal) == ("signaled", signal.SIGINT)


def test_default_terminal(client: Client) -> None:
    started = client.start(argv=["stty", "size"], tty=True, stream=True)
    data, result = rest(started)
    assert (data, result.status) == (b"24 80\r\n", "ok")


def test_passed_descriptors(client: Client) -> None:
    """The job reads and writes the client's own descriptors; the daemon keeps none."""
    source, sink, errors = os.pipe(), os.pipe(), os.pipe()
    os.write(source[1], b"from the client")
    os.close(source[1])
    script = "cat; echo problem >&2"
    fds = {"stdin": source[0], "stdout": sink[1], "stderr": errors[1]}
    result = client.run(argv=["sh", "-c", script], fds=fds)
    for fd in (source[0], sink[1], errors[1]):
        os.close(fd)
    assert (result.status, result.stdout, result.stderr) == ("ok", b"", b"")
    # Reading to the end proves that nobody else holds the writing ends.
    for fd, expected in ((sink[0], b"from the client"), (errors[0], b"problem\n")):
        with open(fd, "rb") as file:
            assert file.read() == expected


def test_one_passed_descriptor(client: Client) -> None:
    reader, writer = os.pipe()
    result = client.run(argv=["sh", "-c", "echo out; echo err >&2"], fds={"stderr": writer})
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"err\n"
    assert result.stdout == b"out\n"


def test_passed_file(client: Client, tmp_path: os.PathLike[str]) -> None:
    """A file the job could not open by itself, read-only as the client opened it."""
    path = os.path.join(tmp_path, "secret")
    with open(path, "wb") as file:
        file.write(b"input data")
    with open(path, "rb") as file:
        result = client.run(argv=["sh", "-c", "cat; echo x >&0"], fds={"stdin": file.fileno()})
    assert result.stdout == b"input data"
    assert result.status == "nonzero_exit"


def test_output_limit_does_not_hold_for_passed_descriptors(client: Client) -> None:
    with open(os.devnull, "wb") as sink:
        result = client.run(argv=["head", "-c", "100000", "/dev/zero"],
                            fds={"stdout": sink.fileno()}, limits={"output_bytes": 10})  # fmt: skip
    assert result.status == "ok"


def test_limits_hold_for_started_jobs(client: Client) -> None:
    started = client.start(argv=["sleep", "60"], stream=True, limits={"wall_time_ns": 100 * MS})
    _, result = rest(started)
    assert result.status == "wall_time_limit"


def test_start_report(client: Client) -> None:
    started = client.start(**job("show_job", stdin=b"12345"))
    result = started.wait()
    assert isinstance(result, Result)
    assert report(result.stdout)["stdin"] == "5"
