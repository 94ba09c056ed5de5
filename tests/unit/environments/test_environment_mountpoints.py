"""The directories that a sandbox mounts over."""

import os
from pathlib import Path

import pytest

from sandboxd.environments import beneath, mountpoints
from sandboxd.environments.errors import ImportRefused

ALL = ("proc", "dev", "tmp", "work", "piston", "piston/packages")


def make(root: Path) -> None:
    fd = os.open(root, beneath.DIRECTORY)
    try:
        mountpoints.make(fd)
    finally:
        os.close(fd)


def test_are_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    make(tmp_path)
    for path in (".", *ALL):
        found = (tmp_path / path).lstat()
        assert found.st_mode == 0o40755


def test_stay_with_what_is_in_them(tmp_path: Path) -> None:
    for path in ALL:
        (tmp_path / path).mkdir(mode=0o700)
        (tmp_path / path / "content").write_text(path)
    make(tmp_path)
    make(tmp_path)
    for path in ALL:
        assert (tmp_path / path / "content").read_text() == path
        assert (tmp_path / path).lstat().st_mode == 0o40755


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("to", ["/", ".", "elsewhere", "/nonexistent", "/proc/self/cwd"])
def test_links_are_refused(tmp_path: Path, path: str, to: str) -> None:
    """A mount on one would land somewhere else, perhaps outside."""
    root = tmp_path / "root"
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "elsewhere").mkdir()
    (root / path).symlink_to(to)
    with pytest.raises(ImportRefused, match=f"^/{path} is a symbolic link"):
        make(root)
    assert os.readlink(root / path) == to
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("path", ALL)
def test_files_are_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("content")
    with pytest.raises(ImportRefused, match=f"^/{path} is not a directory"):
        make(tmp_path)
    assert (tmp_path / path).read_text() == "content"
