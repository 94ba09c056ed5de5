"""What the store takes of memory does not grow with what is stored."""

import ctypes
import ctypes.util
import uuid

import pytest

from sandboxd.functions.store import Store

from .conftest import a_function, an_execution

PAGE_CACHE = 2 << 20
ROUNDS = 12
TOGETHER = 1000


def highest() -> int:
    """The most that SQLite had at any time since this was asked for last."""
    library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    library.sqlite3_memory_highwater.restype = ctypes.c_longlong
    return int(library.sqlite3_memory_highwater(1))


async def test_many_rows_at_once(store: Store) -> None:
    """They touch a page of the index of ids each. In a savepoint each of these would be kept."""
    function = await store.add_function(a_function())
    highest()
    before = highest()
    if before < 10_000:
        pytest.skip("the sqlite3 module has a library of its own")
    for _ in range(ROUNDS):
        rows = [an_execution(function, id=str(uuid.uuid4())) for _ in range(TOGETHER)]
        await store.add_executions(rows)
    assert highest() < before + PAGE_CACHE + (1 << 20)
