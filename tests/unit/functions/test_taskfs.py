"""What becomes of a directory that was unpacked."""

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from sandboxd.functions import taskfs
from sandboxd.functions.templates import language_of
from sandboxd.protocol.errors import RequestError


def collected(root: Path) -> dict[str, tuple[bytes, int]]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return taskfs.collect(fd)
    finally:
        os.close(fd)


def test_files_and_links(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"f")
    (tmp_path / "d" / "f").chmod(0o755)
    (tmp_path / "hard").hardlink_to(tmp_path / "d" / "f")
    for name, target in (
        ("one", "d/f"), ("two", "one"), ("d/e/up", "../f"), ("dir", "d"), ("through", "dir/e/up"),
        ("absolute", "/task/d/f"), ("dots", "./d/../d/./f"),
    ):  # fmt: skip
        (tmp_path / name).symlink_to(target)
    (tmp_path / "dir").unlink()
    (tmp_path / "through").unlink()
    found = collected(tmp_path)
    assert set(found) == {"d/f", "hard", "one", "two", "d/e/up", "absolute", "dots"}
    assert set(found.values()) == {(b"f", 0o755)}


@pytest.mark.parametrize("target", ["nowhere", "d", ".", "loop", "self"])
def test_links_that_become_no_file(tmp_path: Path, target: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "loop").symlink_to("self")
    (tmp_path / "self").symlink_to("loop")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(RequestError, match="which is no file in it"):
        collected(tmp_path)


@pytest.mark.parametrize("name", [b"a\nb", b"\xff", b"tab\t"])
def test_names_that_no_function_has(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"")
    with pytest.raises(RequestError, match="archive: the name"):
        collected(tmp_path)


def test_links_cannot_make_it_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskfs, "BOUNDS", taskfs.Bounds(total_bytes=1000))
    (tmp_path / "f").write_bytes(bytes(400))
    (tmp_path / "a").symlink_to("f")
    assert len(collected(tmp_path)) == 2
    (tmp_path / "b").symlink_to("f")
    with pytest.raises(RequestError, match="with its links"):
        collected(tmp_path)


def test_names_of_one_file_cannot_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a copy in memory; the unpacker has counted one."""
    size = 8 * 1024 * 1024
    monkeypatch.setattr(taskfs, "BOUNDS", taskfs.Bounds(total_bytes=size * 2))
    (tmp_path / "f").write_bytes(bytes(size))
    (tmp_path / "g").hardlink_to(tmp_path / "f")
    assert len(collected(tmp_path)) == 2
    for number in range(20):
        (tmp_path / f"h{number}").hardlink_to(tmp_path / "f")
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="with its links"):
            collected(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < size * 3
    finally:
        tracemalloc.stop()


def test_links_cannot_lead_on_and_on() -> None:
    """A link of many parts to one of many parts: looking each up would take minutes."""
    links = {f"l{n}": f"l{n + 1}" + "/x" * 2000 for n in range(39)}
    began = time.process_time()
    assert all(taskfs.followed(path, links) not in links for path in links)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("python", "python"), ("python3", "python"), ("Python-3.7.3", "python"),
        ("go1.12", "golang"), ("golang", "golang"), ("c", "c"), ("c++", "cpp"), ("cpp", "cpp"),
        ("php7", "php7"),
        ("php", "php7"), ("php8.2", "php7"), ("node", "nodejs"), ("busybox", "bash"),
        ("algol68", "algol68"), ("java 17", "java"), ("", None), ("3", None), ("c11x", None),
        ("plan9", None), ("../python", None),
    ],
)  # fmt: skip
def test_languages(name: str, language: str | None) -> None:
    assert language_of(name) == language
