"""The state directory: who may write it, and what it can be tricked into."""

import fcntl
import os
from pathlib import Path

import pytest

from sandboxd import state
from sandboxd.errors import HostError
from sandboxd.privileges import Identity
from sandboxd.protocol.errors import RequestError

DAEMON = Identity(12345, 12346)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def test_it_is_made_with_what_is_kept_in_it(tmp_path: Path) -> None:
    kept = state.prepare(str(tmp_path / "a/b"), None, write=True)
    assert kept.writable
    kept.require_writable()
    modes = {path.name: path.stat().st_mode & 0o777 for path in kept.root.iterdir()}
    assert modes == {"packages": 0o755, "environments": 0o755, "staging": 0o700, "lock": 0o600}
    kept.close()


def test_one_daemon_writes_and_the_other_reads(tmp_path: Path) -> None:
    first = state.prepare(str(tmp_path), None, write=True)
    second = state.prepare(str(tmp_path), None, write=True)
    assert (first.writable, second.writable) == (True, False)
    with pytest.raises(RequestError, match="another sandboxd"):
        second.require_writable()
    first.close()
    third = state.prepare(str(tmp_path), None, write=True)
    assert third.writable
    third.close()


def test_a_private_daemon_makes_nothing(tmp_path: Path) -> None:
    kept = state.prepare(str(tmp_path / "none"), None, write=False)
    assert not kept.writable
    assert not kept.root.exists()


def test_what_an_interrupted_install_left_is_removed(tmp_path: Path) -> None:
    kept = state.prepare(str(tmp_path), None, write=True)
    (kept.staging / "half/deep").mkdir(parents=True)
    (kept.staging / "file").write_text("x")
    (kept.staging / "link").symlink_to(tmp_path)
    kept.clean()
    assert list(kept.staging.iterdir()) == []
    assert kept.packages.is_dir()
    kept.close()


def test_what_another_daemon_uses_is_not_removed(tmp_path: Path) -> None:
    kept = state.prepare(str(tmp_path), None, write=True)
    (kept.staging / "removed-1").mkdir()
    (kept.staging / "removed-1/file").write_text("x")
    reader = os.open(kept.staging / "removed-1", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    kept.clean()
    assert (kept.staging / "removed-1/file").exists()
    os.close(reader)
    (kept.staging / "removed-1").chmod(0)
    kept.clean()
    assert list(kept.staging.iterdir()) == []
    kept.close()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "packages").write_text("")
    with pytest.raises(HostError, match="packages"):
        state.prepare(str(tmp_path), None, write=True)
    with pytest.raises(HostError, match="state_directory"):
        state.prepare(str(tmp_path / "packages/x"), None, write=True)


@as_root
def test_it_belongs_to_the_daemon(tmp_path: Path) -> None:
    kept = state.prepare(str(tmp_path / "state"), DAEMON, write=True)
    owners = {path.stat().st_uid for path in (kept.root, *kept.root.iterdir())}
    assert owners == {DAEMON.uid}
    kept.close()


@as_root
def test_a_daemon_gone_bad_gets_nothing_by_links(tmp_path: Path) -> None:
    """The directory is the daemon's: at the next start, as root, it may hold anything."""
    secret = tmp_path / "secret"
    secret.write_text("root's")
    root = tmp_path / "state"
    root.mkdir()
    os.link(secret, root / "lock")
    kept = state.prepare(str(root), DAEMON, write=True)
    assert secret.stat().st_uid == 0
    kept.close()
    (root / "lock").unlink()
    (root / "lock").symlink_to(secret)
    with pytest.raises(HostError, match="lock"):
        state.prepare(str(root), DAEMON, write=True)
    (root / "lock").unlink()
    (root / "packages").rmdir()
    (root / "packages").symlink_to("/root")
    with pytest.raises(HostError, match="packages"):
        state.prepare(str(root), DAEMON, write=True)
    assert Path("/root").stat().st_uid == 0


@as_root
def test_a_link_that_goes_while_the_lock_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many names a file has says nothing: whoever made one can take it away at any time."""
    secret = tmp_path / "secret"
    secret.write_text("root's")
    root = tmp_path / "state"
    root.mkdir()
    os.link(secret, root / "lock")
    flock = fcntl.flock

    def unlinking(fd: int, operation: int) -> None:
        (root / "lock").unlink(missing_ok=True)
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", unlinking)
    state.prepare(str(root), DAEMON, write=True).close()
    assert secret.stat().st_uid == 0


def test_the_lock_is_the_kernels(tmp_path: Path) -> None:
    """It goes with its holder, whatever that dies of."""
    kept = state.prepare(str(tmp_path), None, write=True)
    other = os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    kept.close()
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_jobs_can_reach_packages_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        kept = state.prepare(str(tmp_path / "state"), None, write=True)
    finally:
        os.umask(before)
    assert kept.root.stat().st_mode & 0o777 == 0o755
    kept.close()
