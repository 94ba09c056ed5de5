"""The daemon's configuration: one TOML file, ``SANDBOXD_*`` variables, command line flags.

Later sources win: built-in defaults, file, environment, flags. Every key that is not known is an
error that names where it stands; a typing mistake must never leave a limit at its default.
"""

import glob
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from sandboxd import tomlfile
from sandboxd.errors import ConfigError
from sandboxd.protocol import places

DEFAULT_FILE: Final = Path("/etc/sandboxd/sandboxd.toml")
DEFAULT_STATE: Final = "/var/lib/sandboxd"

_PREFIX: Final = "SANDBOXD_"
# Variables with our prefix that are no configuration keys: hand-over from a starting process,
# other programs of the project, and switches of the test suite.
_OTHER_VARIABLES: Final = re.compile(
    r"SANDBOXD_((READY_FD|LIFELINE|MUST_WORK|CONFIG|PACKAGE_INDEX)$|(REST|CLIENT|TEST|BENCH)_)"
)

# What programs need to start besides /usr: never /etc as a whole, which has the host's accounts,
# keys and addresses in it. Of the settings of toolchains only those without which they do not work.
_DEFAULT_READONLY: Final = (
    "/usr",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/R",
    "/etc/fpc*.cfg",
    "/etc/gnucobol",
    "/etc/groovy",
    "/etc/java*",
    "/etc/ldc2.conf",
    "/etc/mono",
    "/etc/nim",
    "/etc/racket",
    "/var/lib/ghc",
)

# Of the helper: SBX_MAX_SLOTS, and the memory it maps for each slot's output.
_MAX_SLOTS: Final = 1024
_MAX_OUTPUT: Final = 2**30

