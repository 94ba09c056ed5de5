"""A place to unpack to, and the proof that nothing else was touched."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from unpack_place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Fails when anything outside of the root was touched."""
    place = Place(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    yield place
    assert place.outside.read_text() == "untouched"
    assert place.outside.stat().st_nlink == 1
    names = {path.name for path in tmp_path.iterdir()} | {
        p.name for p in (tmp_path / "deep").iterdir()
    }
    assert names <= {"deep", "root", "precious", "archive", "spool"}
    assert set(os.listdir("/proc/self/fd")) <= before, "a descriptor was left open"
