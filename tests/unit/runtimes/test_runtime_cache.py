"""What was found out before, on the disk."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxd.runtimes.cache import Cache

STAMP = ((1, 2, 3, 4), (5, 6, 7, 8))


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), writable=True)
    cache.put("c.toml", "digest", STAMP, "12.2.0")
    assert cache.dirty
    cache.write()
    assert not cache.dirty
    again = Cache(str(tmp_path), writable=True)
    assert again.version("c.toml", "digest", STAMP) == "12.2.0"


@pytest.mark.parametrize(
    ("name", "digest", "stamp"),
    [
        ("d.toml", "digest", STAMP),
        ("c.toml", "another", STAMP),
        ("c.toml", "digest", STAMP[:1]),
        ("c.toml", "digest", ((1, 2, 3, 5), STAMP[1])),
    ],
)
def test_another_file_or_tool_is_not_found(
    tmp_path: Path, name: str, digest: str, stamp: tuple[tuple[int, int, int, int], ...]
) -> None:
    cache = Cache(str(tmp_path), writable=True)
    cache.put("c.toml", "digest", STAMP, "12.2.0")
    assert cache.version(name, digest, stamp) is None


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), writable=True)
    cache.put("c.toml", "digest", STAMP, "1.0.0")
    cache.put("d.toml", "digest", STAMP, "1.0.0")
    cache.keep_only({"d.toml"})
    assert cache.version("c.toml", "digest", STAMP) is None
    assert cache.version("d.toml", "digest", STAMP) == "1.0.0"


def test_who_may_only_read_writes_nothing(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path), writable=False)
    cache.put("c.toml", "digest", STAMP, "1.0.0")
    cache.write()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_or_gone_harms_nothing(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "gone"), writable=True)
    cache.put("c.toml", "digest", STAMP, "1.0.0")
    cache.write()
    assert cache.version("c.toml", "digest", STAMP) == "1.0.0"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    os.symlink(target, tmp_path / "runtimes.json.new")
    cache = Cache(str(tmp_path), writable=True)
    cache.put("c.toml", "digest", STAMP, "1.0.0")
    cache.write()
    assert not target.exists()


def entry(**changes: object) -> dict[str, object]:
    return {"digest": "d", "stamp": [[1, 2, 3, 4]], "version": "1.0.0"} | changes


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        json.dumps({"format": 2, "runtimes": {"c.toml": entry()}}).encode(),
        json.dumps({"format": 1, "runtimes": {"c.toml": entry(version="1")}}).encode(),
        json.dumps({"format": 1, "runtimes": {"c.toml": entry(version="rm -rf")}}).encode(),
        json.dumps({"format": 1, "runtimes": {"c.toml": entry(stamp=[])}}).encode(),
        json.dumps({"format": 1, "runtimes": {"c.toml": entry(stamp=[[1]])}}).encode(),
        json.dumps({"format": 1, "runtimes": {"c.toml": entry(more=1)}}).encode(),
    ],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "runtimes.json").write_bytes(content)
    cache = Cache(str(tmp_path), writable=True)
    assert cache.version("c.toml", "d", ((1, 2, 3, 4),)) is None
    cache.put("c.toml", "d", ((1, 2, 3, 4),), "1.0.0")
    cache.write()
    assert Cache(str(tmp_path), writable=True).version("c.toml", "d", ((1, 2, 3, 4),)) == "1.0.0"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_can_stand_there(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "runtimes.json").write_bytes(content)
    assert Cache(str(tmp_path), writable=False).version("c.toml", "d", STAMP) is None
