"""Daemons that follow each other: of the same users, on the same state."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from support import host
from support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Lives:
    """One daemon after the other, of the same users with the same socket and state."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.state = directory / "state"
        self._directory = directory
        self._settings = settings | {"state_directory": str(self.state)}
        self._uids = range(0)
        self._count = 0

    def begin(self, environment: Mapping[str, str] | None = None, **more: Any) -> Daemon:
        own = self._directory / str(self._count)
        own.mkdir()
        self._count += 1
        if self._uids:
            self._settings["uid_base"] = self._uids.start
        daemon = Daemon(self._settings, own, environment, path=self._directory / "socket", **more)
        self._uids = daemon.uids = self._uids or daemon.uids
        return daemon


def await_gone(daemon: Daemon) -> None:
    """Everything of the daemon is gone without anybody's help."""
    deadline = time.monotonic() + 10
    while host.owned_by(daemon.uids) or host.cgroups(daemon.group):
        assert time.monotonic() < deadline
        time.sleep(0.02)
