"""From the request of a client to the job that a runtime makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sandboxd.protocol import names
from sandboxd.protocol.errors import invalid
from sandboxd.protocol.jobs import (
    InputFile,
    JobSpec,
    Stage,
    check_env,
    check_patterns,
    check_string,
    check_strings,
    check_tty,
    text_or_bytes,
)
from sandboxd.protocol.runtimes import Program, check_distinct, check_program
from sandboxd.runtimes import plan as plans
from sandboxd.runtimes.template import extension, stem

if TYPE_CHECKING:
    from sandboxd.protocol.runtimes import ExecuteParams, StageLimits
    from sandboxd.runtimes.plan import Plan, StagePlan
    from sandboxd.runtimes.runtime import Runtime


def job_spec(plan: Plan, params: ExecuteParams, *, started: bool = False) -> JobSpec:
    """The job for `params`, to be run by `plan`. Raises RequestError.

    `started` says that it comes by `runtime.start` and may therefore stream.
    """
    program = check_program(params, started=started)
    files, sources = _stored(plan.runtime, program)
    compile_ = None
    if plan.compile is not None:
        compile_ = _stage(plan.compile, params, params.compile, sources, ())
    args = tuple([_argument(value, n) for n, value in enumerate(params.args or ())])
    run = _stage(plan.run, params, params.run, sources, args)
    if params.stdin:
        run = msgspec.structs.replace(run, stdin=text_or_bytes(params.stdin, "stdin"))
    return JobSpec(
        run=run,
        compile=compile_,
        files=files,
        collect=check_patterns(params.collect, "collect") if params.collect else (),
        collect_bytes=params.collect_bytes or 0,
        loopback=params.network == "loopback",
        mode=params.mode,
        file_locks=params.file_locks,
        output=params.output or False,
        tty=check_tty(params.tty),
        stream=params.stream or False,
        stdin_stream=params.stdin_stream or False,
        fds=params.fds,
        environment=plan.runtime.environment,
        client=params.client or "",
        warm=plan.warm,
    )


def _argument(value: object, index: int) -> bytes:
    data = value.encode() if type(value) is str else value
    return check_string(data, f"args[{index}]")


def _stage(
    plan: StagePlan,
    params: ExecuteParams,
    asked: StageLimits | None,
    sources: tuple[bytes, ...],
    args: tuple[bytes, ...],
) -> Stage:
    limits = plan.limits if asked is None else plans.merge(asked.limits, plan.limits)
    memory_bytes = (limits and limits.memory_bytes) or plan.memory_bytes
    argv = plan.template.argv(sources[0], sources, args, memory_bytes)
    env = plan.env
    if params.env:
        added = zip(params.env, check_env(params.env, ""), strict=True)
        env = tuple({**plan.variables, **dict(added)}.values())
    check_strings(argv, env or (), "args")
    return Stage(argv=argv, env=env, cwd=b"", stdin=b"", limits=limits)


# -- names of files ------------------------------------------------------------------------------


def _stored(runtime: Runtime, program: Program) -> tuple[tuple[InputFile, ...], tuple[bytes, ...]]:
    """The files under the names they get, and which of them the tools are given.

    A compiler goes by extensions, so the main source is given one of the language's where it has
    none, and so is a source that came without a name. Other sources without one of these
    extensions (a header, a table of data) are left as they are and not given to the tools.
    """
    files = program.files
    rename = runtime.rename
    if not (rename.extension or rename.main):
        return files, _fitting(runtime, [files[index].path for index in program.sources])
    renamed = list(files)
    for index in program.sources:
        is_main = index == program.sources[0]
        if is_main or not program.named[index]:
            path = _name(runtime, files[index].path, is_main=is_main)
            _check_length(path, index)
            renamed[index] = msgspec.structs.replace(files[index], path=path)
    stored = tuple(renamed)
    if len(stored) > 1:
        check_distinct(stored)
    return stored, _fitting(runtime, [stored[index].path for index in program.sources])


def _name(runtime: Runtime, path: bytes, *, is_main: bool) -> bytes:
    if _fits(runtime, path):
        return path
    directory = path[: path.rfind(b"/") + 1]
    if is_main and runtime.rename.main:
        return directory + runtime.rename.main.encode()
    suffix = runtime.rename.extension or extension(runtime.rename.main.encode()).decode()
    return stem(path) + suffix.encode()


def _check_length(path: bytes, index: int) -> None:
    try:
        names.check_name(path.decode())
    except names.BadName as exc:
        raise invalid(
            f"files[{index}].name", f"{exc}, with the extension that it is given"
        ) from None


def _fitting(runtime: Runtime, sources: list[bytes]) -> tuple[bytes, ...]:
    others = [path for path in sources[1:] if _fits(runtime, path)]
    return sources[0], *others


def _fits(runtime: Runtime, path: bytes) -> bool:
    known = runtime.extensions
    if runtime.rename.extension:
        known = (*known, runtime.rename.extension)
    return not known or extension(path).decode(errors="replace") in known
