"""Attacks on the file system through input files and collected outputs."""

import os
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import Client, RequestError
from support.jobs import ANSWER_S, KIB, MIB, Stopwatch, job, run, run_ok, run_or_refusal
from support.programs import report


def test_only_regular_files_are_collected(client: Client) -> None:
    """F1, F2, F3, F4: links, pipes, sockets and devices are left out without a hang; a hard link
    is its content; nothing of the host is in the result."""
    watch = Stopwatch()
    result = run(client, "link_outputs", collect=["**"])
    assert watch.seconds < ANSWER_S
    assert result.status == "ok"
    found = report(result.stdout)
    assert found["device"] == "EPERM"
    assert {found["hardlink_usr"], found["hardlink_passwd"]} <= {"EXDEV", "EPERM", "EROFS"}
    assert {found[name] for name in ("passwd", "zero", "fifo", "socket")} == {"ok"}
    files = dict(result.files)
    del files["link_outputs"]
    files.pop("closed", None)
    assert files == {"honest": b"honest", "linked": b"honest"}


@pytest.mark.parametrize("name", ["passwd", "zero", "up/passwd", "fifo", "directory", "environ"])
def test_hostile_name_asked_for_by_name(client: Client, name: str) -> None:
    """F1, F2, F3: asking for exactly that name gives nothing either."""
    watch = Stopwatch()
    result = run(client, "link_outputs", collect=[name])
    assert (result.status, result.files) == ("ok", {})
    assert watch.seconds < ANSWER_S


@pytest.mark.parametrize("attempt", range(5))
def test_swapped_directory(client: Client, attempt: int) -> None:
    """F5, F13: while the job exchanged out/ with a link to /etc for ever, what is collected is the
    job's own or nothing, because its processes are dead before."""
    result = run(client, "symlink_swap", collect=["**"], limits={"file_size_bytes": 2 * MIB})
    assert result.status == "ok"
    files = dict(result.files)
    del files["symlink_swap"]
    # The exchange may have ended either way round.
    assert files.keys() <= {"out/passwd", "bait/passwd"}
    for content in files.values():
        assert content.startswith(b"mine")
        assert content.rstrip(b"\0") == b"mine"


def test_planted_names_are_never_followed(client: Client, tmp_path: Path) -> None:
    """F6, F7, C-7: with every likely name planted as a link, nothing on the host changes and the
    second stage works as ever."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    # Reachable for anybody: only the sandbox protects it.
    for directory in (tmp_path, *tmp_path.parents[:-1]):
        if directory.is_relative_to("/tmp") and directory != Path("/tmp"):
            directory.chmod(0o755)
    victim.chmod(0o666)
    before = victim.stat()
    request = job("exit_code", "0", collect=["stdout*", "result", "a.out"])
    request["compile"] = {"argv": ["./plant_names", str(victim)]}
    request["files"] |= job("plant_names")["files"]
    for _ in range(3):
        result = client.run(**request)
        assert report(result.compile.stdout) == {"planted": "48"}
        assert (result.run.status, result.run.files) == ("ok", {})
    after = victim.stat()
    assert victim.read_text() == "untouched"
    for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns", "st_nlink"):
        assert getattr(before, field) == getattr(after, field), field


REFUSED = {
    "parent": "../x",
    "absolute": "/etc/x",
    "inner_parent": "a/../../x",
    "dot": ".",
    "dot_inside": "a/./b",
    "empty": "",
    "only_slash": "/",
    "trailing": "a/",
    "nul": "a\0b",
    "newline": "a\nb",
    "long_name": "n" * 300,
    "long": "/".join(["abcdefghi"] * 500),
    "deep": "d/" * 300 + "x",
}


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED.keys())
def test_refused_file_name(client: Client, name: str) -> None:
    """F8: invalid_argument that names the field; no job runs."""
    with pytest.raises(RequestError) as caught:
        client.run(argv=["true"], files={name: b"x"})
    assert caught.value.code == "invalid_argument"
    assert "files" in str(caught.value.data["field"])


@pytest.mark.parametrize(
    "name", ["con", "\\", "a\\..\\b", "-rf", " ", "ü", "a b", "$(reboot)", "~"]
)
def test_odd_file_name_is_just_a_name(client: Client, name: str) -> None:
    """F8: confined: the file has exactly this name in the work directory."""
    result = client.run(argv=["cat", f"./{name}"], files={name: b"content"}, collect=["*"])
    assert (result.status, result.stdout) == ("ok", b"content")
    assert result.files == {name: b"content"}


CONFLICTS: dict[str, dict[str, Any]] = {
    "file_and_directory": {"d": b"x", "d/x": b"y"},
    "directory_and_file": {"d/x": b"y", "d": b"x"},
}


@pytest.mark.parametrize("files", CONFLICTS.values(), ids=CONFLICTS.keys())
def test_conflicting_names(client: Client, files: dict[str, Any]) -> None:
    """F9: invalid_argument where a name is a file and a directory at once."""
    with pytest.raises(RequestError) as caught:
        client.run(argv=["true"], files=files)
    assert caught.value.code == "invalid_argument"


def test_input_file_mode_cannot_gain_anything(client: Client) -> None:
    """F8: set-user-id bits in a mode are refused or have no effect."""
    files = {"f": {"data": b"x", "mode": 0o6755}}
    outcome = run_or_refusal(client, argv=["stat", "-c", "%a", "f"], files=files)
    if isinstance(outcome, RequestError):
        assert outcome.code == "invalid_argument"
    else:
        assert outcome.stdout in {b"755\n", b"6755\n"}


@pytest.mark.parametrize("member", ["../escape", "/tmp/absolute", "link/through"])
def test_archive_is_unpacked_inside_only(client: Client, member: str, tmp_path: Path) -> None:
    """F10: archives are unpacked by programs in the sandbox, never by the daemon: a member's name
    reaches no further than any other path of the job."""
    archive = _archive(member)
    argv = ["tar", "-x", "-P", "-f", "a.tar"]
    client.run(argv=argv, files={"a.tar": archive})
    outside = [Path("/tmp/absolute"), Path("/escape"), Path("/tmp/through"), Path("/etc/through")]
    assert not any(path.exists() for path in outside)


def _archive(member: str) -> bytes:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
        entry = tarfile.TarInfo(member)
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"slip"))
    return buffer.getvalue()


def test_sparse_output_is_capped(client: Client) -> None:
    """F14: a file of 512 MiB without blocks is cut off at collect_bytes; nothing of its size is
    allocated, neither in the job nor in the daemon."""
    limits = {"file_size_bytes": 1024 * MIB, "memory_bytes": 64 * MIB}
    request = job("sparse_file", str(512 * MIB), collect=["sparse"], collect_bytes=64 * KIB)
    watch = Stopwatch()
    result = client.run(**request, limits=limits)
    assert result.status == "ok"
    assert result.files_truncated
    assert sum(map(len, result.files.values())) <= 64 * KIB
    assert watch.seconds < 2


def test_program_is_never_busy(client: Client) -> None:
    """F15: an executable sent with the request can always be executed: no ETXTBSY."""
    for _ in range(50):
        assert run(client, "exit_code", "0").status == "ok"


def test_nothing_is_written_by_path_outside(client: Client) -> None:
    """F6: the daemon's and the helper's directories on the host are as before."""
    before = sorted(os.listdir("/tmp"))
    run_ok(client, "plant_names", "/tmp/sandboxd-planted", files={"stdout/x/y": b""})
    assert "sandboxd-planted" not in set(os.listdir("/tmp")) - set(before)
