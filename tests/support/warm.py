"""Programs in an interpreter that waited, and the same by a plain start."""

import time
from typing import Any

from sandboxd_client import Client, Result

# A copy of the waiting interpreter still has the words that that was started with.
WARM = "import os\nassert b'main.py' not in open('/proc/self/cmdline', 'rb').read(), 'not warm'\n"


def wait_for_interpreters(client: Client) -> None:
    """Until both wait: they are started when nothing else is to be done."""
    deadline = time.monotonic() + 10
    while client.stats()["slots"]["warm"] < 2:
        assert time.monotonic() < deadline, client.stats()
        time.sleep(0.02)


def python(client: Client, source: str, *args: str, **more: Any) -> Result:
    """The program by its runtime, in an interpreter that waited."""
    wait_for_interpreters(client)
    files = [{"name": "main.py", "data": WARM + source}]
    result = client.execute("python", files=files, args=list(args), **more).run
    assert result is not None
    assert b"not warm" not in result.stderr, result
    return result


def started(client: Client, source: str, *args: str, stdin: bytes = b"") -> Result:
    """The same program by a plain start of the interpreter."""
    source = WARM.replace("not in", "in") + source
    return client.run(
        ["python3", "-s", "-B", "main.py", *args],
        files={"main.py": source.encode()},
        stdin=stdin,
    )
