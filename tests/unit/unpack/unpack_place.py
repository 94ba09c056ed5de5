"""Unpacks real archives with the real child, into a directory beside something precious."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from sandboxd.protocol.errors import RequestError
from sandboxd.unpack.bounds import Bounds, Options
from sandboxd.unpack.process import Unpacked, unpack

MIB = 1024 * 1024
SMALL = Bounds(
    archive_bytes=16 * MIB,
    total_bytes=128 * MIB,
    file_bytes=100 * MIB,
    members=1000,
    depth=32,
    cpu_s=20,
    idle_s=1,
)


class Place:
    """A root to unpack into, and what lies outside of it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "deep" / "root"
        self.root.mkdir(parents=True)
        self.outside = base / "precious"
        self.outside.write_text("untouched")
        self.progress: list[tuple[str, int, int | None]] = []

    async def unpack(self, data: bytes, **kwargs: Any) -> Unpacked:
        """`unpack` with `Bounds` and `Options` by name."""
        names = {field.name for field in dataclasses.fields(Bounds)}
        bounds = dataclasses.replace(SMALL, **{k: v for k, v in kwargs.items() if k in names})
        options = Options(**{k: v for k, v in kwargs.items() if k not in names})
        archive, spool = self.base / "archive", self.base / "spool"
        archive.write_bytes(data)
        fds = [
            os.open(archive, os.O_RDONLY),
            os.open(self.root, os.O_RDONLY | os.O_DIRECTORY),
            os.open(spool, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        try:
            return await unpack(
                fds[0],
                fds[1],
                spool=fds[2],
                bounds=bounds,
                options=options,
                progress=lambda *what: self.progress.append(what),
            )
        finally:
            for fd in fds:
                os.close(fd)

    async def refusal(self, data: bytes, **kwargs: Any) -> str:
        """The words with which it is refused."""
        with pytest.raises(RequestError) as error:
            await self.unpack(data, **kwargs)
        assert error.value.code == "invalid_argument", error.value
        return error.value.message

    def tree(self) -> dict[str, str]:
        """What is there: files with their text, links with ->target, directories with /."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"->{os.readlink(path)}"
            else:
                found[name] = "/" if path.is_dir() else path.read_text()
        return found
