"""The socket's file: mode, owner, what is taken over and what is left alone. And the peer."""

import os
import socket
import struct
from pathlib import Path

import pytest

from sandboxd import listener
from sandboxd.config import Config
from sandboxd.errors import ConfigError, HostError
from sandboxd.peer import Peer, identify
from sandboxd.protocol.errors import PERMISSION_DENIED, RequestError


def config(path: Path, **settings: object) -> Config:
    values = {"socket_group": str(os.getgid()), **settings}
    return Config(socket=str(path), **values)  # type: ignore[arg-type]


def test_mode_and_directory(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "s"
    listening = listener.bind(config(path, socket_mode=0o640), None)
    assert path.stat().st_mode & 0o7777 == 0o640
    assert path.parent.stat().st_mode & 0o7777 == 0o755
    listening.close()
    assert not path.exists()


def test_nobody_can_connect_before_the_mode_is_set(tmp_path: Path) -> None:
    listening = listener.bind(config(tmp_path / "s", socket_mode=0o000), None)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0
    listening.close()


def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener.bind(config(path), None).close()


def test_a_live_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(HostError, match="another sandboxd listens"):
            listener.bind(config(path), None)
        assert path.exists()


def test_a_file_in_the_way_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(HostError, match="is not a socket"):
        listener.bind(config(path), None)
    assert path.read_text() == "precious"


def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = listener.bind(config(path), None)
    path.unlink()
    second = listener.bind(config(path), None)
    first.close()
    assert path.exists()
    second.close()


def test_a_path_the_kernel_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        listener.bind(config(tmp_path / ("x" * 120)), None)


def test_a_group_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no group 'no-such-group'"):
        listener.bind(config(tmp_path / "s", socket_group="no-such-group"), None)


def test_adopted_sockets_must_be_one_listening_unix_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sockets in ([], [ours, theirs], [ours]):
            with pytest.raises(ConfigError):
                listener.adopt(sockets)


def test_an_adopted_socket_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    listener.adopt([sock]).close()
    assert path.exists()


# -- the peer -------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> "tuple[socket.socket, socket.socket]":
    return socket.socketpair()


def identified(pair: tuple[socket.socket, socket.socket], **settings: object) -> Peer:
    with pair[0], pair[1]:
        return identify(pair[0], Config(**settings))  # type: ignore[arg-type]


def test_the_uid_is_the_kernels(pair: tuple[socket.socket, socket.socket]) -> None:
    assert identified(pair, admin_uids=()).uid == os.geteuid()


@pytest.mark.parametrize(
    ("settings", "can_run", "can_admin"),
    [
        ({"admin_uids": ()}, True, False),
        ({"admin_uids": (), "allowed_uids": (4_000_000,)}, False, False),
        ({"admin_uids": (), "allowed_uids": (os.geteuid(),)}, True, False),
        ({"admin_uids": (), "allowed_gids": (os.getegid(),)}, True, False),
        ({"admin_uids": (), "allowed_gids": (4_000_000,)}, False, False),
        ({"admin_uids": (os.geteuid(),), "allowed_uids": (4_000_000,)}, True, True),
    ],
)
def test_rights(
    pair: tuple[socket.socket, socket.socket],
    settings: dict[str, object],
    can_run: bool,
    can_admin: bool,
) -> None:
    peer = identified(pair, **settings)
    assert (peer.can_run, peer.can_admin) == (can_run, can_admin)


def test_supplementary_groups_count(tmp_path: Path) -> None:
    """The groups are those of the moment of connect(2)."""
    if os.geteuid() != 0:
        pytest.skip("only root may choose groups")
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        pid = os.fork()
        if pid == 0:
            os.setgroups([4_000_001])
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.recv(1)
            os._exit(0)
        server, _ = listening.accept()
        with server:
            settings = {"admin_uids": (), "allowed_gids": (4_000_001,)}
            assert identify(server, Config(**settings)).can_run  # type: ignore[arg-type]
        os.waitpid(pid, 0)


def test_refusal_says_where_to_look() -> None:
    with pytest.raises(RequestError, match="allowed_uids") as caught:
        Peer(7, can_run=False, can_admin=False).require_run()
    assert caught.value.code == PERMISSION_DENIED


def test_ucred_is_three_32_bit_words() -> None:
    assert struct.calcsize("=iII") == 12
