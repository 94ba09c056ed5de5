"""The store of functions: what a stored execution costs, with few of them and with many."""

from __future__ import annotations

import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import trio
from table import Row, Section
from times import percentile

from sandboxd.functions.model import Execution, Filter, Function, Outcome
from sandboxd.functions.store import Store
from sandboxd.state import prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Operation = Callable[[], Awaitable[object]]

FEW = 100
MANY = 100_000
MANY_QUICK = 20_000
ROUNDS = 9
ROUNDS_QUICK = 5
REPEATS = 20
TOGETHER = 500
FILLED_AT_ONCE = 1000
RATIO_TARGET = 2.0
TENANT = 1000
PAGE = 100


def measure(quick: bool) -> Section:
    """In two stores at the same time, so that what else the machine does falls on both."""
    return trio.run(_measure, MANY_QUICK if quick else MANY, ROUNDS_QUICK if quick else ROUNDS)


async def _measure(many: int, rounds: int) -> Section:
    async with _filled(FEW) as few, _filled(many) as full:
        rows = [
            await _compare(name, few.operations()[name], full.operations()[name], many, rounds)
            for name in few.operations()
        ]
        rows.append(await _together(full))
    return Section("Stored executions", rows)


class _Filled:
    """A store with executions of one function, which have ended."""

    def __init__(self, store: Store, function: Function, known: str) -> None:
        self.store = store
        self.function = function
        self.known = known

    def operations(self) -> dict[str, Operation]:
        by_name = Filter(space=self.function.space, function=self.function.name)
        return {
            "create": lambda: self.store.add_execution(execution(self.function)),
            "run to its end": self.run,
            "get": lambda: self.store.execution(self.known),
            f"list {PAGE}": lambda: self.store.executions(TENANT, limit=PAGE),
            f"list {PAGE} of a function": lambda: self.store.executions(TENANT, by_name, 0, PAGE),
            "list those that run": lambda: self.store.executions(TENANT, Filter(status="running")),
        }

    async def run(self) -> None:
        new = await self.store.add_execution(execution(self.function))
        await self.store.end_execution(new.id, Outcome(end_reason="normal", ended_ns=1, log=b"x"))


@asynccontextmanager
async def _filled(count: int) -> AsyncIterator[_Filled]:
    with tempfile.TemporaryDirectory(prefix="bench-store-") as directory:
        state = prepare(str(Path(directory) / "state"), None, write=True)
        store = await Store.open(state)
        try:
            function = await store.add_function(
                Function(tenant=TENANT, name="f", kind="python", code="def main(a, c): pass")
            )
            for start in range(0, count, FILLED_AT_ONCE):
                some = range(start, min(count, start + FILLED_AT_ONCE))
                stored = await store.add_executions([ended(function, n) for n in some])
            yield _Filled(store, function, stored[-1].id)
        finally:
            await store.aclose()
            state.close()


def execution(function: Function, **more: object) -> Execution:
    fields = {
        "id": str(uuid.uuid4()),
        "tenant": function.tenant,
        "space": function.space,
        "function": function.name,
        "function_id": function.id,
        "created_ns": time.time_ns(),
        "args": '{"a": 1, "b": [1, 2, 3]}',
    }
    return Execution(**fields | more)  # type: ignore[arg-type]


def ended(function: Function, number: int) -> Execution:
    return execution(function, status="ended", end_reason="normal", ended_ns=number + 1)


async def _compare(name: str, few: Operation, full: Operation, many: int, rounds: int) -> Row:
    """The median over the rounds of p50 with many / p50 with few."""
    pairs = [(await _p50(few), await _p50(full)) for _ in range(rounds)]
    ratio = median(full_ns / few_ns for few_ns, full_ns in pairs)
    few_ns, full_ns = median(a for a, _ in pairs), median(b for _, b in pairs)
    return Row(
        f"{name}, of {many:,} stored",
        f"{full_ns / 1e6:.3f} ms",
        target=f"≤ {RATIO_TARGET:g}x of {FEW}",
        floor=f"{few_ns / 1e6:.3f} ms",
        ratio=f"{ratio:.2f}x",
        met=ratio <= RATIO_TARGET,
        data={"few_ns": few_ns, "many_ns": full_ns, "many": many, "ratio": ratio},
    )


async def _p50(operation: Operation) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter_ns()
        await operation()
        times.append(time.perf_counter_ns() - began)
    return percentile(times, 0.50)


async def _together(filled: _Filled) -> Row:
    """As many at the same time: they share their commits."""
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(TOGETHER):
            nursery.start_soon(filled.store.add_execution, execution(filled.function))
    rate = TOGETHER / (time.perf_counter() - began)
    return Row(f"create, {TOGETHER} at a time", f"{rate:,.0f}/s", data={"per_second": rate})
