"""Short ways to run the programs of programs/ through a client."""

import time
from typing import TYPE_CHECKING, Any

from support.programs import executable, report

if TYPE_CHECKING:
    from sandboxd_client import Client, RequestError, Result

MS = 1_000_000
SECOND = 1_000_000_000
KIB = 1024
MIB = 1024 * 1024
GIB = 1024 * 1024 * 1024

# Between the limit and the answer on a machine that does other things, too; less than any limit a
# job has by default. The strict number is measured by the benchmark.
ANSWER_S = 4.0


def job(name: str, *args: str | bytes, **fields: Any) -> dict[str, Any]:
    """The request that runs programs/NAME.c with these arguments."""
    files = executable(name) | fields.pop("files", {})
    return {"argv": [f"./{name}", *args], "files": files, **fields}


def run(client: "Client", name: str, *args: str | bytes, **fields: Any) -> "Result":
    """Run programs/NAME.c with these arguments."""
    result: Result = client.run(**job(name, *args, **fields))
    return result


def run_ok(client: "Client", name: str, *args: str | bytes, **fields: Any) -> dict[str, str]:
    """Run a program that must end well, and return its report."""
    result = run(client, name, *args, **fields)
    assert result.status == "ok", result
    return report(result.stdout)


def run_or_refusal(client: "Client", **request: Any) -> "Result | RequestError":
    """The result, or the error of a request that was not taken."""
    from sandboxd_client import RequestError

    try:
        result: Result = client.run(**request)
    except RequestError as refusal:
        return refusal
    return result


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
