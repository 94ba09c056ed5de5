"""The client for trio.

Theory of operation. Any number of tasks may use one `TrioClient`; each request is answered on its
own. There is no task of the client's: of the tasks that wait for something, one reads the socket
for all of them and passes the role on when it has what it waited for. So a single request costs
no change of tasks, and nothing is read that nobody waits for, which is the back-pressure.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

import trio

from sandboxd.protocol.errors import LocalProtocolError, RequestError, SandboxdError
from sandboxd_client import _aio_job
from sandboxd_client._aio_job import TrioExecutionHandle, TrioJobHandle, Waiter
from sandboxd_client._archive import OpenArchive
from sandboxd_client._connection import RECEIVE_BYTES, SURELY_TAKEN_BYTES, find_socket, rights
from sandboxd_client._functions import FunctionCalls
from sandboxd_client._wire import (
    Notification,
    Response,
    Wire,
    execute_params,
    job_params,
    request_error,
)
from sandboxd_client._wire import progress as progress_of
from sandboxd_client.errors import ConnectionLost, DaemonUnreachable
from sandboxd_client.result import ExecuteResult, Result, StagesResult, read_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from sandboxd_client._archive import Archive
    from sandboxd_client.types import (
        ExecuteOptions,
        Job,
        Progress,
        RunOptions,
        RuntimeInfo,
        SourceFile,
        Stage,
        StartExecuteOptions,
        StartOptions,
        Text,
    )

# A runtime that is asked for right after the daemon's start may have to be looked at first.
_DETECTION_S = 30.0

__all__ = ["TrioClient", "TrioExecutionHandle", "TrioJobHandle"]


class TrioClient(FunctionCalls):
    """A connection to the daemon for any number of tasks.

    Jobs that were started belong to the connection: closing it cancels them. After ConnectionLost
    make a new one. When a task is cancelled while it sends, the connection is closed, because half
    a message cannot be taken back; when it is cancelled while it waits, only its answer is lost.
    """

    def __init__(self, sock: trio.socket.SocketType) -> None:
        """Use a connected socket, which the client owns from now on. See `connect`."""
        self._socket = sock
        self._wire = Wire()
        self._sending = trio.Lock()
        self._reading = False
        self._lost: SandboxdError | None = None
        self._parked: dict[Waiter, None] = {}
        self._pending: dict[int, Waiter] = {}
        self._answers: dict[int, Response] = {}
        self._jobs: dict[str, TrioJobHandle] = {}
        # By the notification's method and what it is about.
        self._progress: dict[tuple[str, ...], Progress] = {}
        # A job.wait is asked once; who asked may be cancelled, and the answer is still wanted.
        self._waits: dict[int, TrioJobHandle] = {}
        # Of jobs whose start has not been seen by its task yet.
        self._early: dict[str, list[Notification]] = {}

    @classmethod
    async def connect(cls, socket: str | None = None) -> Self:
        """Connect to `socket`, else $SANDBOXD_SOCKET, else the default path.

        Raises DaemonUnreachable.
        """
        path = find_socket(socket)
        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await sock.connect(path)
        except OSError as exc:
            sock.close()
            raise DaemonUnreachable(path, exc) from exc
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def aclose(self) -> None:
        """Close the connection; jobs that still run are cancelled."""
        self._fail(ConnectionLost("the connection was closed"))
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._fail(ConnectionLost("the connection was closed"))

    @property
    def lost(self) -> SandboxdError | None:
        """Why the connection has ended; None while it has not."""
        return self._lost

    def _fail(self, reason: SandboxdError) -> None:
        """Close; everybody who waits gets `reason`."""
        if self._lost is None:
            self._lost = reason
        self._socket.close()
        for waiter in self._parked:
            waiter.wake()

    # Calls

    async def call(self, method: str, params: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        """Any method of the protocol: send `params`, return the result, raise RequestError."""
        msgid = await self._request(method, params, fds)
        try:
            return await self._answer(msgid)
        finally:
            self._forget(msgid)

    async def _request(self, method: str, params: Mapping[str, Any], fds: Sequence[int]) -> int:
        """Send a request; its answer is kept from now on, until `_forget`."""
        msgid, data = self._wire.request(method, params)
        self._pending[msgid] = Waiter()
        try:
            await self._send(data, fds)
        except BaseException:
            self._forget(msgid)
            raise
        return msgid

    async def _answer(self, msgid: int) -> Any:
        """Wait for the result of a request. When cancelled, it may be called again."""
        await self._wait(self._pending[msgid], lambda: msgid in self._answers)
        answer = self._answers[msgid]
        if answer.error is not None:
            raise answer.error
        return answer.result

    def _forget(self, msgid: int) -> None:
        """Drop the answer of a request, also if it is still to come."""
        self._pending.pop(msgid, None)
        self._answers.pop(msgid, None)

    async def info(self) -> dict[str, Any]:
        """`server.info`."""
        return dict(await self.call("server.info", {}))

    async def health(self) -> dict[str, Any]:
        """`server.health`; raises RequestError while the daemon cannot run jobs."""
        return dict(await self.call("server.health", {}))

    async def stats(self) -> dict[str, Any]:
        """`server.stats`."""
        return dict(await self.call("server.stats", {}))

    async def check(self) -> dict[str, Any]:
        """`server.check`: every kernel feature the sandbox uses."""
        return dict(await self.call("server.check", {}))

    @overload
    async def run(self, argv: Sequence[Text], **options: Unpack[RunOptions]) -> Result: ...
    @overload
    async def run(
        self, argv: Sequence[Text], *, compile: Stage, **options: Unpack[RunOptions]
    ) -> StagesResult: ...
    async def run(self, argv: Sequence[Text], **options: Any) -> Result | StagesResult:
        """Run a job and return its result. Raises RequestError when it was not taken.

        The job ends with the scope: it is cancelled when the task is.
        """
        # Not job.run, which gives no name to cancel by. The second message is on its way while
        # the program runs, so this takes no longer.
        async with await self.start(argv, **options) as job:
            return await job.wait()

    async def start(self, argv: Sequence[Text], **options: Unpack[StartOptions]) -> TrioJobHandle:
        """Start a job and return a handle on it. Raises RequestError when it was not taken."""
        params, fds = job_params(argv, options)
        answer = await self._started("job.start", params, fds)
        handle = TrioJobHandle(self, answer["job"], options.get("stream", False))
        self._add(handle)
        return handle

    async def _started(
        self, method: str, params: Mapping[str, Any], fds: Sequence[int]
    ) -> Mapping[str, Any]:
        """The answer of a method that starts a job, which is cancelled when this is."""
        msgid = await self._request(method, params, fds)
        try:
            return dict(await self._answer(msgid))
        except trio.Cancelled:
            patience_s = _aio_job.CANCEL_TIMEOUT_S
            if method == "runtime.start":
                patience_s += _DETECTION_S
            await self._cancel_unnamed(msgid, patience_s)
            raise
        finally:
            self._forget(msgid)

    def _add(self, handle: TrioJobHandle) -> None:
        self._jobs[handle.token] = handle
        for message in self._early.pop(handle.token, ()):
            handle._notify(message)

    async def _cancel_unnamed(self, msgid: int, patience_s: float) -> None:
        """Cancel a job whose name is still on its way. It takes no time to say: a daemon that does
        not is not there any more."""
        with trio.move_on_after(patience_s, shield=True) as scope:
            # It may have been refused, or ended by itself, or with the connection.
            with contextlib.suppress(RequestError, ConnectionLost):
                token = (await self._answer(msgid))["job"]
                await self.call("job.cancel", {"job": token})
        if scope.cancelled_caught:
            self._fail(ConnectionLost("sandboxd does not answer"))

    async def runtimes(self) -> list[RuntimeInfo]:
        """The languages there are, each in the versions there are."""
        return list((await self.call("runtime.list", {}))["runtimes"])

    async def execute(
        self,
        language: str,
        files: Sequence[Text | SourceFile],
        **options: Unpack[ExecuteOptions],
    ) -> ExecuteResult:
        """Run a program given by its source files, of which the first one is its main one.

        A file that is only text gets a name by itself. Raises RequestError, `not_found` when there
        is no such language in such a version. The program ends with the scope: it is cancelled
        when the task is.
        """
        async with await self.start_execute(language, files, **options) as job:
            return await job.wait()

    async def start_execute(
        self,
        language: str,
        files: Sequence[Text | SourceFile],
        **options: Unpack[StartExecuteOptions],
    ) -> TrioExecutionHandle:
        """Start a program given by its source files; see `execute`."""
        params, fds = execute_params(language, files, options)
        answer = await self._started("runtime.start", params, fds)
        handle = TrioExecutionHandle(self, answer, options.get("stream", False))
        self._add(handle)
        return handle

    async def batch(self, jobs: Iterable[Job]) -> list[Result | StagesResult | RequestError]:
        """Run many jobs; for each its result, or why it was not taken, in the same order."""
        params = list(jobs)
        if any("fds" in job for job in params):
            raise LocalProtocolError("descriptors cannot be passed in a batch")
        results = (await self.call("job.batch", {"jobs": params}))["results"]
        return [
            request_error(result["error"]) if "error" in result else read_result(result)
            for result in results
        ]

    # Packages

    async def environments(self) -> list[dict[str, Any]]:
        """The root file systems that jobs may run in, with their sizes and where they are from."""
        return list((await self.call("environment.list", {}))["environments"])

    async def import_environment(self, name: str, archive: Archive) -> dict[str, Any]:
        """Make the environment `name` of an archive, and return its description.

        `archive` is the path of a directory that is a root file system, of a tar archive of one, or
        of a container image as `docker save` or `skopeo copy … oci-archive:` write it; or a
        descriptor to read an archive from. Raises RequestError, `exists` for a name that is taken,
        and OSError for what cannot be read.
        """
        params = {"name": name, "fds": {"archive": 0}}
        with await trio.to_thread.run_sync(OpenArchive, archive) as opened:
            return dict(await self.call("environment.import", params, [opened.fd]))

    async def remove_environment(self, name: str) -> None:
        """Remove an environment. Jobs that use it finish first. Raises RequestError."""
        await self.call("environment.remove", {"name": name})

    async def packages(self) -> list[dict[str, Any]]:
        """`package.list`: the installed packages."""
        return list((await self.call("package.list", {}))["packages"])

    async def install_package(
        self,
        language: str,
        version: str,
        sha256: str,
        archive: int,
        progress: Progress | None = None,
    ) -> dict[str, str]:
        """`package.install`: have the daemon install what it reads from the descriptor `archive`.

        `progress` is called with the phase, bytes, and their total where it is known; with the
        first `download` the daemon begins to read. Raises RequestError. The installation goes on
        when the task is cancelled, until the connection is closed.
        """
        params = {"language": language, "version": version, "sha256": sha256}
        what = ("package.progress", language, version)
        if progress is not None:
            self._progress[what] = progress
        try:
            fds = {"archive": 0}
            return dict(await self.call("package.install", {**params, "fds": fds}, [archive]))
        finally:
            self._progress.pop(what, None)

    async def uninstall_package(self, language: str, version: str) -> dict[str, str]:
        """`package.uninstall`. Jobs that use the package finish. Raises RequestError."""
        params = {"language": language, "version": version}
        return dict(await self.call("package.uninstall", params))

    # The socket

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        """Send a request. Part of it may have to wait until the daemon reads on, which it does not
        do for a client that does not read; so something long is sent while somebody reads."""
        if len(data) <= SURELY_TAKEN_BYTES:
            await self._send_all(data, fds)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_meanwhile)
            await self._send_all(data, fds)
            nursery.cancel_scope.cancel()

    async def _read_meanwhile(self) -> None:
        with contextlib.suppress(SandboxdError):  # Whoever waits for an answer is told.
            await self._wait(Waiter(), lambda: False)

    async def _send_all(self, data: bytes, fds: Sequence[int]) -> None:
        sent = 0
        # Who sends waits for the answer next, so nearly always no other task has to run here.
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            if self._lost is None and fds:
                sent = await self._socket.sendmsg([data], rights(fds))
            elif self._lost is None:
                sent = self._send_now(data)
            while self._lost is None and sent < len(data):
                sent += await self._socket.send(memoryview(data)[sent:])
        except (BrokenPipeError, ConnectionResetError, trio.ClosedResourceError):
            pass  # What the daemon said last is still to be read.
        except trio.Cancelled:
            if sent:
                self._fail(ConnectionLost("a task was cancelled while it sent a request"))
            raise
        finally:
            self._sending.release()

    def _send_now(self, data: bytes) -> int:
        """How much of it the socket takes without a wait."""
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0

    async def _wait(self, waiter: Waiter, ready: Callable[[], bool]) -> None:
        """Return when `ready()`. Raises what ended the connection when it can never be."""
        self._parked[waiter] = None
        try:
            while not ready():
                if self._lost is not None:
                    raise self._lost
                if self._reading:
                    await waiter.sleep()
                else:
                    await self._read()
        finally:
            del self._parked[waiter]
            if not self._reading and self._parked:
                next(iter(self._parked)).wake()

    async def _read(self) -> None:
        """Read once and give everybody what is theirs."""
        self._reading = True
        try:
            data = await self._receive()
            if not data:
                raise ConnectionLost("sandboxd closed the connection")
            for message in self._wire.receive(data):
                self._deliver(message)
        except (OSError, trio.ClosedResourceError):
            self._fail(ConnectionLost("sandboxd closed the connection"))
        except SandboxdError as exc:
            self._fail(exc)
        finally:
            self._reading = False

    async def _receive(self) -> bytes:
        # What is read has just been asked for: trying before waiting would be in vain.
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with contextlib.suppress(BlockingIOError):
                return os.read(self._socket.fileno(), RECEIVE_BYTES)

    def _deliver(self, message: Response | Notification) -> None:
        if isinstance(message, Response):
            waiter = self._pending.get(message.msgid)
            if waiter is not None:
                self._answers[message.msgid] = message
                waiter.wake()
            elif message.msgid in self._waits:
                self._waits.pop(message.msgid)._answered(message)
            return
        params = message.params
        if message.method.endswith(".progress"):
            what = (message.method, params.get("language", ""), params.get("version", ""))
            if what in self._progress:
                self._progress[what](*progress_of(message))
            return
        token = params.get("job", "")
        handle = self._jobs.get(token)
        if handle is not None:
            handle._notify(message)
        else:
            self._early.setdefault(token, []).append(message)
