"""Starting a private daemon when it does not go well. That it works is in tests/integration."""

import os
import sys
from pathlib import Path

import pytest

from sandboxd_client import private
from sandboxd_client.private import Daemon, DaemonNotStarted

PROGRAMS = {
    "its own reason": ("echo 'no cgroup is writable; see the manual' >&$SANDBOXD_READY_FD",
                       r"^no cgroup is writable; see the manual$"),
    "dies without a word": ("exit 1", r"^sandboxd ended before it was ready$"),
    "dies with a word": ("echo 'ModuleNotFoundError: no trio' >&2; exit 1",
                         r"^sandboxd ended before it was ready: ModuleNotFoundError: no trio$"),
    "is killed": ("kill -9 $$", r"^sandboxd ended before it was ready$"),
    "says it in pieces": ("printf 'not ' >&$SANDBOXD_READY_FD; echo so >&$SANDBOXD_READY_FD",
                          r"^not so$"),
}  # fmt: skip


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands where the interpreter would be. Its first argument is -P."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = tmp_path / "python"
    path.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def leftovers(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.iterdir() if path.name.startswith("sandboxd-")]


@pytest.mark.parametrize(("script", "why"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_why_it_did_not_start(program: Path, tmp_path: Path, script: str, why: str) -> None:
    program.write_text(f"#!/bin/bash\n{script}\n")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(DaemonNotStarted, match=why):
        Daemon()
    assert leftovers(tmp_path) == []
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_no_interpreter(program: Path, tmp_path: Path) -> None:
    program.unlink()
    with pytest.raises(DaemonNotStarted, match="No such file or directory"):
        Daemon()
    assert leftovers(tmp_path) == []


def test_no_place_for_its_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with pytest.raises(DaemonNotStarted, match=r"^cannot make a directory in /nowhere: No such"):
        Daemon()


def test_it_is_told_by_its_lifeline_and_waited_for(program: Path, tmp_path: Path) -> None:
    script = (
        f"echo READY >&$SANDBOXD_READY_FD; read line <&$SANDBOXD_LIFELINE; touch {tmp_path}/end"
    )
    program.write_text(f'#!/bin/bash\nwhile [ "$1" != --socket ]; do shift; done\n{script}\n')
    with Daemon() as daemon:
        assert os.path.dirname(daemon.socket).startswith(str(tmp_path))
        assert os.stat(os.path.dirname(daemon.socket)).st_mode & 0o777 == 0o700
        assert os.getsid(daemon.pid) == daemon.pid, "the terminal's Ctrl-C is not for it"
        assert not (tmp_path / "end").exists()
    assert (tmp_path / "end").exists()
    assert leftovers(tmp_path) == []
    daemon.close()  # Once more does nothing.


def test_one_that_does_not_end_is_killed(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "STOP_TIMEOUT_MS", 50)
    program.write_text("#!/bin/bash\necho READY >&$SANDBOXD_READY_FD\nexec sleep 60\n")
    daemon = Daemon()
    pid = daemon.pid
    daemon.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_never_says_ready_is_given_up(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "START_TIMEOUT_MS", 50)
    program.write_text("#!/bin/bash\nread line <&$SANDBOXD_LIFELINE\n")
    with pytest.raises(DaemonNotStarted, match="did not start within"):
        Daemon()


def test_modules_in_the_current_directory_are_not_taken_for_ours(
    program: Path, tmp_path: Path
) -> None:
    program.write_text('#!/bin/bash\necho "$1 $2 $3 $4" >&$SANDBOXD_READY_FD\n')
    with pytest.raises(DaemonNotStarted, match=r"^-P -m sandboxd --private$"):
        Daemon()
