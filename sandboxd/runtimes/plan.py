"""A runtime with the configuration filled in, so that a request has little left to do."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET

from sandboxd import warm
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.limits import LIMIT_NAMES, LimitValues
from sandboxd.protocol.models import Limits
from sandboxd.protocol.runtimes import RuntimeInfo, StageInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd.config import Config
    from sandboxd.engine.roots import Roots
    from sandboxd.runtimes.runtime import Runtime, RuntimeStage
    from sandboxd.runtimes.template import Template

_NONE = Limits()


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage: everything but the request's own files, arguments and wishes."""

    template: Template
    env: tuple[bytes, ...] | None
    """The whole environment; None is the configured one."""
    variables: Mapping[str, bytes]
    """The same by name, each as `NAME=value`, for a request that adds to it."""
    limits: Limits | None
    """None where they are the configured ones."""
    memory_bytes: int
    """Of a request that asks for no other memory limit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One runtime, ready to be asked for."""

    runtime: Runtime
    run: StagePlan
    compile: StagePlan | None
    info: RuntimeInfo
    warm: bool
    """Its programs may run in an interpreter that waits."""


def make(runtime: Runtime, config: Config, roots: Roots) -> Plan:
    """Fill in the configuration. A limit above the most allowed becomes that: a runtime's file may
    be of somebody who does not know this server."""
    base = _environment(runtime, config, roots)
    run = _stage(runtime.run, config, base)
    compile_ = None if runtime.compile is None else _stage(runtime.compile, config, base)
    limits = StageInfo(
        compile=(compile_.limits if compile_ is not None else None) or _NONE,
        run=run.limits or _NONE,
    )
    info = RuntimeInfo(
        language=runtime.language,
        version=runtime.version,
        aliases=runtime.aliases,
        compiled=compile_ is not None,
        package=runtime.package,
        limits=limits,
        extensions=runtime.extensions,
        file_name=runtime.file_name or UNSET,
        runtime=runtime.runtime or UNSET,
        environment=runtime.environment or UNSET,
    )
    return Plan(runtime, run, compile_, info, _is_warm(runtime, config))


def _is_warm(runtime: Runtime, config: Config) -> bool:
    if runtime.package or runtime.environment or not config.warm_slots:
        return False
    return runtime.run.template.command[: len(warm.COMMAND)] == warm.COMMAND


def _environment(runtime: Runtime, config: Config, roots: Roots) -> dict[str, bytes]:
    """The variables a job has that brings none, by name."""
    strings = [f"{name}={value}".encode() for name, value in config.env.items()]
    if runtime.environment:
        with contextlib.suppress(RequestError):  # Removed: a job will say so.
            strings = list(roots.find(runtime.environment).env) or strings
    return {string.partition(b"=")[0].decode(errors="replace"): string for string in strings}


def _stage(stage: RuntimeStage, config: Config, base: Mapping[str, bytes]) -> StagePlan:
    own = {name: f"{name}={value}".encode() for name, value in stage.env.items()}
    variables = {**base, **own}
    limits = _differing(stage.limits, config.limits, config.max_limits)
    return StagePlan(
        template=stage.template,
        env=tuple(variables.values()) if stage.env else None,
        variables=variables,
        limits=limits,
        memory_bytes=(limits and limits.memory_bytes) or config.limits.memory_bytes,
    )


def _differing(own: Limits, configured: LimitValues, most: LimitValues) -> Limits | None:
    """The limits that are not the configured ones."""
    found = {}
    for name in LIMIT_NAMES:
        value = min(getattr(own, name) or getattr(configured, name), getattr(most, name))
        if value != getattr(configured, name):
            found[name] = value
    return Limits(**found) if found else None


def merge(asked: Limits | None, own: Limits | None) -> Limits | None:
    """What was asked for, else the runtime's own."""
    if asked is None or own is None:
        return asked or own
    return Limits(*[getattr(asked, name) or getattr(own, name) for name in LIMIT_NAMES])
