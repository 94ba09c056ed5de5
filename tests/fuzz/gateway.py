"""The running gateway, all four wire formats, against its description: generated requests, and
sequences of requests that use what earlier ones made."""

from __future__ import annotations

import re
import subprocess
import sys
import time

from compat.gateway import running as running_gateway
from fuzz import engines
from sandboxd_client import Client
from support.daemon import running as running_daemon

# Paths, whose key, and what the description cannot say: see the tests of each format.
_FORMATS = (
    ("--exclude-path-regex", "connect|packages|author|^/v1/", "", "unsupported_method"),
    ("--include-path-regex", "^/v1/", "Token", "unsupported_method"),
    ("--include-path-regex", "{author}", "Bearer", ""),
)


def fuzz(seconds: float) -> engines.Run:
    """For that many seconds, as most of the time is the daemon's and its jobs'."""
    total = engines.Run()
    began = time.monotonic()
    with running_daemon(jobs=2) as daemon, Client(daemon.socket) as client:
        secret = client.create_key("fuzz", "admin")["secret"]
        with running_gateway(daemon.socket, pifop={"plain_http": True}) as gateway:
            for which, paths, scheme, also in _FORMATS:
                run = _run(gateway.url, which, paths, f"{scheme} {secret}", also, seconds / 3)
                total.executions += run.executions
                total.failed |= run.failed
                total.output += run.output if run.failed else ""
            for name, process in (("daemon", daemon), ("gateway", gateway)):
                if "Traceback" in process.log_text() or process.process.poll() is not None:
                    total.failed = True
                    total.output += f"log of the {name}:\n{process.log_text()[-4000:]}"
    total.cpu_s = time.monotonic() - began
    return total


def _run(
    url: str, which: str, paths: str, authorization: str, also: str, seconds: float
) -> engines.Run:
    place = engines.WORK / "gateway"
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--phases", "coverage,fuzzing,stateful", "--max-time", f"{seconds:.0f}"),
            *("--max-examples", "1000000", "--generation-database", "none", "--no-color"),
            *(which, paths, "-H", f"Authorization: {authorization.strip()}"),
            *("--exclude-checks", ",".join(filter(None, ("positive_data_acceptance", also)))),
        ],
        capture_output=True,
        text=True,
        cwd=place,
        timeout=seconds + 300,
        check=False,
    )
    cases = re.search(r"(\d[\d,]*) generated", done.stdout)
    return engines.Run(
        executions=int(cases[1].replace(",", "")) if cases else 0,
        output=done.stdout[-6000:] + done.stderr[-2000:],
        failed=done.returncode != 0,
    )
