"""What system calls are left to an archive that has taken over the child, without Landlock too."""

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from unpack_place import Place

from sandboxd.engine.wire import unpack_filters
from sandboxd.protocol.errors import RequestError
from sandboxd.unpack import process
from sandboxd.unpack.bounds import Bounds, Options
from sandboxd.unpack.seccomp import encode

# What the child would do if it were the attacker's. `stage`: how far the child is.
_ATTACK = """
import ctypes, errno, fcntl, json, os, resource, signal, socket, subprocess, sys, threading
from sandboxd.unpack.seccomp import Filters
base, stage, filters = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
filters = Filters.decode(filters)
inherited = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
parent = os.getpid()
other = os.fork()
if not other:
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    signal.pause()
if stage != "free":
    filters.begin()
    if stage == "decompressor":
        filters.in_decompressor()
    elif stage == "last":
        filters.last()

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result
def call(name, *args):
    return lambda: checked(getattr(libc, name)(*args))
def number(nr, *args):
    return lambda: checked(libc.syscall(nr, *args))
def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
def execute():
    # An execve that is let through fails for want of the file.
    try:
        os.execv(base + "/none", ["none"])
    except FileNotFoundError:
        pass
def thread():
    try:
        started = threading.Thread(target=lambda: None)
        started.start()
    except RuntimeError:
        raise OSError(errno.EPERM, "") from None
    started.join()
mine = os.open(base + "/mine", os.O_RDWR)
def in_place(flags, mode):
    os.close(os.open(base + "/new", flags, mode))
    os.unlink(base + "/new")
word = ctypes.create_string_buffer(8)
class Vector(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t))
vector = Vector(ctypes.addressof(word), 8)

attempts = {
    "chmod": lambda: os.chmod(base + "/mine", 0o600),
    "chmod at": lambda: os.chmod("mine", 0o600, dir_fd=os.open(base, os.O_PATH)),
    "chown": lambda: os.chown(base + "/mine", -1, -1),
    "lchown": lambda: os.lchown(base + "/mine", -1, -1),
    "fchown": lambda: os.fchown(mine, -1, -1),
    "utime": lambda: os.utime(base + "/mine"),
    "setxattr": lambda: os.setxattr(base + "/mine", "user.a", b"1"),
    "fsetxattr": lambda: os.setxattr(mine, "user.a", b"1"),
    "truncate": lambda: os.truncate(base + "/mine", 0),
    "rename": lambda: os.rename(base + "/mine", base + "/mine"),
    "mkfifo": lambda: (os.mkfifo(base + "/fifo"), os.unlink(base + "/fifo")),
    "set-id open": lambda: in_place(os.O_CREAT | os.O_WRONLY, 0o4700),
    "set-id fchmod": lambda: os.fchmod(mine, 0o2700),
    "socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "inet": lambda: socket.socket(socket.AF_INET).close(),
    "socketpair": lambda: socket.socketpair(),
    "connect": lambda: inherited.connect(base + "/socket"),
    "sendto": lambda: inherited.sendto(b"x", base + "/socket"),
    "bind": lambda: (inherited.bind(base + "/bound"), os.unlink(base + "/bound")),
    "kill": lambda: os.kill(other, 0),
    "kill parent": lambda: os.kill(os.getppid(), 0),
    "kill all": lambda: os.kill(-1, 0),
    "pidfd": lambda: os.close(os.pidfd_open(other)),
    "owner": lambda: fcntl.fcntl(mine, fcntl.F_SETOWN, other),
    "signal": lambda: fcntl.fcntl(mine, 10, 9),
    "ptrace": call("ptrace", 0x4206, other, 0, 0),
    "peek": call("process_vm_readv", other, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0),
    "poke": call("process_vm_writev", other, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0),
    "prlimit": lambda: resource.prlimit(other, resource.RLIMIT_CORE, (0, 0)),
    "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, other, 19),
    "affinity": lambda: os.sched_setaffinity(other, os.sched_getaffinity(0)),
    "death": call("prctl", 1, 0, 0, 0, 0),
    "dumpable": call("prctl", 4, 1, 0, 0, 0),
    "fork": fork,
    "spawn": lambda: subprocess.run(["/bin/true"], stdin=mine, stdout=mine, stderr=mine),
    "execve": execute,
    "thread": thread,
}
if os.geteuid() == 0:
    attempts |= {
        "unshare": call("unshare", 0x00020000),
        "setns": lambda: checked(libc.setns(os.open("/proc/self/ns/uts", os.O_RDONLY), 0)),
        "mount": call("mount", b"none", base.encode(), b"tmpfs", 0, None),
        "umount": call("umount2", base.encode(), 0),
        "chroot": lambda: os.chroot("/"),
    }
if stage != "free":
    attempts |= {
        "clone3": number(435, 0, 0),
        "fchmodat2": number(452, 0, 0, 0, 0),
        "io_uring": number(425, 0, 0),
        "pidfd_send_signal": number(424, 0, 0, 0, 0),
        "landlock": number(444, 0, 0, 0),
        "not yet a call": number(999, 0, 0),
    }
def tried(attempt):
    try:
        attempt()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "ok"
print(json.dumps({name: tried(attempt) for name, attempt in attempts.items()}), flush=True)
os._exit(0)
"""
# A C library may ask for these; all else is refused with EPERM.
_DO_NOT_EXIST = {
    *("rename", "set-id open", "set-id fchmod", "owner", "signal", "death", "dumpable"),
    *("clone3", "landlock", "not yet a call"),
}
# Not every file system has attributes.
_MAY_FAIL = {"setxattr", "fsetxattr"}
_BASE, _NO_PROCESS, _NO_PROGRAM = unpack_filters()


