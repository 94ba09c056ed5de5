"""Requests that are refused leave nothing on the disk, however much came with them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from sandboxd_client import Client, RequestError
from support.daemon import running

pytestmark = pytest.mark.usefixtures("require_sandbox")

ATTEMPTS = 3


def test_contents_of_refused_requests() -> None:
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        state = Path(directory) / "state"
        with running(state_directory=str(state)) as daemon, Client(daemon.socket) as client:
            _be_refused(client)
            kept = [path for path in (state / "contents").rglob("*") if path.is_file()]
            assert kept == []
            assert list((state / "staging").iterdir()) == []


def _be_refused(client: Client) -> None:
    fields = {"command": ["cat", "in"], "inputs": [{"id": "in", "path": "in"}]}
    client.create_function("taken", "program", **fields)
    for _ in range(ATTEMPTS):
        files = [{"path": "data", "data": os.urandom(100_000)}]
        with pytest.raises(RequestError) as caught:
            client.create_function("new", "python", code="def main(:", files=files)
        assert caught.value.code == "invalid_argument"
        with pytest.raises(RequestError) as caught:
            client.create_function("taken", "program", **fields, files=files)
        assert caught.value.code == "exists"
        with pytest.raises(RequestError) as caught:
            client.update_function("taken", files=files, kind="python", code="def main(:")
        assert caught.value.code == "invalid_argument"
        inputs = {"in": os.urandom(100_000), "unknown": b""}
        with pytest.raises(RequestError) as caught:
            client.run_function("taken", inputs=inputs)
        assert caught.value.code == "not_found"
