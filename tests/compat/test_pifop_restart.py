"""A PIFOP client while the daemon is killed and started anew behind the gateway."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compat.gateway import running
from compat.pifop import COORDS, FUNCTION, TOUR, Caller, Client
from support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")


@pytest.fixture
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def begin(directory: Path, name: str, **settings: object) -> Daemon:
    """A daemon whose state is that of the others in `directory`, and the socket, too."""
    own = directory / name
    own.mkdir()
    daemon = Daemon({"jobs": 2, "state_directory": str(directory / "state"), **settings}, own)
    link = directory / "socket"
    link.unlink(missing_ok=True)
    link.symlink_to(daemon.socket)
    return daemon


def test_the_client_goes_on(directory: Path) -> None:
    from sandboxd_client import Client as NativeClient

    first = begin(directory, "first")
    second = None
    try:
        with NativeClient(first.socket) as native:
            native.create_function("tsp", **FUNCTION)
            key = native.create_key("k", "run", space="joe", function="tsp")["secret"]
        with running(str(directory / "socket"), pifop={"plain_http": True}) as gateway:
            call = Caller(gateway, key)
            pending, cut = Client(call, "joe/tsp"), Client(call, "joe/tsp")
            for client in (pending, cut):
                client.initialize()
                call.ok("POST", f"{client.endpoint}/input/coords", COORDS.encode())
            options = json.dumps({"lines": ["begun"], "hang": True}).encode()
            call.ok("POST", f"{cut.endpoint}/input/options", options)
            cut.start()
            while call.ok("GET", cut.endpoint)["log"] != "begun\n":
                time.sleep(0.05)
            time.sleep(1)  # That it runs is on the disk then.
            first.process.kill()
            first.process.wait()
            assert call.refused("GET", cut.endpoint)[0] == 503
            first.stop()
            second = begin(directory, "second", uid_base=first.uids.start)
            assert cut.finish() == {}
            assert cut.data["end_reason"] == "interrupted"
            pending.start()
            assert pending.finish() == {"tour": TOUR}
            assert "Traceback" not in gateway.log_text()
    finally:
        first.stop()
        if second is not None:
            second.stop()
