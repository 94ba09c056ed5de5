"""Files that come back."""

import pytest

from sandboxd_client import Client, RequestError
from support.jobs import ANSWER_S, KIB, MIB, MS, SECOND, Stopwatch

MAKE = """
mkdir -p out/deep .hidden
printf one > one.txt; printf two > two.txt; printf three > out/three.txt
printf four > out/deep/four.txt; printf five > .hidden/five.txt; printf six > out/six.log
: > empty; ln -s one.txt link.txt; mkfifo fifo.txt
"""
ALL = {
    "one.txt": b"one", "two.txt": b"two", "out/three.txt": b"three", "out/deep/four.txt": b"four",
    "out/six.log": b"six", "empty": b"", ".hidden/five.txt": b"five",
}  # fmt: skip


def files(client: Client, *patterns: str) -> dict[str | bytes, bytes]:
    result = client.run(argv=["sh", "-c", MAKE], collect=list(patterns))
    assert (result.status, result.files_truncated) == ("ok", False), result
    return dict(result.files)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["one.txt"], {"one.txt"}),
        (["*.txt"], {"one.txt", "two.txt"}),
        (["o*.txt", "t?o.txt"], {"one.txt", "two.txt"}),
        (["out/*"], {"out/three.txt", "out/six.log"}),
        (["out/**"], {"out/three.txt", "out/six.log", "out/deep/four.txt"}),
        (["**/*.txt"], {"one.txt", "two.txt", "out/three.txt", "out/deep/four.txt",
                        ".hidden/five.txt"}),
        (["**"], set(ALL)),
        (["[ot]*.txt"], {"one.txt", "two.txt"}),
        (["[!o]*.txt"], {"two.txt"}),
        (["nothing*"], set()),
        (["out"], set()),
        ([], set()),
        (["one.txt", "one.txt", "one.*"], {"one.txt"}),
    ],
)  # fmt: skip
def test_patterns(client: Client, patterns: list[str], names: set[str]) -> None:
    assert files(client, *patterns) == {name: ALL[name] for name in names}


def test_names_that_are_not_utf8(client: Client) -> None:
    result = client.run(argv=["sh", "-c", "printf x > $(printf '\\377')"], collect=["*"])
    assert dict(result.files) == {b"\xff": b"x"}


def test_names_with_every_character(client: Client) -> None:
    script = "printf x > 'a\nb'; printf y > 'ü €'; printf z > '*'"
    result = client.run(argv=["sh", "-c", script], collect=["*"])
    assert dict(result.files) == {"a\nb": b"x", "ü €": b"y", "*": b"z"}


def test_inputs_come_back_too(client: Client) -> None:
    result = client.run(argv=["true"], files={"in": b"x"}, collect=["*"])
    assert dict(result.files) == {"in": b"x"}


@pytest.mark.parametrize("size", [65_536, MIB, 8 * MIB])
def test_large_file(client: Client, size: int) -> None:
    argv = ["sh", "-c", f"head -c {size} /dev/zero > big"]
    result = client.run(argv=argv, collect=["big"], limits={"disk_bytes": 64 * MIB})
    assert (result.status, len(result.files["big"])) == ("ok", size)


def test_cap_of_all_together(client: Client) -> None:
    script = "for i in 1 2 3 4; do head -c 1000 /dev/zero > f$i; done"
    result = client.run(argv=["sh", "-c", script], collect=["*"], collect_bytes=2500)
    assert (result.status, result.files_truncated) == ("ok", True)
    assert sum(map(len, result.files.values())) <= 2500
    result = client.run(argv=["sh", "-c", script], collect=["*"], collect_bytes=4000)
    assert (len(result.files), result.files_truncated) == (4, False)


@pytest.mark.parametrize("argv", [["false"], ["sh", "-c", "printf x > f; kill -KILL $$"]])
def test_collected_whatever_the_end(client: Client, argv: list[str]) -> None:
    result = client.run(argv=argv, files={"in": b"y"}, collect=["*"])
    assert result.status in {"nonzero_exit", "signaled"}
    assert result.files["in"] == b"y"


@pytest.mark.parametrize("status", ["wall_time_limit", "output_limit", "memory_limit"])
def test_what_is_left_to_collect_after_a_limit(client: Client, status: str) -> None:
    """What a job had written when it reached a limit is there; only the memory limit may hit the
    sandbox itself and takes the work directory with it, which the result says."""
    ends = {
        "wall_time_limit": "sleep 9",
        "output_limit": "yes",
        "memory_limit": "head -c 64m /dev/zero | tail",
    }
    wall_time_ns = 400 * MS if status == "wall_time_limit" else 5 * SECOND
    limits = {"wall_time_ns": wall_time_ns, "memory_bytes": 16 * MIB, "output_bytes": 64 * KIB}
    argv = ["sh", "-c", f"printf kept > f; {ends[status]}"]
    result = client.run(argv=argv, collect=["f"], limits=limits)
    left = ({}, True) if status == "memory_limit" else ({"f": b"kept"}, False)
    assert (result.status, (result.raw["files"], result.files_truncated)) == (status, left)


def test_program_that_could_not_start(client: Client) -> None:
    result = client.run(argv=["./missing"], files={"in": b"y"}, collect=["*"])
    assert (result.exit_code, dict(result.files)) == (127, {"in": b"y"})


@pytest.mark.parametrize("pattern", ["", "/etc/passwd", "../*", "a/../b", "a\0b", "x" * 5000])
def test_refused_pattern(client: Client, pattern: str) -> None:
    with pytest.raises(RequestError) as caught:
        client.run(argv=["true"], collect=[pattern])
    assert (caught.value.code, caught.value.data["field"].split("[")[0]) == (
        "invalid_argument", "collect",
    )  # fmt: skip


def test_expensive_pattern(client: Client) -> None:
    """A pattern that backtracks costs the job's slot a moment, not the daemon."""
    name = "a" * 200
    pattern = "*a" * 40 + "b"
    watch = Stopwatch()
    result = client.run(argv=["touch", name], collect=[pattern])
    assert dict(result.files) == {}
    assert watch.seconds < ANSWER_S
