"""A gateway for the tests in this directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compat.gateway import Gateway, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon


@pytest.fixture(scope="session")
def gateway(daemon: Daemon) -> Iterator[Gateway]:
    """The gateway that most tests share, with the default settings."""
    with running(daemon.socket) as gateway:
        yield gateway
        assert gateway.process.poll() is None, f"the gateway died:\n{gateway.log_text()}"
        assert "Traceback" not in gateway.log_text()
