"""Two stages that share a work directory."""

from typing import Any

import pytest

from sandboxd_client import Client, StagesResult
from support.jobs import MIB, MS, SECOND, run
from support.programs import executable, report


def stages(client: Client, compile: dict[str, Any], **job: Any) -> StagesResult:
    result = client.run(**job, compile=compile)
    assert isinstance(result, StagesResult)
    return result


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"argv": ["sh", "-c", script], **fields}


def test_second_stage_sees_what_the_first_made(client: Client) -> None:
    result = stages(client, shell("cat in > made; echo compiled"), **shell("cat made"),
                    files={"in": b"content"})  # fmt: skip
    assert (result.compile.status, result.compile.stdout) == ("ok", b"compiled\n")
    assert result.run is not None
    assert (result.run.status, result.run.stdout) == ("ok", b"content")


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 1", "nonzero_exit"), ("kill -SEGV $$", "signaled"), ("sleep 9", "wall_time_limit"),
     ("while :; do :; done", "cpu_time_limit"), ("yes", "output_limit")],
)  # fmt: skip
def test_no_second_stage_when_the_first_failed(client: Client, script: str, status: str) -> None:
    limits = {"wall_time_ns": 500 * MS, "cpu_time_ns": 100 * MS, "output_bytes": 1000}
    result = stages(client, shell(script, limits=limits), **shell("echo never"), collect=["*"],
                    files={"in": b"x"})  # fmt: skip
    assert (result.compile.status, result.run) == (status, None)
    assert result.raw["run"] is None
    assert dict(result.compile.files) == {"in": b"x"}
    assert result.compile.files_truncated is False


def test_each_stage_has_its_own_settings(client: Client) -> None:
    first = {
        "argv": ["sh", "-c", "echo $A; pwd; cat; ulimit -n"],
        "env": {"A": "1", "PATH": "/bin"},
        "cwd": "/tmp",
        "stdin": b"in1\n",
        "limits": {"open_files": 40},
    }
    second = {**first, "env": {"A": "2", "PATH": "/bin"}, "cwd": "/", "stdin": b"in2\n",
              "limits": {"open_files": 50}}  # fmt: skip
    result = stages(client, first, **second)
    assert result.compile.stdout == b"1\n/tmp\nin1\n40\n"
    assert result.run is not None
    assert result.run.stdout == b"2\n/\nin2\n50\n"


def test_each_stage_is_measured_alone(client: Client) -> None:
    files = executable("burn") | executable("touch_memory")
    first = {"argv": ["./burn", "150"]}
    result = stages(client, first, argv=["./touch_memory", str(8 * MIB)], files=files)
    assert 120 * MS < result.compile.cpu_time_ns < 200 * MS
    assert result.run is not None
    assert result.run.cpu_time_ns < 50 * MS
    alone = run(client, "touch_memory", str(8 * MIB))
    for measured in (result.run, alone):  # Either may be wrong by what the kernel charges ahead.
        assert abs(measured.memory_bytes - 8 * MIB) < MIB


def test_memory_of_the_first_stage_is_not_the_second_s(client: Client) -> None:
    files = executable("touch_memory")
    first = {"argv": ["./touch_memory", str(48 * MIB)]}
    second = {"argv": ["./touch_memory", str(MIB)], "limits": {"memory_bytes": 16 * MIB}}
    result = stages(client, first, **second, files=files)
    assert result.compile.memory_bytes > 48 * MIB
    assert result.run is not None
    assert result.run.status == "ok"
    assert result.run.memory_bytes < 4 * MIB


def test_collected_after_the_second_stage(client: Client) -> None:
    result = stages(client, shell("echo 1 > a"), **shell("echo 2 > b; echo 3 >> a"), collect=["*"])
    assert result.run is not None
    assert dict(result.run.files) == {"a": b"1\n3\n", "b": b"2\n"}
    assert "files" not in result.compile.raw


def test_second_stage_after_a_cancelled_first(client: Client) -> None:
    started = client.start(**shell("echo never"), compile=shell("sleep 60"), stream=True,
                           limits={"wall_time_ns": 60 * SECOND})  # fmt: skip
    while started.stage != "compile":
        client.health()
    started.cancel()
    result = started.wait()
    assert isinstance(result, StagesResult)
    assert (result.compile.status, result.run) == ("cancelled", None)


def test_streamed_stages_are_told(client: Client) -> None:
    started = client.start(**shell("echo two"), compile=shell("echo one"), stream=True)
    seen = []
    for stream, data in started:
        seen.append((started.stage, stream, data))
    assert b"".join(data for _, _, data in seen) == b"one\ntwo\n"
    result = started.wait()
    assert isinstance(result, StagesResult)
    assert result.run is not None
    assert (result.compile.stdout, result.run.stdout) == (b"", b"")


def test_stages_in_a_batch(client: Client) -> None:
    one = {"argv": ["cat", "made"], "compile": shell("echo x > made")}
    results = client.batch([one, {"argv": ["true"]}])
    assert isinstance(results[0], StagesResult)
    assert results[0].run is not None
    assert results[0].run.stdout == b"x\n"


def test_stage_report(client: Client) -> None:
    first = {"argv": ["./show_job", "first"]}
    result = stages(client, first, argv=["./show_job", "second"], files=executable("show_job"))
    assert report(result.compile.stdout)["argv_1"] == "first"
    assert result.run is not None
    assert report(result.run.stdout)["argv_1"] == "second"
