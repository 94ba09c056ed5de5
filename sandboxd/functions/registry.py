"""The functions in use, prepared and in memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from sandboxd.functions import prepared
from sandboxd.functions.budget import Budget
from sandboxd.functions.prepared import Prepared
from sandboxd.functions.python_call import SOURCE_NAME
from sandboxd.protocol.errors import NOT_FOUND, RequestError
from sandboxd.protocol.jobs import InputFile
from sandboxd.protocol.limits import LIMIT_NAMES
from sandboxd.protocol.models import Limits
from sandboxd.protocol.runtimes import ANY_VERSION
from sandboxd.runtimes import plan as plans

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxd.config import Config
    from sandboxd.engine.roots import Roots
    from sandboxd.functions.model import Execution, Function
    from sandboxd.functions.store import Store
    from sandboxd.runtimes.catalog import Catalog
    from sandboxd.runtimes.plan import Plan, StagePlan

    Hold = Callable[[Function], Awaitable[None]]

Name = tuple[int, str, str]
"""Tenant, space, name."""

_MOST: Final = 4096
# Besides its code and files.
_OVERHEAD_BYTES: Final = 4096

_NO_LIMITS: Final = Limits()


class Registry:
    """Prepares functions, and keeps those that were used last."""

    def __init__(self, store: Store, config: Config, roots: Roots, runtimes: Catalog) -> None:
        self._store = store
        self._config = config
        self._roots = roots
        self._runtimes = runtimes
        self._kept: OrderedDict[Name, Prepared] = OrderedDict()
        self._bytes = 0
        # Who is finding a function that has not changed since.
        self._finding: dict[Name, set[object]] = {}
        # What is being read is not kept yet.
        self._reading = Budget(config.functions_cache_bytes)
        self.in_use = Budget(config.functions_cache_bytes)
        """Files of those that are run, which may be kept no more."""

    def kept(self, name: Name) -> Prepared | None:
        """The function, where no disk has to be read for it and no tool to be looked at.

        Raises RequestError `not_found` when its language is gone.
        """
        found = self._kept.get(name)
        if found is None:
            return None
        self._kept.move_to_end(name)
        if found.plan is not None and self._plan(found.function) is not found.plan:
            self.forget(name)
            return None
        return found

    async def find(self, name: Name) -> Prepared:
        """The function. Raises RequestError `not_found`, also when its environment, or its
        language in that version, is not there."""
        found = self.kept(name)
        if found is not None:
            return found
        attempt = object()
        try:
            while True:
                self._finding.setdefault(name, set()).add(attempt)
                made = await self._made(name)
                # Else it may be what was there before a change.
                if attempt in self._finding.get(name, ()):
                    self._keep(name, made)
                    return made
        finally:
            attempts = self._finding.get(name, set())
            attempts.discard(attempt)
            if not attempts:
                self._finding.pop(name, None)

    async def of(self, row: Execution, hold: Hold | None = None) -> Prepared:
        """The function of an execution, also when it was given another name since ``row`` was read.
        Raises RequestError `not_found`.

        ``hold`` is awaited, perhaps more than once, before one is read that may be large.
        """
        while True:
            name = (row.tenant, row.space, row.function)
            try:
                known = self.kept(name)
                if hold is not None and (known is None or known.large):
                    known = None
                    await hold(await self._store.function(*name))
                found = known or await self.find(name)
                if found.function.id == row.function_id:
                    return found
                text = f"the function {row.space}/{row.function} was deleted"
                error = RequestError(NOT_FOUND, text)
            except RequestError as exc:
                error = exc
            row = await self._store.execution(row.id, sent=False)
            if (row.tenant, row.space, row.function) == name:
                raise error

    async def _made(self, name: Name) -> Prepared:
        function = await self._store.function(*name)
        while True:
            try:
                return await self.prepare(function)
            except RequestError:
                # A change may have removed a file before it was read.
                before, function = function, await self._store.function(*name)
                if (function.id, function.revision) == (before.id, before.revision):
                    raise

    async def prepare(self, function: Function) -> Prepared:
        """Make a function ready without keeping it. Raises as `find` does."""
        plan = await self._settled(function) if function.kind == "json" else None
        attempt, size = object(), prepared.files_bytes(function)
        await self._reading.enter(attempt, size)
        try:
            return await self._read(function, plan)
        finally:
            self._reading.leave(attempt, size)

    async def _read(self, function: Function, plan: Plan | None) -> Prepared:
        files = [
            InputFile(file.path.encode(), file.mode, await self._store.content(file.sha256))
            for file in function.files
        ]
        if function.kind == "python":
            files.append(InputFile(SOURCE_NAME, 0o644, function.code.encode()))
        held = tuple(files)
        size = _OVERHEAD_BYTES + len(function.code) + sum(len(file.data) for file in held)
        made = Prepared(
            function=function,
            files=held,
            env=self._environment(function),
            context=prepared.context_json(function.context),
            limits=self.limits(function.limits, None if plan is None else plan.run),
            compile_limits=self.limits(_NO_LIMITS, plan.compile)
            if plan is not None and plan.compile is not None
            else None,
            result_bytes=self._config.result_bytes,
            collect_bytes=self._config.max_collect_bytes,
            plan=plan,
            size=size,
        )
        return prepared.with_program(made) if function.kind in ("program", "task") else made

    def forget(self, name: Name) -> None:
        """It was changed or removed."""
        self._finding.pop(name, None)
        found = self._kept.pop(name, None)
        if found is not None:
            self._bytes -= found.size

    def _keep(self, name: Name, made: Prepared) -> None:
        before = self._kept.pop(name, None)
        if before is not None:
            self._bytes -= before.size
        self._kept[name] = made
        self._bytes += made.size
        while len(self._kept) > _MOST or (
            self._bytes > self._config.functions_cache_bytes and len(self._kept) > 1
        ):
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size

    def _plan(self, function: Function) -> Plan | None:
        return self._runtimes.find(function.language, function.version or ANY_VERSION)

    async def _settled(self, function: Function) -> Plan:
        plan = self._plan(function)
        if plan is None:
            await self._runtimes.settle(function.language)
            plan = self._runtimes.choose(function.language, function.version or ANY_VERSION)
        return plan

    def _environment(self, function: Function) -> tuple[bytes, ...] | None:
        """None where the configured variables, or those of its root, are all there are."""
        base = dict(self._config.env)
        if function.environment:
            own = self._roots.find(function.environment).env
            pairs = [text.decode("utf-8", "surrogateescape").partition("=") for text in own]
            base = {name: value for name, _, value in pairs} or base
        if not function.env:
            return None
        return prepared.environment(base, function.env)

    def limits(self, own: Limits, plan: StagePlan | None = None) -> Limits:
        """All of them: the function's own, else those of its language, else the configured ones;
        never more than the most allowed."""
        if plan is not None:
            own = plans.merge(own, plan.limits) or own
        configured, most = self._config.limits, self._config.max_limits
        return Limits(
            *[
                min(getattr(own, name) or getattr(configured, name), getattr(most, name))
                for name in LIMIT_NAMES
            ]
        )
