"""Bodies and disconnects, with the messages an ASGI server would send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from sandboxd_rest.http import WATCHED, Disconnected, Refusal, Request, while_connected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

GONE = {"type": "http.disconnect"}


def request(
    receive: Callable[[], Awaitable[Any]], version: str = "2", state: dict[str, Any] | None = None
) -> Request:
    scope = {"http_version": version, "state": state or {}}
    return Request(scope, receive, {}, "peer", 10, 1.0)


def messages(*given: Any) -> Callable[[], Awaitable[Any]]:
    """These, and then nothing for ever."""
    left = list(given)

    async def receive() -> Any:
        if not left:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return left.pop(0)

    return receive


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_parts() -> None:
    asked = request(messages(part(b"ab"), part(b"cd"), part(b"", more=False)))
    assert await asked.body() == b"abcd"


async def test_a_body_that_is_too_large_is_not_waited_for() -> None:
    asked = request(messages(part(b"x" * 6), part(b"x" * 5)))
    with pytest.raises(Refusal) as caught:
        await asked.body()
    assert (caught.value.status, caught.value.of_body) == (400, True)
    assert (b"connection", b"close") in caught.value.headers


async def test_a_body_that_does_not_come(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Refusal) as caught:
        await request(messages(part(b"x"))).body()
    assert caught.value.status == 408


async def test_a_client_that_goes_away_in_the_middle_of_its_body() -> None:
    with pytest.raises(Disconnected):
        await request(messages(part(b"x"), GONE)).body()


async def test_what_is_done_while_the_client_is_there() -> None:
    async def answer() -> int:
        await trio.lowlevel.checkpoint()
        return 5

    assert await while_connected(request(messages()), answer) == 5


async def test_a_failure_comes_out_as_it_is() -> None:
    async def fail() -> int:
        raise Refusal(503, "busy")

    with pytest.raises(Refusal, match="busy"):
        await while_connected(request(messages()), fail)


async def test_a_disconnect_cancels(autojump_clock: trio.testing.MockClock) -> None:
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        try:
            await trio.sleep(1000)
        except trio.Cancelled:
            cancelled = True
            raise

    with pytest.raises(Disconnected):
        await while_connected(request(messages(GONE)), work)
    assert cancelled
    assert trio.current_time() < 1000


async def test_a_connection_that_ends_cancels(autojump_clock: trio.testing.MockClock) -> None:
    watched: set[trio.CancelScope] = set()
    asked = request(messages(), "1.1", {WATCHED: watched})

    async def end() -> None:
        await trio.sleep(1)
        for scope in watched:
            scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        with pytest.raises(Disconnected):
            await while_connected(asked, trio.sleep_forever)
    assert trio.current_time() < 1000
    assert watched == set()


async def test_cancelling_the_request_is_no_disconnect() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await while_connected(request(messages()), trio.sleep_forever)
    assert scope.cancelled_caught
