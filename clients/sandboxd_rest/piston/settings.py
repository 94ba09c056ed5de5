"""Piston's own settings, by Piston's names: in the file, and as PISTON_* variables."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping  # noqa: TC003 - msgspec looks it up
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from sandboxd.errors import ConfigError
from sandboxd.logs import fields

_log = logging.getLogger("sandboxd.rest")

PREFIX: Final = "PISTON_"

Limit = Annotated[int, Meta(ge=-1, le=2**53)]
"""0 and -1: the gateway sets no limit and names none; what the daemon is configured with holds."""


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one language, which go before all others. Times in ms, sizes in bytes."""

    output_max_size: Limit | None = None
    max_process_count: Limit | None = None
    max_open_files: Limit | None = None
    max_file_size: Limit | None = None
    compile_timeout: Limit | None = None
    run_timeout: Limit | None = None
    compile_cpu_time: Limit | None = None
    run_cpu_time: Limit | None = None
    compile_memory_limit: Limit | None = None
    run_memory_limit: Limit | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times in ms, sizes in bytes, as Piston has them."""

    output_max_size: Limit = 65_536
    max_process_count: Limit = 64
    max_open_files: Limit = 2048
    max_file_size: Limit = 10_000_000
    compile_timeout: Limit = 10_000
    run_timeout: Limit = 3_000
    compile_cpu_time: Limit = 10_000
    run_cpu_time: Limit = 3_000
    compile_memory_limit: Limit = -1
    run_memory_limit: Limit = -1
    limit_overrides: Mapping[str, Overrides] = msgspec.field(default_factory=dict)
    repo_url: str = ""
    """The index of packages; empty: $SANDBOXD_PACKAGE_INDEX, else Piston's own."""


_NAMES: Final = (*Overrides.__struct_fields__, "repo_url")
# What others decide here, and where.
_ELSEWHERE: Final = {
    "PISTON_DATA_DIRECTORY": "state_directory in sandboxd.toml",
    "PISTON_RUNNER_UID_MIN": "uid_base in sandboxd.toml",
    "PISTON_RUNNER_UID_MAX": "uid_base in sandboxd.toml",
    "PISTON_RUNNER_GID_MIN": "uid_base in sandboxd.toml",
    "PISTON_RUNNER_GID_MAX": "uid_base in sandboxd.toml",
    "PISTON_MAX_CONCURRENT_JOBS": "jobs in sandboxd.toml",
}
_LEVELS: Final = {"TRACE": "debug", "DEBUG": "debug", "INFO": "info", "WARN": "warning"}


def from_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings of the gateway, settings of this dialect) from Piston's variables.

    Raises ConfigError for a value that is none, and for limit overrides with an unknown key.
    """
    gateway: dict[str, Any] = {}
    dialect: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        key = name.removeprefix(PREFIX).lower()
        if key in _NAMES:
            dialect[key] = text if key == "repo_url" else _number(name, text)
        elif key == "limit_overrides":
            dialect[key] = _overrides(name, text)
        elif key == "bind_address":
            gateway["bind"] = [text]
        elif key == "log_level":
            gateway["log_level"] = _LEVELS.get(text.upper(), "error")
    return gateway, dialect


def warn_about_others(environ: Mapping[str, str]) -> None:
    """Log which of Piston's variables do nothing here."""
    for name in sorted(environ):
        if name in _ELSEWHERE:
            _log.warning("set elsewhere %s", fields(variable=name, see=_ELSEWHERE[name]))
    if environ.get("PISTON_DISABLE_NETWORKING", "true") != "true":
        _log.warning("jobs have no network; PISTON_DISABLE_NETWORKING does not change that")


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,16}", text):
        raise ConfigError(f"environment: {name}: {text!r} is not a whole number")
    return int(text)


def _overrides(name: str, text: str) -> object:
    try:
        value = msgspec.json.decode(text)
        msgspec.convert(value, dict[str, Overrides])
    except msgspec.MsgspecError as exc:
        raise ConfigError(f"environment: {name}: {exc}") from None
    return value
