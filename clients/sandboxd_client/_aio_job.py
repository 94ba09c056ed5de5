"""A started job of the trio client."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import trio

from sandboxd.protocol.errors import RequestError
from sandboxd_client._wire import Notification, Response, chunks, ended
from sandboxd_client.errors import ConnectionLost
from sandboxd_client.result import ExecuteResult, Result, StagesResult, read_result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from sandboxd_client.aio import TrioClient

# To cancel a job when its block is left is worth this much of a wait, no more.
CANCEL_TIMEOUT_S = 5.0


class Waiter:
    """One task's wait: woken when there may be something for it, or to take over reading."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: trio.Event | None = None

    def wake(self) -> None:
        """Let the task look whether what it waits for is there."""
        if self._event is not None:
            self._event.set()

    async def sleep(self) -> None:
        """Until it is woken; the task has just looked."""
        self._event = trio.Event()
        await self._event.wait()


class TrioJobHandle:
    """A started job.

    Iterating gives its output as it comes, as pairs of "stdout" or "stderr" and bytes, when it was
    started with `stream`. What comes for this job while other tasks wait for theirs is kept in
    memory, up to the job's output limit: a job whose reader is slow should have a connection of
    its own. `async with` cancels a job that has not ended when the block is left.
    """

    def __init__(self, client: TrioClient, token: str, streams: bool) -> None:
        self.token = token
        #: "compile" or "run" once that stage has begun; known for jobs that stream.
        self.stage: str | None = None
        self._client = client
        self._streams = streams
        self._output: deque[tuple[str, bytes]] = deque()
        self._result: Result | StagesResult | RequestError | None = None
        self._waiters: set[Waiter] = set()
        self._asked = False

    def _notify(self, message: Notification) -> None:
        if message.method == "job.output":
            self._output.append((message.params["stream"], message.params["data"]))
        elif message.method == "job.stage":
            self.stage = message.params["stage"]
            self._output.append(("stage", message.params["stage"].encode()))
        elif message.method == "job.exit":
            self._ended(ended(message.params))
        for waiter in self._waiters:
            waiter.wake()

    def _ended(self, result: Result | StagesResult | RequestError) -> None:
        self._result = result
        self._client._jobs.pop(self.token, None)

    async def _wait(self, ready: Callable[[], bool]) -> None:
        waiter = Waiter()
        self._waiters.add(waiter)
        try:
            await self._client._wait(waiter, ready)
        finally:
            self._waiters.discard(waiter)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        while True:
            event = await self.next_event()
            if event is None:
                raise StopAsyncIteration
            if event[0] != "stage":
                return event

    async def next_event(self) -> tuple[str, bytes] | None:
        """The next output, or ("stage", its name) when a stage begins, in the order of their
        coming; None at the end."""
        await trio.lowlevel.checkpoint()
        if self._streams:
            await self._wait(lambda: bool(self._output) or self._result is not None)
        return self._output.popleft() if self._output else None

    async def wait(self) -> Result | StagesResult:
        """Wait for the end. Output that came until then can still be iterated over.

        Raises RequestError when the job was taken and then could not be run.
        """
        if self._result is not None:
            await trio.lowlevel.checkpoint()
        elif not self._streams and not self._asked:
            await self._ask()
        await self._wait(lambda: self._result is not None)
        if isinstance(self._result, Exception):
            raise self._result
        assert self._result is not None  # noqa: S101 - what _wait has waited for
        return self._result

    async def _ask(self) -> None:
        """Send the one job.wait; `_answered` gets the answer."""
        client = self._client
        msgid, data = client._wire.request("job.wait", {"job": self.token})
        client._waits[msgid] = self
        try:
            await client._send(data, ())
            self._asked = True
        finally:
            if not self._asked:
                del client._waits[msgid]

    def _answered(self, answer: Response) -> None:
        self._ended(answer.error or read_result(answer.result))
        for waiter in self._waiters:
            waiter.wake()

    async def write(self, data: bytes) -> None:
        """Give the job bytes on stdin; returns once the daemon has taken them.

        Another task should read the output of a job that answers while it reads.
        """
        for chunk in chunks(data):
            await self._client.call("job.write", {"job": self.token, "data": chunk})

    async def close_stdin(self) -> None:
        """Let the job see the end of its stdin."""
        await self._client.call("job.close_stdin", {"job": self.token})

    async def signal(self, signal: int | str) -> None:
        """Send a signal, by number or by name, to the job's main process."""
        await self._client.call("job.signal", {"job": self.token, "signal": signal})

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the job that its terminal has another size."""
        params = {"job": self.token, "rows": rows, "columns": columns}
        await self._client.call("job.resize", params)

    async def cancel(self) -> None:
        """Stop the job; its result will have the status `cancelled`."""
        await self._client.call("job.cancel", {"job": self.token})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._result is not None:
            return
        with trio.move_on_after(CANCEL_TIMEOUT_S, shield=True):
            # It may have ended by itself, or with the connection.
            with contextlib.suppress(RequestError, ConnectionLost):
                await self.cancel()


class TrioExecutionHandle(TrioJobHandle):
    """A started program of a runtime."""

    def __init__(self, client: TrioClient, answer: Mapping[str, Any], streams: bool) -> None:
        super().__init__(client, answer["job"], streams)
        #: The runtime that was chosen.
        self.language: str = answer["language"]
        self.version: str = answer["version"]

    if TYPE_CHECKING:

        async def wait(self) -> ExecuteResult: ...
