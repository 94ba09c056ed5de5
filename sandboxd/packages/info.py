"""`pkg-info.json`: what a package says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

from sandboxd.protocol.models import MAX_COUNT, MAX_COUNT_32, Limits
from sandboxd.runtimes.model import Word
from sandboxd.runtimes.runtime import Runtime, from_package

if TYPE_CHECKING:
    from sandboxd.packages.use import Use

_MS: Final = 1_000_000

# Piston's names of limits that hold for both stages, and of those that hold for one.
_BOTH: Final = {
    "max_process_count": ("processes", 1, MAX_COUNT_32),
    "max_open_files": ("open_files", 1, MAX_COUNT_32),
    "max_file_size": ("file_size_bytes", 1, MAX_COUNT),
    "output_max_size": ("output_bytes", 1, MAX_COUNT),
}
_OF_STAGE: Final = {
    "memory_limit": ("memory_bytes", 1, MAX_COUNT),
    "timeout": ("wall_time_ns", _MS, MAX_COUNT),
    "cpu_time": ("cpu_time_ns", _MS, MAX_COUNT),
}

Words = Annotated[tuple[Word, ...], Meta(max_length=64)]
Overrides = Mapping[str, int | float]


class BadInfo(ValueError):
    """The package is not what it should be; the text names the key."""


class Provided(Struct, frozen=True):
    """A language of a package that has several (`provides`)."""

    language: Word
    aliases: Words | None = None
    limit_overrides: Overrides | None = None


class PackageInfo(Struct, frozen=True):
    """The file. Keys that are not here (`build_platform`, `dependencies`) change nothing."""

    language: str
    version: str
    aliases: Words | None = None
    provides: Annotated[tuple[Provided, ...], Meta(max_length=64)] | None = None
    limit_overrides: Overrides | None = None


def parse(data: bytes, language: str, version: str) -> PackageInfo:
    """What the file of the package ``language``-``version`` says. Raises BadInfo."""
    try:
        info = msgspec.json.decode(data, type=PackageInfo)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadInfo(str(exc)) from None
    if (info.language, info.version) != (language, version):
        found = f"{info.language[:64]}-{info.version[:64]}"
        raise BadInfo(f"it is of {found}, not of {language}-{version}")
    return info


def runtimes(
    info: PackageInfo, *, directory: str, compiled: bool, env: Mapping[str, str], use: Use
) -> tuple[Runtime, ...]:
    """The runtimes of an installed package: one, or one for each language it provides.

    ``directory`` is the package's inside the sandbox.
    """
    provided = info.provides or (Provided(info.language, info.aliases, info.limit_overrides),)
    return tuple(
        from_package(
            language=one.language,
            version=info.version,
            directory=directory,
            compiled=compiled,
            env=env,
            aliases=one.aliases or (),
            runtime=info.language if info.provides else "",
            compile_limits=limits(one.limit_overrides or {}, "compile"),
            run_limits=limits(one.limit_overrides or {}, "run"),
            use=use,
        )
        for one in provided
    )


def limits(overrides: Overrides, stage: str) -> Limits:
    """Piston's limits as ours; 0 or less means the configured one, and so does a name that Piston
    has not."""
    found = {}
    for key, value in overrides.items():
        ours = _BOTH.get(key) or _OF_STAGE.get(key.removeprefix(f"{stage}_"))
        if ours is not None and (key in _BOTH or key.startswith(f"{stage}_")) and value > 0:
            name, unit, most = ours
            found[name] = min(math.ceil(min(value, most) * unit), most)
    return Limits(**found)
