"""The gateway's configuration: one TOML file, SANDBOXD_REST_* and PISTON_* variables, flags.

Later sources win: built-in defaults, file, PISTON_*, SANDBOXD_REST_*, flags. Every key that is not
known is an error that names where it stands.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from sandboxd import tomlfile
from sandboxd.errors import ConfigError
from sandboxd_rest.faaspot.settings import Settings as FaaspotSettings
from sandboxd_rest.pifop.settings import Settings as PifopSettings
from sandboxd_rest.piston import settings as piston
from sandboxd_rest.pythia.settings import Settings as PythiaSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_FILE: Final = Path("/etc/sandboxd/sandboxd-rest.toml")
_PREFIX: Final = "SANDBOXD_REST_"
_SECOND: Final = 1_000_000_000

Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an administrator decides. Validated once, here; trusted everywhere else."""

    # Where.
    socket: str = ""
    """The daemon's; empty: $SANDBOXD_SOCKET, else the default path."""
    bind: tuple[str, ...] = ("127.0.0.1:2000",)
    plain_bind: tuple[str, ...] = ()
    """Without TLS, where `bind` is with it."""
    tls_certificate: str = ""
    tls_key: str = ""
    dev_tls: bool = False
    """Make a certificate for localhost; see `devtls`."""

    # Who.
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()

    # How much.
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**30)] = 102_400
    max_requests: Annotated[int, Meta(ge=1, le=2**20)] = 1024
    max_sessions: Annotated[int, Meta(ge=1, le=2**16)] = 64
    body_timeout_ns: Positive = 10 * _SECOND
    write_timeout_ns: Positive = 30 * _SECOND
    keep_alive_timeout_ns: Positive = 60 * _SECOND

    # The process.
    shutdown_timeout_ns: Positive = 10 * _SECOND
    access_log: bool = True
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$")] = "info"

    # The wire formats.
    piston: piston.Settings = piston.Settings()
    pifop: PifopSettings = PifopSettings()
    faaspot: FaaspotSettings = FaaspotSettings()
    pythia: PythiaSettings = PythiaSettings()


def load(
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Build the configuration, or raise ConfigError naming the source and the key.

    `file` must exist when given; without it the default file is read if there is one.
    """
    name = environ.get(f"{_PREFIX}CONFIG", "")
    path = file or (Path(name) if name else None)
    merged: dict[str, Any] = {}
    gateway, dialect = piston.from_environment(environ)
    sources = (
        (str(path or DEFAULT_FILE), _read(path)),
        ("environment", _from_port(environ)),
        ("environment", {**gateway, "piston": dialect}),
        ("environment", _from_environment(environ)),
        ("command line", dict(flags or {})),
    )
    for where, values in sources:
        plain = _plain(values, where)
        _convert(where, plain)
        tables = {name: {**merged.get(name, {}), **plain.get(name, {})} for name in _TABLES}
        merged |= {**plain, **tables}
    config = _convert("configuration", merged)
    _check(config)
    return config


def _plain(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Texts with a unit as numbers, also in the tables of the wire formats."""
    found = {key: tomlfile.plain(key, value, where) for key, value in values.items()}
    for name in _TABLES:
        if isinstance(found.get(name), dict):
            table = found[name].items()
            found[name] = {key: tomlfile.plain(key, value, where) for key, value in table}
    return found


def _read(path: Path | None) -> dict[str, Any]:
    try:
        with open(path or DEFAULT_FILE, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if path is None:
            return {}
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as exc:
        raise ConfigError(f"{path or DEFAULT_FILE}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path or DEFAULT_FILE}: {exc}") from exc


_TABLES: Final = ("piston", "pifop", "faaspot", "pythia")
_LISTS: Final = ("bind", "plain_bind", "allowed_hosts", "allowed_origins", "trusted_proxies")
_SWITCHES: Final = ("access_log", "dev_tls")
_NUMBERS: Final = ("max_body_bytes", "max_requests", "max_sessions")


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """`SANDBOXD_REST_BIND=…`; lists are comma-separated; the tables have variables of their own."""
    found: dict[str, Any] = {}
    for name, text in environ.items():
        key = name.removeprefix(_PREFIX).lower()
        if not name.startswith(_PREFIX) or key == "config":
            continue
        if key not in Config.__struct_fields__ or key in _TABLES:
            raise ConfigError(f"environment: {name} is not a setting of sandboxd-rest")
        if key in _LISTS:
            found[key] = [part.strip() for part in text.split(",") if part.strip()]
        elif key in _SWITCHES:
            found[key] = {"true": True, "false": False}.get(text.lower(), text)
        else:
            found[key] = int(text) if key in _NUMBERS and text.isdecimal() else text
    return found


def _from_port(environ: Mapping[str, str]) -> dict[str, Any]:
    """PORT changes the port of the default address, as it does for Piston."""
    port = environ.get("PORT", "")
    return {"bind": [f"127.0.0.1:{port}"]} if re.fullmatch(r"[0-9]{1,5}", port) else {}


def _convert(where: str, values: Mapping[str, Any]) -> Config:
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{where}: {tomlfile.explain(str(exc))}") from None


def _check(config: Config) -> None:
    """What one field alone cannot tell."""
    if not config.bind:
        raise ConfigError("bind: there must be an address to listen on")
    for bind in (*config.bind, *config.plain_bind):
        if not re.fullmatch(r"unix:/.+|fd://[0-9]+|(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):[0-9]{1,5}", bind):
            raise ConfigError(f"bind: {bind!r} is not HOST:PORT, [ADDRESS]:PORT or unix:/PATH")
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise ConfigError("tls_certificate and tls_key: one is no use without the other")
    if config.plain_bind and not (config.tls_certificate or config.dev_tls):
        raise ConfigError("plain_bind: without tls_certificate or dev_tls, bind is plain already")
    if config.dev_tls and config.tls_certificate:
        raise ConfigError("dev_tls: there is a tls_certificate already; give one of them only")
    for origin in config.allowed_origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise ConfigError(f"allowed_origins: {origin!r} is not like https://example.org")
    for network in config.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ConfigError(f"trusted_proxies: {network!r} is no address or network") from None
