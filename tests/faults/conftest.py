"""Every test here needs a real daemon, and has one of its own to do something to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from faults import places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ECHO = "def main(args, context):\n    return args\n"


@pytest.fixture(autouse=True)
def _real(require_sandbox: None) -> None:
    """Skips where real jobs cannot run."""


@pytest.fixture
def where() -> Iterator[Path]:
    """A directory for a daemon and its state."""
    with places.directory() as directory:
        yield directory
