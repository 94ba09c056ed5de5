"""A file system of a process that stops answering when a file has been opened, and a client that
passes descriptors of that file.

`python stuck_files.py SOCKET OPTIONS` mounts one where nobody else sees it. Each line of stdin is a
JSON list: the method, its params and how many descriptors go along; each line of stdout the answer.
Killed, it leaves nothing: with the server's end of /dev/fuse, the kernel ends every wait.
"""

import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CLONE_NEWNS = 0x00020000
_MS_PRIVATE = (1 << 18) | (1 << 14)
_LOOKUP, _GETATTR, _OPEN, _INIT = 1, 3, 14, 26
_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_ENOSYS = 38
_DIRECTORY, _FILE = 0o40755, 0o100666


class StuckFiles:
    """The process that does both; see above."""

    def __init__(self, socket: str, options: str) -> None:
        from support.requirements import CLEAN_ENVIRONMENT, REPOSITORY

        paths = f"{REPOSITORY / 'tests'}:{REPOSITORY / 'clients'}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, socket, options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=CLEAN_ENVIRONMENT | {"PYTHONPATH": paths},
        )

    def request(self, method: str, params: Any, descriptors: int) -> Any:
        """The answer's error and result; None when the connection was closed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([method, params, descriptors]).encode() + b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        while self._process.stdout.read():  # The end: its child is gone, too.
            pass
        self._process.stdout.close()


@contextmanager
def stuck_files(socket: str, options: str) -> Iterator[StuckFiles]:
    files = StuckFiles(socket, options)
    try:
        yield files
    finally:
        files.close()


def _main(socket: str, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def checked(result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    checked(libc.unshare(_CLONE_NEWNS))
    checked(libc.mount(None, b"/", None, ctypes.c_ulong(_MS_PRIVATE), None))
    fuse = os.open("/dev/fuse", os.O_RDWR)
    with tempfile.TemporaryDirectory() as directory:
        data = f"fd={fuse},rootmode=40000,user_id=0,group_id=0{options}".encode()
        checked(libc.mount(b"stuck", directory.encode(), b"fuse", ctypes.c_ulong(0), data))
        # The mount point is removed for everybody else; here the mount keeps it.
        if os.fork() == 0:
            os.close(fuse)
            _pass_files(socket, Path(directory) / "file")
            os._exit(0)
        os.close(0)
        os.close(1)
        _serve(fuse)


def _serve(fuse: int) -> None:
    answers = True
    while True:
        request = os.read(fuse, 1 << 20)
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        body: bytes | None = None
        if opcode == _INIT:
            body = struct.pack("=IIIIHHIIHHI28x", 7, 31, 4096, 0, 1, 1, 4096, 1, 1, 0, 0)
        elif not answers:
            continue
        elif opcode == _LOOKUP:
            body = struct.pack("=QQQQII", 2, 0, 0, 0, 0, 0) + _attributes(2)
        elif opcode == _GETATTR:
            body = struct.pack("=QII", 0, 0, 0) + _attributes(node)
        elif opcode == _OPEN:
            body = struct.pack("=QII", 1, 0, 0)
            answers = False
        if body is None:
            os.write(fuse, _OUT.pack(_OUT.size, -_ENOSYS, unique))
        else:
            os.write(fuse, _OUT.pack(_OUT.size + len(body), 0, unique) + body)


def _attributes(node: int) -> bytes:
    mode = _DIRECTORY if node == 1 else _FILE
    return struct.pack("=6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def _pass_files(path: str, file: Path) -> None:
    import array
    import socket

    import msgpack  # type: ignore[import-untyped]

    from support.raw import RawConnection

    opened = os.open(file, os.O_WRONLY)
    with RawConnection(path, timeout_s=30) as connection:
        for number, line in enumerate(sys.stdin):
            method, params, count = json.loads(line)
            fds = array.array("i", [opened] * count)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if count else []
            try:
                connection.sock.sendmsg([msgpack.packb([0, number, method, [params]])], rights)
                answer = connection.message()
            except (BrokenPipeError, ConnectionResetError):
                answer = None
            text = json.dumps(answer and answer[2:], default=lambda data: data.decode())
            print(text, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
