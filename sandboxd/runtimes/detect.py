"""Finding out the version of a tool: in the sandbox, because even `--version` runs its code."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import msgspec

from sandboxd.protocol import status
from sandboxd.protocol.errors import INTERNAL, RequestError
from sandboxd.protocol.jobs import JobSpec, Stage
from sandboxd.protocol.models import Limits
from sandboxd.runtimes import inside, loader
from sandboxd.runtimes.versions import semantic

if TYPE_CHECKING:
    from sandboxd.config import Config
    from sandboxd.engine.jobs import Engine
    from sandboxd.engine.roots import Root, Roots
    from sandboxd.runtimes.model import RuntimeFile

# What a tool takes to say its version on a host that is busy: a JVM seconds, others nothing.
_WALL_TIME_NS: Final = 15_000_000_000
_OUTPUT_BYTES: Final = 64 * 1024
# Of either stream. Patterns look from each character on at all the digits that follow, so 64 KiB of
# them, which a tool of an imported environment may print, would hold up everybody for seconds.
_SEARCHED_BYTES: Final = 4 * 1024

ToolStamp = tuple[loader.Stamp, ...]
MISSING: Final[ToolStamp] = ()


class NotDetected(Exception):
    """The tool says no version; `passing` when it may another time."""

    def __init__(self, why: str, *, passing: bool) -> None:
        super().__init__(why)
        self.passing = passing


class Programs:
    """The tool of a runtime on the host: what is looked at to see whether it has changed."""

    def __init__(self, programs: tuple[str, ...], path: str) -> None:
        self._candidates = tuple(
            tuple([os.path.join(directory, program) for directory in path.split(":") if directory])
            for program in programs
        )

    def stamp(self) -> ToolStamp:
        """What differs when a program does. Links are followed to what is run in the end.

        MISSING when one of them is not there. Costs a stat for each directory it is not in.
        """
        found = []
        for candidates in self._candidates:
            for candidate in candidates:
                stamp = loader.stamp(candidate)
                if stamp is not None:
                    found.append(stamp)
                    break
            else:
                return MISSING
        return tuple(found)


def root_stamp(root: Root) -> ToolStamp:
    """The same for an environment, which never changes: another one has another directory."""
    return (loader.file_stamp(os.fstat(root.directory)),)


async def version(engine: Engine, config: Config, file: RuntimeFile) -> str:
    """Run the tool and read its version.

    Raises NotDetected, or RequestError when the tool could not be run, which says nothing about
    it. Takes no longer than the limits of the job; cancelling kills it.
    """
    source = file.version
    if not source.command:
        return semantic(source.fixed) or "0.0.0"
    result = await inside.run(engine, _job(engine.roots, config, file))
    if result.status in (status.CANCELLED, status.INTERNAL_ERROR):
        raise RequestError(INTERNAL, f"{source.command[0]} could not be run: {result.message}")
    if result.status not in (status.OK, status.NONZERO_EXIT):
        why = f"{source.command[0]} ended with status {result.status} {result.message}"
        raise NotDetected(why.rstrip(), passing=True)
    streams = (result.stdout[:_SEARCHED_BYTES], result.stderr[:_SEARCHED_BYTES])
    text = b"\n".join(streams).decode(errors="replace")
    found = re.search(source.pattern, text)
    number = semantic(found[1] or "") if found else None
    if number is None:
        number = semantic(source.fixed) if source.fixed else None
    if number is None:
        shown = " ".join(text.split())[:100]
        raise NotDetected(f"{source.command[0]} says no version but {shown!r}", passing=False)
    return number


def _job(roots: Roots, config: Config, file: RuntimeFile) -> JobSpec:
    """With the limits of the tool's own stage: what it needs to run, it needs for this."""
    most = config.max_limits
    asked = file.run.limits
    clamped = {
        name: min(getattr(asked, name) or getattr(config.limits, name), getattr(most, name))
        for name in Limits.__struct_fields__
    }
    limits = msgspec.structs.replace(
        Limits(**clamped),
        wall_time_ns=min(_WALL_TIME_NS, most.wall_time_ns),
        output_bytes=min(_OUTPUT_BYTES, most.output_bytes),
    )
    stage = Stage(
        argv=tuple(text.encode() for text in file.version.command),
        env=_environment(roots, config, file),
        cwd=b"",
        stdin=b"",
        limits=limits,
    )
    return JobSpec(run=stage, environment=file.environment)


def _environment(roots: Roots, config: Config, file: RuntimeFile) -> tuple[bytes, ...] | None:
    """Raises RequestError when the file's environment is not there any more."""
    if not file.run.env:
        return None
    strings = [f"{name}={value}".encode() for name, value in config.env.items()]
    if file.environment:
        strings = list(roots.find(file.environment).env) or strings
    strings += [f"{name}={value}".encode() for name, value in file.run.env.items()]
    return tuple({string.partition(b"=")[0]: string for string in strings}.values())