def _attempts(base: Path, stage: str) -> dict[str, str]:
    (base / "mine").write_text("of the daemon")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(base / "socket"))
        child = subprocess.run(
            [sys.executable, "-c", _ATTACK, str(base), stage, encode(unpack_filters())],
            capture_output=True,
            text=True,
        )
    assert child.returncode == 0, child.stderr
    seen: dict[str, str] = json.loads(child.stdout)
    return seen


def test_what_is_tried_would_work(tmp_path: Path) -> None:
    seen = _attempts(tmp_path, "free")
    assert {name for name, result in seen.items() if result != "ok"} <= _MAY_FAIL, seen


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("base", {"fork", "spawn", "execve", "thread"}),
        ("decompressor", {"execve", "thread"}),
        ("last", {"thread"}),
    ],
)
def test_nothing_of_the_daemon_can_be_reached(tmp_path: Path, stage: str, left: set[str]) -> None:
    seen = _attempts(tmp_path, stage)
    assert {name for name, result in seen.items() if result == "ok"} == left, seen
    assert {name for name, result in seen.items() if result == "ENOSYS"} == _DO_NOT_EXIST, seen
    assert set(seen.values()) <= {"ok", "EPERM", "ENOSYS"}, seen


def test_the_decompressor_ends_with_its_parent(tmp_path: Path) -> None:
    code = """
import subprocess, sys
from sandboxd.unpack.seccomp import Filters
filters = Filters.decode(sys.argv[1])
filters.begin()
subprocess.Popen(["/bin/sleep", "1000"], preexec_fn=filters.in_decompressor)
filters.last()
"""
    # Returns when nobody holds the pipe any more.
    subprocess.run(
        [sys.executable, "-c", code, encode(unpack_filters())],
        stdout=subprocess.PIPE,
        check=True,
        timeout=20,
    )


async def test_the_child_is_under_the_filters(place: Place) -> None:
    """At its first byte: it waits for a pipe."""
    reader, writer = os.pipe()
    root = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY)
    spool = os.open(place.base / "spool", os.O_RDWR | os.O_CREAT, 0o600)
    started = trio.Event()

    async def run() -> None:
        with pytest.raises(RequestError, match="damaged"):
            await process.unpack(
                reader,
                root,
                spool=spool,
                bounds=Bounds(),
                options=Options(),
                progress=lambda *_: started.set(),
            )

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            with trio.fail_after(20):
                await started.wait()
            assert [_status(pid) for pid in _children()] == [("2", "1")]
            os.write(writer, b"\x1f\x8b" * 100)
            os.close(writer)
    finally:
        for fd in (reader, root, spool):
            os.close(fd)


@pytest.mark.parametrize("which", range(3))
async def test_a_filter_that_is_not_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    filters = list(unpack_filters())
    filters[which] = bytes(8)
    monkeypatch.setattr(process, "_FILTERS", encode(tuple(filters)))
    with pytest.raises(RequestError, match="cannot unpack the archive: seccomp: Invalid") as caught:
        await place.unpack(b"\0" * 10240)
    assert caught.value.code == "internal"
    assert place.tree() == {}


# ---- the filters, interpreted: what a test cannot call ----

_NATIVE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[os.uname().machine]
_FOREIGN = (0x40000003, 0x40000028, 0)  # i386, 32-bit ARM.
_PRCTL = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_GARBAGE = 0xDEADBEEF << 32


def _interpret(program: bytes, nr: int, *args: int, arch: int = _NATIVE) -> int:
    data = struct.pack("<IIQ6Q", nr, arch, 0, *(*args, *[0] * 6)[:6])
    value, at = 0, 0
    while True:
        code, jt, jf, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x06:
            return int(k)
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            value &= k
        elif code == 0x05:
            at += k
        else:
            taken = {0x15: value == k, 0x25: value > k, 0x35: value >= k}[code]
            at += jt if taken else jf


@pytest.mark.parametrize("program", unpack_filters())
def test_other_architectures(program: bytes) -> None:
    for nr in range(1000):
        for arch in _FOREIGN:
            assert _interpret(program, nr, arch=arch) == _EPERM
        if _NATIVE == 0xC000003E:
            assert _interpret(program, nr | 0x40000000) == _EPERM  # x32


def test_the_future() -> None:
    for nr in range(470, 1000):
        assert _interpret(_BASE, nr) == _ENOSYS


def test_garbage_in_the_high_half() -> None:
    """The kernel takes an int."""
    assert _interpret(_BASE, _PRCTL, _GARBAGE | 1, _GARBAGE | signal.SIGKILL) == _ALLOW
    assert _interpret(_BASE, _PRCTL, _GARBAGE | 1, _GARBAGE) == _ENOSYS
    assert _interpret(_BASE, _PRCTL, _GARBAGE | 4, 1) == _ENOSYS


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    programs = [(int(pid), Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in text.split()]
    return [pid for pid, arguments in programs if b"--filters=" in arguments]


def _status(pid: int) -> tuple[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return fields["Seccomp"].strip(), fields["NoNewPrivs"].strip()
