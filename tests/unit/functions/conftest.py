"""A store in a directory of its own."""

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sandboxd.functions.model import Execution, Function, Retention
from sandboxd.functions.store import Store
from sandboxd.state import State, prepare

TENANT = 1000
NOW = time.time_ns()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = prepare(str(tmp_path / "state"), None, write=True)
    yield state
    state.close()


@asynccontextmanager
async def opened(state: State, retention: Retention | None = None) -> AsyncIterator[Store]:
    store = await Store.open(state, retention or Retention())
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
async def store(state: State) -> AsyncIterator[Store]:
    async with opened(state) as store:
        yield store


def a_function(**changes: Any) -> Function:
    fields: dict[str, Any] = {
        "tenant": TENANT,
        "name": "hello",
        "kind": "python",
        "code": "def main(args, context):\n    return args\n",
        "created_ns": NOW,
        "updated_ns": NOW,
    }
    return Function(**fields | changes)


def an_execution(function: Function, **changes: Any) -> Execution:
    fields: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "tenant": function.tenant,
        "space": function.space,
        "function": function.name,
        "function_id": function.id,
        "created_ns": NOW,
    }
    return Execution(**fields | changes)
