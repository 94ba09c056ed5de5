"""Large values are the same JSON as small ones, and keep nobody waiting."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from msgspec import Struct

from sandboxd.functions import definitions, large_json
from sandboxd.protocol.errors import RequestError

MIB = 1024 * 1024


class Params(Struct):
    args: Any = None


@pytest.mark.parametrize(
    "value",
    [0, "ä\n", [], {}, [[], {}], {"a": {"b": [1.5, None, True]}, "ä": "x"}, [[1], 2, {"k": [3]}],
     list(range(2000)), [[n] for n in range(2000)], {str(n): n for n in range(2000)}, {1: [2]},
     [float("nan")], {"a": b"x"}, {b"a": 1}, [*range(600), b"x"], [[b"x"]]],
)  # fmt: skip
def test_it_is_the_same(value: object) -> None:
    def text(encode: Any) -> object:
        try:
            return encode(value, "args")
        except RequestError as error:
            return error.code

    assert text(large_json.to_json) == text(definitions.to_json)


def test_too_deep() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(RequestError):
        large_json.to_json(value, "args")


async def test_others_go_on() -> None:
    value = [[n, "x"] for n in range(300_000)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.001)
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        found = await large_json.with_json(Params(value), "args", 2 * MIB)
        nursery.cancel_scope.cancel()
    assert found.args == definitions.to_json(value, "args")
    assert turns > 5
