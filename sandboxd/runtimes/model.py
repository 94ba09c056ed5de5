"""A runtime file: TOML written by us or by an administrator, checked as a whole when it is read."""

import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from sandboxd import tomlfile
from sandboxd.errors import ConfigError
from sandboxd.protocol import names
from sandboxd.protocol.models import Limits
from sandboxd.runtimes.template import BadTemplate, Template
from sandboxd.runtimes.versions import semantic

# A word that can stand in a command line, in front of "=VERSION" and on anybody's terminal.
Word = Annotated[str, Meta(pattern=r"\A[^\s=/,\x00-\x1f\x7f-\x9f]{1,64}\Z")]
Extension = Annotated[str, Meta(pattern=r"^\.[^\s/]{1,31}$")]
Command = Annotated[tuple[str, ...], Meta(min_length=1)]

LARGEST_FILE: Final = 64 * 1024


class VersionSource(Struct, frozen=True, forbid_unknown_fields=True):
    """How to find out the version (`version`)."""

    programs: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    """All must be there; when one of them changes, the version is found out again."""
    command: tuple[str, ...] = ()
    pattern: str = ""
    """Searched in what the command prints; its first group is the version."""
    fixed: str = ""
    """The version of a tool that does not say; then `command` is not needed."""


class StageFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One stage (`compile`, `run`)."""

    command: Command
    env: Mapping[str, str] = {}
    limits: Limits = Limits()


class Rename(Struct, frozen=True, forbid_unknown_fields=True):
    """The name a source gets whose own has none of the language's extensions (`rename`)."""

    main: str = ""
    extension: str = ""


class RuntimeFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One runtime as its file has it."""

    language: Word
    aliases: tuple[Word, ...] = ()
    runtime: str = ""
    environment: str = ""
    file_name: str = ""
    extensions: tuple[Extension, ...] = ()
    version: VersionSource
    compile: StageFile | None = None
    run: StageFile
    rename: Rename = Rename()


def parse(text: bytes, where: str) -> RuntimeFile:
    """The runtime in a file's bytes. Raises ConfigError that names the file and the key."""
    if len(text) > LARGEST_FILE:
        raise ConfigError(f"{where}: is larger than {LARGEST_FILE} bytes")
    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigError(f"{where}: {exc}") from exc
    for stage in ("compile", "run"):
        _plain_limits(values, stage, where)
    try:
        file = msgspec.convert(values, RuntimeFile)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{where}: {tomlfile.explain(str(exc))}") from None
    try:
        _check(file)
    except ValueError as exc:
        raise ConfigError(f"{where}: {exc}") from None
    return file


def digest(text: bytes) -> str:
    """What tells one file's content from another's."""
    import hashlib  # Takes 5 ms to import, and a daemon that only runs jobs does not need it.

    return hashlib.sha256(text).hexdigest()


def _plain_limits(values: dict[str, Any], stage: str, where: str) -> None:
    table = values.get(stage)
    limits = table.get("limits") if isinstance(table, dict) else None
    if isinstance(limits, dict):
        for key, value in limits.items():
            limits[key] = tomlfile.plain(key, value, f"{where}: {stage}.limits")


def _check(file: RuntimeFile) -> None:
    """What a field's type does not say. Raises ValueError that begins with the key."""
    _check_version(file.version)
    for key, stage in (("compile", file.compile), ("run", file.run)):
        if stage is not None:
            _check_stage(key, stage)
    if file.compile is not None and "{args}" in file.compile.command:
        raise ValueError("compile.command: {args} are the arguments of the program, for run only")
    for key, name in (("file_name", file.file_name), ("rename.main", file.rename.main)):
        if name:
            _check_name(key, name)
    if file.rename.extension and not re.fullmatch(r"\.[^\s/]{1,31}", file.rename.extension):
        raise ValueError(f"rename.extension: {file.rename.extension!r} is no extension")
    if file.environment and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", file.environment):
        raise ValueError(f"environment: {file.environment!r} is no name of an environment")


def _check_version(version: VersionSource) -> None:
    for program in version.programs:
        if not program or "\0" in program or ("/" in program and not program.startswith("/")):
            raise ValueError(f"version.programs: {program!r} is no program and no absolute path")
    if version.command and not version.pattern:
        raise ValueError("version.pattern is missing")
    if not version.command and not version.fixed:
        raise ValueError("version.command is missing")
    if any("\0" in text for text in version.command):
        raise ValueError("version.command: must not hold a NUL character")
    if version.fixed and semantic(version.fixed) is None:
        raise ValueError(f"version.fixed: {version.fixed!r} is no version")
    try:
        groups = re.compile(version.pattern).groups
    except re.error as exc:
        raise ValueError(f"version.pattern: {exc}") from None
    if version.command and groups < 1:
        raise ValueError("version.pattern: needs a group (…) around the version")


def _check_stage(key: str, stage: StageFile) -> None:
    try:
        Template(stage.command)
    except BadTemplate as exc:
        raise ValueError(f"{key}.command: {exc}") from None
    for name, value in stage.env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"{key}.env: {name!r} cannot be an environment variable")


def _check_name(key: str, name: str) -> None:
    try:
        names.check_name(name)
    except names.BadName as exc:
        raise ValueError(f"{key}: {exc}") from None
