"""Where a daemon and its clients meet when nobody told them."""

import os
import socket
from pathlib import Path

import pytest

from sandboxd.protocol import places


def test_what_the_variables_say(tmp_path: Path) -> None:
    environ = {
        "XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c",
        "HOME": "/h",
    }  # fmt: skip
    assert places.user_socket(environ) == f"{tmp_path}/sandboxd/sandboxd.sock"
    assert places.user_state(environ) == "/s/sandboxd"
    assert places.user_configuration(environ) == "/c/sandboxd"


def test_what_is_usual_without_them() -> None:
    environ = {"HOME": "/h"}
    assert places.user_state(environ) == "/h/.local/state/sandboxd"
    assert places.user_configuration(environ) == "/h/.config/sandboxd"
    usual = f"/run/user/{os.getuid()}"
    assert places.runtime_directory(environ) == (usual if os.path.isdir(usual) else "")


def test_relative_paths_are_ignored() -> None:
    environ = {"HOME": "/h", "XDG_STATE_HOME": "s", "XDG_CONFIG_HOME": "../c"}
    assert places.user_state(environ) == "/h/.local/state/sandboxd"
    assert places.user_configuration(environ) == "/h/.config/sandboxd"
    assert places.user_state({"HOME": "h"}).startswith("/")


def test_a_runtime_directory_that_is_not_there(tmp_path: Path) -> None:
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path / "none")}
    assert places.user_socket(environ) == "/h/.local/state/sandboxd/socket"


def test_the_machines_daemon_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "system"
    monkeypatch.setattr(places, "SYSTEM_SOCKET", str(system))
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert places.find_socket(environ) == str(system)
    own = tmp_path / "sandboxd/sandboxd.sock"
    own.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(own))
        assert places.find_socket(environ) == str(own)
        system.touch()
        assert places.find_socket(environ) == str(system)
