"""What the child may say when an archive has taken it over: the daemon's side believes no line."""

import subprocess
import sys
from typing import Any

import pytest
from unpack_place import Place

from sandboxd.protocol.errors import RequestError
from sandboxd.unpack import process


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"1\n",
        b"null\n",
        b'"phase"\n',
        b"\xff\n",
        b"[" * 60_000 + b"\n",
        b'{"done"' * 20_000,
        b'{"phase": "x", "bytes": 1}\n',
        b'{"phase": "unpack", "bytes": "x"}\n',
        b'{"done": 1}\n',
        b'{"done": {"files": 1}}\n',
        b'{"refused": 1}\n',
        b'{"done": {"files": "x", "entries": 1, "bytes": 1, "sha256": "", "archive_bytes": 1}}\n',
    ],
)
async def test_garbage(place: Place, monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    def start(archive: int, into: int, spool: int, report: int, *_: Any) -> subprocess.Popen[bytes]:
        code = f"import os, sys\nos.write({report}, sys.stdin.buffer.read())"
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[report]
        )
        assert child.stdin is not None
        with child.stdin as pipe:
            pipe.write(says)
        return child

    monkeypatch.setattr(process, "_start", start)
    with pytest.raises(RequestError, match="the program that unpacks archives died") as caught:
        await place.unpack(b"")
    assert caught.value.code == "internal"