_MS: Final = 1_000_000
_SECOND: Final = 1_000_000_000
_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * 1024 * 1024

Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Positive32 = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Uid = Annotated[int, Meta(ge=0, le=2**32 - 2)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a job gets when it does not ask (`limits`)."""

    cpu_time_ns: Positive = 10 * _SECOND
    wall_time_ns: Positive = 20 * _SECOND
    memory_bytes: Positive = 512 * _MIB
    output_bytes: Positive = 1 * _MIB
    file_size_bytes: Positive = 64 * _MIB
    disk_bytes: Positive = 64 * _MIB
    stack_bytes: Positive = 64 * _MIB
    disk_inodes: Positive32 = 4096
    processes: Positive32 = 64
    open_files: Positive32 = 256


class MaxLimits(Limits, frozen=True, forbid_unknown_fields=True):
    """The most a job may ask for (`max_limits`)."""

    cpu_time_ns: Positive = 120 * _SECOND
    wall_time_ns: Positive = 300 * _SECOND
    memory_bytes: Positive = 4 * _GIB
    output_bytes: Positive = 64 * _MIB
    file_size_bytes: Positive = 1 * _GIB
    disk_bytes: Positive = 1 * _GIB
    stack_bytes: Positive = 1 * _GIB
    disk_inodes: Positive32 = 65536
    processes: Positive32 = 1024
    open_files: Positive32 = 4096


class Mount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An extra read-only directory that a job may ask for by its name in `mounts`."""

    source: str
    target: str


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an administrator decides. Validated once, here; trusted everywhere else."""

    # The socket.
    socket: str = places.SYSTEM_SOCKET
    socket_mode: Annotated[int, Meta(ge=0, le=0o777)] = 0o660
    socket_group: str = "sandboxd"
    allowed_uids: tuple[Uid, ...] = ()
    allowed_gids: tuple[Uid, ...] = ()
    admin_uids: tuple[Uid, ...] = (0,)
    max_connections: Positive32 = 512
    max_connections_per_uid: Positive32 = 128
    max_requests_per_connection: Positive32 = 1024
    max_message_bytes: Annotated[int, Meta(ge=4096, le=1 * _GIB)] = 64 * _MIB
    max_write_buffer_bytes: Annotated[int, Meta(ge=65536, le=1 * _GIB)] = 64 * _MIB
    message_timeout_ns: Positive = 10 * _SECOND
    write_timeout_ns: Positive = 30 * _SECOND

    # Jobs.
    jobs: Annotated[int, Meta(ge=0, le=1024)] = 0
    spare_slots: Annotated[int, Meta(ge=0, le=1024)] = 0
    queue_length: Positive32 = 256
    queue_per_tenant: Positive32 = 128
    queue_bytes: Positive = 256 * _MIB
    mode: Annotated[str, Meta(pattern="^(recycled|fresh)$")] = "recycled"
    file_locks: bool = True
    core_scheduling: bool = False
    dedicated_cpus: bool = False
    warm_slots: Annotated[int, Meta(ge=0, le=256)] = 2
    collect_bytes: Positive = 16 * _MIB
    max_collect_bytes: Positive = 256 * _MIB
    limits: Limits = Limits()
    max_limits: MaxLimits = MaxLimits()

    # The sandbox.
    env: Mapping[str, str] = msgspec.field(
        default_factory=lambda: {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/work",
            "LANG": "C.UTF-8",
        }
    )
    readonly: tuple[str, ...] = ()
    mounts: Mapping[str, Mount] = msgspec.field(default_factory=dict)
    uid_base: Annotated[int, Meta(ge=65536, le=2**32 - 65536 * 2)] = 1_879_048_192
    user: str = "sandboxd"

    # What is kept: packages, environments, and what was found out about runtimes.
    state_directory: str = DEFAULT_STATE
    runtimes_directory: str = "/etc/sandboxd/runtimes"
    detect_at_start: bool = True

    # Functions and their executions.
    functions: bool = True
    functions_cache_bytes: Positive = 128 * _MIB
    result_bytes: Annotated[int, Meta(ge=1024, le=64 * _MIB)] = 1 * _MIB
    executions_queue: Positive32 = 20_000
    executions_age_ns: Positive = 7 * 86_400 * _SECOND
    executions_bytes: Positive = 1 * _GIB
    executions_count: Positive32 = 1_000_000

    # The process.
    shutdown_timeout_ns: Positive = 10 * _SECOND
    helper_timeout_ns: Positive = 5 * _SECOND
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$")] = "info"

    def readonly_directories(self) -> list[str]:
        """What every job sees besides its own files. Raises ConfigError for a missing one."""
        for path in self.readonly:
            if not os.path.lexists(path):
                raise ConfigError(f"readonly: {path} does not exist")
        found = (path for pattern in _DEFAULT_READONLY for path in sorted(glob.glob(pattern)))
        return list(self.readonly or found)

    @property
    def slots(self) -> int:
        """Jobs that run at the same time; 0 in the file means one for each processor."""
        return self.jobs or len(os.sched_getaffinity(0))

    @property
    def spares(self) -> int:
        """Slots kept ready beyond the running ones; 0 in the file means as many again."""
        return self.spare_slots or self.slots


def load(
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
    *,
    rootless: bool = False,
) -> Config:
    """Build the configuration, or raise ConfigError naming the source and the key.

    ``file`` must exist when given; without it the default file is read if there is one. With
    ``rootless`` what is the machine's by default is the user's own.
    """
    name = environ.get("SANDBOXD_CONFIG", "")
    path = file or (Path(name) if name else None)
    usual = Path(places.user_configuration(environ), DEFAULT_FILE.name)
    usual = usual if rootless else DEFAULT_FILE
    merged: dict[str, Any] = {}
    for where, values in (
        ("usual places", _of_user(environ) if rootless else {}),
        (str(path or usual), _read(path, usual)),
        ("environment", _from_environment(environ)),
        ("command line", dict(flags or {})),
    ):
        _convert(where, values, partial=True)
        _merge(merged, values)
    config = _convert("configuration", merged, partial=False)
    _check(config)
    return config


def _of_user(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        "socket": places.user_socket(environ),
        "state_directory": places.user_state(environ),
        "runtimes_directory": f"{places.user_configuration(environ)}/runtimes",
    }


def _read(path: Path | None, usual: Path) -> dict[str, Any]:
    try:
        with open(path or usual, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if path is None:
            return {}
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as exc:
        if path is None and isinstance(exc, PermissionError):
            return {}
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path or usual}: {exc}") from exc


_TABLES: Final = ("limits", "max_limits")
_TEXTS: Final = ("user", "socket_group", "socket_mode", "state_directory", "runtimes_directory")
_LISTS: Final = ("allowed_uids", "allowed_gids", "admin_uids", "readonly")


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """``SANDBOXD_JOBS=4``, ``SANDBOXD_LIMITS_MEMORY_BYTES=64M``; lists are comma-separated."""
    found: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(_PREFIX) or _OTHER_VARIABLES.match(name):
            continue
        key = name.removeprefix(_PREFIX).lower()
        table = next((table for table in _TABLES if key.startswith(table + "_")), None)
        if table:
            inner = key.removeprefix(table + "_")
            _require_known(name, inner, Limits.__struct_fields__)
            found.setdefault(table, {})[inner] = _from_text(text)
            continue
        _require_known(name, key, Config.__struct_fields__, exclude=("env", "mounts", *_TABLES))
        if key in _LISTS:
            found[key] = [_from_text(part) for part in text.split(",") if part]
        else:
            found[key] = text if key in _TEXTS else _from_text(text)
    return found


def _from_text(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"[1-9][0-9]*|0", text) else text


def _require_known(
    where: str, key: str, known: tuple[str, ...], exclude: tuple[str, ...] = ()
) -> None:
    if key not in known or key in exclude:
        raise ConfigError(f"environment: {where} is not a setting of sandboxd")


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if key in (*_TABLES, "mounts", "env") and isinstance(value, Mapping):
            into[key] = {**into.get(key, {}), **value}
        else:
            into[key] = value


def _convert(where: str, values: dict[str, Any], *, partial: bool) -> Config:
    """Check one source by itself, so that an error names the file it stands in."""
    plain = {key: _plain(key, value, where) for key, value in values.items()}
    if partial:
        values.update(plain)
    try:
        return msgspec.convert(plain, Config)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{where}: {tomlfile.explain(str(exc))}") from None


def _plain(key: str, value: Any, where: str) -> Any:
    """Texts with units become numbers: ``"10s"`` for ``…_ns``, ``"64M"`` for ``…_bytes``."""
    if isinstance(value, Mapping) and key in _TABLES:
        return {inner: _plain(inner, item, where) for inner, item in value.items()}
    if key == "socket_mode" and isinstance(value, str | int) and not isinstance(value, bool):
        return _octal(value, where)
    return tomlfile.plain(key, value, where)


def _octal(value: str | int, where: str) -> int:
    """TOML writes modes as 0o660 (an int); variables and quoted values as "660" or "0660"."""
    if isinstance(value, int):
        return value
    if not re.fullmatch(r"(0o?)?[0-7]{1,3}", value):
        raise ConfigError(f"{where}: socket_mode: {value!r} is not an octal file mode")
    return int(value.removeprefix("0o"), 8)


def _check(config: Config) -> None:
    """What one field alone cannot tell."""
    for name in Limits.__struct_fields__:
        if getattr(config.limits, name) > getattr(config.max_limits, name):
            raise ConfigError(f"limits.{name} is larger than max_limits.{name}")
    if config.collect_bytes > config.max_collect_bytes:
        raise ConfigError("collect_bytes is larger than max_collect_bytes")
    if config.slots + config.spares + config.warm_slots > _MAX_SLOTS:
        raise ConfigError(
            f"jobs, spare_slots and warm_slots: together at most {_MAX_SLOTS} are possible"
        )
    cpus = len(os.sched_getaffinity(0))
    if config.dedicated_cpus and config.slots > cpus:
        raise ConfigError(
            f"dedicated_cpus: {config.slots} jobs are more than the {cpus} processors; set jobs"
        )
    if config.max_limits.output_bytes > _MAX_OUTPUT:
        raise ConfigError(f"max_limits.output_bytes: at most {_MAX_OUTPUT} bytes are possible")
    if len(config.mounts) > 32:
        raise ConfigError(f"mounts: {len(config.mounts)} entries; at most 32 are possible")
    for name, mount in config.mounts.items():
        _check_path(f"mounts.{name}.source", mount.source)
        _check_path(f"mounts.{name}.target", mount.target)
    for path in config.readonly:
        _check_path("readonly", path)
    _check_path("state_directory", config.state_directory)
    _check_path("runtimes_directory", config.runtimes_directory)
    for key, value in config.env.items():
        if not key or "=" in key or "\0" in key + value:
            raise ConfigError(f"env: {key!r} cannot be an environment variable")


def _check_path(key: str, path: str) -> None:
    # The helper gets these as arguments of the form SOURCE:TARGET.
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or ":" in path or "\0" in path or path == "/":
        raise ConfigError(f"{key}: {path!r} must be an absolute path without '..' and ':'")
