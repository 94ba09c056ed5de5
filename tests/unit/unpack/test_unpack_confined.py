"""What an archive could do that has taken over the child: nothing outside of its directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What the child would do if it were the attacker's, tried after it has confined itself.
_ATTACK = """
import errno, json, os, socket, subprocess, sys
from sandboxd.unpack.confine import confine
into, outside = sys.argv[1:]
directory = os.open(into, os.O_RDONLY | os.O_DIRECTORY)
if not confine(directory):
    sys.exit(77)
def tried(call):
    try:
        call()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "ok"
def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
def connect():
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", 9))
print(json.dumps({
    "passwd": tried(lambda: open("/etc/passwd").close()),
    "list": tried(lambda: os.listdir("/etc")),
    "read": tried(lambda: open(outside + "/secret").close()),
    "change": tried(lambda: write(outside + "/secret")),
    "make": tried(lambda: write(outside + "/new")),
    "remove": tried(lambda: os.unlink(outside + "/secret")),
    "move": tried(lambda: os.rename(outside + "/secret", into + "/taken")),
    "link": tried(lambda: os.link(outside + "/secret", into + "/taken")),
    "device": tried(lambda: os.mkfifo("fifo", dir_fd=directory)),
    "own file": tried(lambda: write(into + "/file")),
    "own directory": tried(lambda: os.mkdir("d", dir_fd=directory)),
    "own link": tried(lambda: os.link(into + "/file", into + "/d/file")),
    "own symlink": tried(lambda: os.symlink("x", "s", dir_fd=directory)),
    "zstd": subprocess.run(["/usr/bin/zstd", "--version"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).returncode,
    "kill": tried(lambda: os.kill(os.getppid(), 0)),
    "connect": tried(connect),
}))
"""


def test_nothing_outside_can_be_reached(tmp_path: Path) -> None:
    into, outside = tmp_path / "into", tmp_path / "outside"
    into.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("of another")
    done = subprocess.run(
        [sys.executable, "-c", _ATTACK, str(into), str(outside)], capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip("this kernel has no Landlock")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    inside = {name: seen.pop(name) for name in list(seen) if name.startswith("own ")}
    assert set(inside.values()) == {"ok"}, inside
    assert seen.pop("zstd") == 0
    # These two since Linux 6.12 and 6.7.
    for name in ("kill", "connect"):
        if _release() >= (6, 12):
            assert seen[name] in ("EPERM", "EACCES"), name
        del seen[name]
    assert set(seen.values()) <= {"EACCES", "EXDEV"}, seen
    assert (outside / "secret").read_text() == "of another"
    assert os.listdir(outside) == ["secret"]


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split(".")[:2])
