"""`sandboxctl status`: how the daemon is."""

from __future__ import annotations

from sandboxctl import exitcodes
from sandboxctl.jsonout import print_json
from sandboxctl.reach import connect
from sandboxctl.units import format_size, format_time
from sandboxd.protocol.errors import RequestError
from sandboxd_client._client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio


def run(command: Command, stdio: Stdio) -> int:
    """Print it; the exit status is 1 while the daemon cannot run jobs."""
    with Client.on(connect(command, stdio)) as client:
        report: dict[str, Any] = {"info": client.info(), "stats": client.stats()}
        try:
            report["health"] = client.health()
        except RequestError as exc:
            report["health"] = {"status": exc.code, "message": exc.message}
    if command["--json"]:
        print_json(stdio, report)
    else:
        stdio.out(text(report))
    return exitcodes.OK if report["health"]["status"] == "ok" else exitcodes.FAILED


def text(report: Mapping[str, Any]) -> str:
    """The report for people."""
    info, stats, health = report["info"], report["stats"], report["health"]
    queue = stats["queue"]
    rows = [
        ("sandboxd", f"{info['version']}, {_health(health)}"),
        ("up", format_time(stats["uptime_ns"])),
        ("queue", f"{queue['running']} running, {queue['waiting']} waiting of {queue['capacity']}"),
        ("slots", _counts(stats["slots"]) or "none"),
        ("jobs", _counts(stats["jobs"]) or "none yet"),
        ("connections", str(stats["connections"])),
    ]
    limits = info.get("limits")
    if limits:
        rows.append(("limits", _limits(limits)))
    return "".join(f"{name.ljust(13)}{value}\n" for name, value in rows)


def _health(health: Mapping[str, Any]) -> str:
    return "ok" if health["status"] == "ok" else f"not well: {health.get('message')}"


def _counts(counts: Mapping[str, int]) -> str:
    """`3 ok, 1 memory limit`: what is not zero, in the daemon's order."""
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if n)


def _limits(limits: Mapping[str, int]) -> str:
    parts = []
    for name, value in limits.items():
        if name.endswith("_ns"):
            parts.append(f"{_limit_name(name)} {format_time(value)}")
        elif name.endswith("_bytes"):
            parts.append(f"{_limit_name(name)} {format_size(value)}")
        else:
            parts.append(f"{_limit_name(name)} {value}")
    return ", ".join(parts)


def _limit_name(name: str) -> str:
    return name.removesuffix("_ns").removesuffix("_bytes").replace("_", " ")
