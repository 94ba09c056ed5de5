"""A function made ready to be run: everything but one call's own arguments and files.

What a prepared function needs is in memory, so that a call of it reads no disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sandboxd.functions import control, python_call
from sandboxd.protocol.errors import invalid
from sandboxd.protocol.jobs import InputFile, JobSpec, Stage, Step
from sandboxd.protocol.limits import LIMIT_NAMES
from sandboxd.protocol.models import Limits
from sandboxd.protocol.runtimes import ExecuteParams, SourceFile, StageLimits
from sandboxd.runtimes import request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd.functions.model import Function
    from sandboxd.runtimes.plan import Plan

RESULT_FD: Final = "3"
_FD_VARIABLE: Final = "SANDBOXD_RESULT_FD"
# The helper's word for it has 32 bits; 0 is none.
_PARTITIONS: Final = 2**32 - 1

# Where a task's files are: the sandbox has a link /task to it.
CONTROL: Final = b"task/" + control.NAME.encode()

_LARGE_BYTES: Final = 1024 * 1024

_json = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Call:
    """What one call brings."""

    args: bytes = b"null"
    """JSON."""
    stdin: bytes = b""
    files: tuple[InputFile, ...] = ()
    limits: Limits | None = None
    """What may lower the function's own; see `lowered`."""
    key_limits: Limits | None = None
    """Those of them that are the key's, which are for compiling, too."""
    client: str = ""
    output: bool = False
    collect: bool = True


@dataclass(frozen=True, slots=True)
class Prepared:
    """One revision of a function, ready."""

    function: Function
    files: tuple[InputFile, ...]
    """Its files with their bytes, the code of a Python function among them."""
    env: tuple[bytes, ...] | None
    """The whole environment; None for the configured one."""
    context: bytes
    """JSON."""
    limits: Limits
    """All set: the function's own, else the configured ones."""
    compile_limits: Limits | None
    """All set; of a `json` function that is compiled."""
    result_bytes: int
    collect_bytes: int
    command: tuple[bytes, ...] = ()
    """Of a `program` or `task` function."""
    umask: int = 0o022
    steps: tuple[Step, ...] = ()
    """Of a `task` whose control file has more than one command, in the place of `command`."""
    plan: Plan | None = None
    """Of a `json` function."""
    size: int = 0
    """About how many bytes of memory it takes."""

    @property
    def large(self) -> bool:
        """Whether its files are so much that not any number of such functions may be in use."""
        return self.size > _LARGE_BYTES

    @property
    def partition(self) -> int:
        """No slot passes from one function to another."""
        return 1 + self.function.id % _PARTITIONS

    def spec(self, call: Call) -> JobSpec:
        """The job of one call. Raises RequestError for what cannot be run."""
        kind = self.function.kind
        if kind == "python":
            return self._python(call)
        if kind == "json":
            return self._json(call)
        return self.job(call, self.command, call.stdin)

    def _python(self, call: Call) -> JobSpec:
        return self.job(call, python_call.CALL_ARGV, self._stdin(call), warm=True)

    def job(
        self, call: Call, argv: tuple[bytes, ...], stdin: bytes, *, warm: bool = False
    ) -> JobSpec:
        """One program with the function's files, environment and limits."""
        function = self.function
        run = Stage(
            argv=argv,
            env=self.env,
            cwd=b"",
            stdin=stdin,
            limits=lowered(self.limits, call.limits) if call.limits else self.limits,
            umask=self.umask,
        )
        return JobSpec(
            run=run,
            files=self.files + call.files if call.files else self.files,
            collect=self._patterns() if call.collect and function.outputs else (),
            collect_bytes=self.collect_bytes,
            environment=function.environment,
            client=call.client,
            output=call.output,
            result_bytes=self.result_bytes if function.kind in ("python", "json") else 0,
            partition=self.partition,
            warm=warm,
            steps=self.steps,
        )

    def _json(self, call: Call) -> JobSpec:
        """By the language's runtime, which says how it is compiled and run."""
        if self.plan is None:  # It has been asked for before this was made.
            raise invalid("language", "is not known yet")
        function = self.function
        limits = lowered(self.limits, call.limits) if call.limits else self.limits
        params = ExecuteParams(
            language=function.language,
            files=[SourceFile(data=function.code), *_sources(self.files + call.files)],
            stdin=self._stdin(call),
            env={**function.env, _FD_VARIABLE: RESULT_FD},
            compile=self._compile(call),
            run=StageLimits(limits),
            collect=[port.path for port in function.outputs] if call.collect else None,
            collect_bytes=self.collect_bytes,
            output=call.output,
            client=call.client,
        )
        spec = request.job_spec(self.plan, params)
        return msgspec.structs.replace(
            spec, result_bytes=self.result_bytes, partition=self.partition
        )

    def _compile(self, call: Call) -> StageLimits | None:
        if self.compile_limits is None or call.key_limits is None:
            return None
        return StageLimits(lowered(self.compile_limits, call.key_limits))

    def _stdin(self, call: Call) -> bytes:
        return b'{"args":' + call.args + b',"context":' + self.context + b"}"

    def _patterns(self) -> tuple[bytes, ...]:
        return tuple([_literal(port.path).encode() for port in self.function.outputs])


def _sources(files: tuple[InputFile, ...]) -> list[SourceFile]:
    """Files that are there and not given to the language's tools."""
    return [
        SourceFile(data=file.data, name=file.path.decode(), source=False, mode=file.mode)
        for file in files
    ]


_SPECIAL: Final = str.maketrans({"*": "[*]", "?": "[?]", "[": "[[]"})


def _literal(path: str) -> str:
    """A pattern for that one path."""
    return path.translate(_SPECIAL)


def with_program(prepared: Prepared) -> Prepared:
    """With what runs for a `program` or a `task`. Raises RequestError."""
    function = prepared.function
    if function.kind != "task" or function.command:
        argv = tuple(
            [part.encode() if isinstance(part, str) else part for part in function.command]
        )
        return replace(prepared, command=argv)
    steps = _controlled(prepared.files)
    if len(steps) == 1 and not steps[0].guest:  # A plain job, as most tasks are.
        return replace(prepared, command=steps[0].argv, umask=steps[0].umask)
    return replace(prepared, steps=steps)


def _controlled(files: tuple[InputFile, ...]) -> tuple[Step, ...]:
    for file in files:
        if file.path == CONTROL:
            try:
                return control.steps(control.parse(file.data))
            except control.BadControl as exc:
                raise invalid("files", str(exc)) from None
    raise invalid("files", f"a task needs a file {CONTROL.decode()}")


def environment(base: Mapping[str, str], own: Mapping[str, str]) -> tuple[bytes, ...]:
    """Variables as execve takes them."""
    return tuple([f"{name}={value}".encode() for name, value in {**base, **own}.items()])


def files_bytes(function: Function) -> int:
    """Of its stored files, which are read to make it ready."""
    return sum(file.bytes for file in function.files)


def context_json(context: Mapping[str, Any]) -> bytes:
    """The context as the function gets it."""
    return _json.encode(context)


def lowered(limits: Limits, other: Limits | None) -> Limits:
    """The lower of each two that are set."""
    if other is None:
        return limits
    return Limits(*[_lower(getattr(limits, name), getattr(other, name)) for name in LIMIT_NAMES])


def _lower(one: int | None, other: int | None) -> int | None:
    if not one or not other:
        return one or other
    return min(one, other)
