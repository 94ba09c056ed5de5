"""The blocking client."""

from __future__ import annotations

from _collections import deque  # type: ignore[import-not-found]

from sandboxd.protocol.errors import LocalProtocolError, RequestError
from sandboxd_client._connection import Connection
from sandboxd_client._functions import FunctionCalls
from sandboxd_client._wire import (
    Notification,
    Response,
    chunks,
    ended,
    execute_params,
    job_params,
    progress,
    request_error,
)
from sandboxd_client.errors import ConnectionLost
from sandboxd_client.result import ExecuteResult, Result, StagesResult, read_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self, Unpack, overload

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


class Client(FunctionCalls):
    """A connection to the daemon; each call blocks until it is answered.

    One thread at a time may use it. Jobs that were started belong to the connection: closing it
    cancels them. After ConnectionLost make a new one.
    """

    def __init__(self, socket: str | None = None) -> None:
        """Connect to `socket`, else $SANDBOXD_SOCKET, else the default path.

        Raises DaemonUnreachable.
        """
        self._take(Connection(socket))

    @classmethod
    def on(cls, connection: Connection) -> Self:
        """A client on a connection that is already there, which it owns from now on."""
        client = cls.__new__(cls)
        client._take(connection)
        return client

    def _take(self, connection: Connection) -> None:
        self._connection = connection
        self._answers: dict[int, Response] = {}
        self._jobs: dict[str, JobHandle] = {}
        self._progress: Progress | None = None
        # Of jobs whose start has not been answered yet.
        self._early: list[Notification] = []

    def close(self) -> None:
        """Close the connection; jobs that still run are cancelled."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, method: str, params: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        """Any method of the protocol: send `params`, return the result, raise RequestError."""
        msgid = self._connection.send(method, params, fds)
        while msgid not in self._answers:
            self._receive()
        answer = self._answers.pop(msgid)
        if answer.error is not None:
            raise answer.error
        return answer.result

    def _receive(self) -> None:
        """Wait for messages and put each where it belongs."""
        for message in self._connection.receive():
            if isinstance(message, Response):
                self._answers[message.msgid] = message
            else:
                self._deliver(message)

    def _deliver(self, message: Notification) -> None:
        if message.method.endswith(".progress"):
            if self._progress is not None:
                self._progress(*progress(message))
            return
        handle = self._jobs.get(message.params.get("job", ""))
        if handle is None:
            self._early.append(message)
        else:
            handle._notify(message)

    def info(self) -> dict[str, Any]:
        """`server.info`."""
        return dict(self.call("server.info", {}))

    def health(self) -> dict[str, Any]:
        """`server.health`; raises RequestError while the daemon cannot run jobs."""
        return dict(self.call("server.health", {}))

    def stats(self) -> dict[str, Any]:
        """`server.stats`."""
        return dict(self.call("server.stats", {}))

    def check(self) -> dict[str, Any]:
        """`server.check`: every kernel feature the sandbox uses."""
        return dict(self.call("server.check", {}))

    if TYPE_CHECKING:

        @overload
        def run(self, argv: Sequence[Text], **options: Unpack[RunOptions]) -> Result: ...
        @overload
        def run(
            self, argv: Sequence[Text], *, compile: Stage, **options: Unpack[RunOptions]
        ) -> StagesResult: ...

    def run(self, argv: Sequence[Text], **options: Any) -> Result | StagesResult:
        """Run a job and return its result. Raises RequestError when it was not taken."""
        params, fds = job_params(argv, options)
        return read_result(self.call("job.run", params, fds))

    def start(self, argv: Sequence[Text], **options: Unpack[StartOptions]) -> JobHandle:
        """Start a job and return a handle on it. Raises RequestError when it was not taken."""
        params, fds = job_params(argv, options)
        token = self.call("job.start", params, fds)["job"]
        handle = JobHandle(self, token, options.get("stream", False))
        self._add(handle)
        return handle

    def _add(self, handle: JobHandle) -> None:
        self._jobs[handle.token] = handle
        early, self._early = self._early, []
        for message in early:
            self._deliver(message)

    def runtimes(self) -> list[RuntimeInfo]:
        """The languages there are, each in the versions there are."""
        return list(self.call("runtime.list", {})["runtimes"])

    def execute(
        self,
        language: str,
        files: Sequence[Text | SourceFile],
        **options: Unpack[ExecuteOptions],
    ) -> ExecuteResult:
        """Run a program given by its source files, of which the first one is its main one.

        A file that is only text gets a name by itself. Raises RequestError, `not_found` when there
        is no such language in such a version.
        """
        params, fds = execute_params(language, files, options)
        return ExecuteResult(self.call("runtime.execute", params, fds))

    def start_execute(
        self,
        language: str,
        files: Sequence[Text | SourceFile],
        **options: Unpack[StartExecuteOptions],
    ) -> ExecutionHandle:
        """Start a program given by its source files; see `execute`."""
        params, fds = execute_params(language, files, options)
        answer = self.call("runtime.start", params, fds)
        handle = ExecutionHandle(self, answer, options.get("stream", False))
        self._add(handle)
        return handle

    def batch(self, jobs: Iterable[Job]) -> list[Result | StagesResult | RequestError]:
        """Run many jobs; for each its result, or why it was not taken, in the same order."""
        params = []
        for job in jobs:
            if "fds" in job:
                raise LocalProtocolError("descriptors cannot be passed in a batch")
            params.append(job)
        results = self.call("job.batch", {"jobs": params})["results"]
        return [
            request_error(result["error"]) if "error" in result else read_result(result)
            for result in results
        ]

    def environments(self) -> list[dict[str, Any]]:
        """The root file systems that jobs may run in, with their sizes and where they are from."""
        return list(self.call("environment.list", {})["environments"])

    def import_environment(self, name: str, archive: Archive) -> dict[str, Any]:
        """Make the environment `name` of an archive, and return its description.

        `archive` is the path of a directory that is a root file system, of a tar archive of one, or
        of a container image as `docker save` or `skopeo copy … oci-archive:` write it; or a
        descriptor to read an archive from. Raises RequestError, `exists` for a name that is taken,
        and OSError for what cannot be read.
        """
        from sandboxd_client._archive import OpenArchive

        params = {"name": name, "fds": {"archive": 0}}
        with OpenArchive(archive) as opened:
            return dict(self.call("environment.import", params, [opened.fd]))

    def remove_environment(self, name: str) -> None:
        """Remove an environment. Jobs that use it finish first. Raises RequestError."""
        self.call("environment.remove", {"name": name})

    def packages(self) -> list[dict[str, Any]]:
        """`package.list`: the installed packages."""
        return list(self.call("package.list", {})["packages"])

    def install_package(
        self,
        language: str,
        version: str,
        sha256: str,
        archive: int,
        progress: Progress | None = None,
    ) -> dict[str, str]:
        """`package.install`: have the daemon install what it reads from the descriptor `archive`.

        `progress` is called with the phase, bytes, and their total where it is known; with the
        first `download` the daemon begins to read. Raises RequestError.
        """
        params = {"language": language, "version": version, "sha256": sha256}
        self._progress = progress
        try:
            fds = {"archive": 0}
            return dict(self.call("package.install", {**params, "fds": fds}, [archive]))
        finally:
            self._progress = None

    def uninstall_package(self, language: str, version: str) -> dict[str, str]:
        """`package.uninstall`. Jobs that use the package finish. Raises RequestError."""
        return dict(self.call("package.uninstall", {"language": language, "version": version}))


class JobHandle:
    """A started job.

    Iterating gives its output as it comes, as pairs of "stdout" or "stderr" and bytes, when it was
    started with `stream`; reading is what keeps the job going, because the daemon stops taking its
    output when nobody reads. What comes for this job during other calls is kept in memory.
    `with` cancels a job that has not ended when the block is left.
    """

    def __init__(self, client: Client, token: str, streams: bool) -> None:
        self.token = token
        #: "compile" or "run" once that stage has begun; known for jobs that stream.
        self.stage: str | None = None
        self._client = client
        self._streams = streams
        self._output: deque[tuple[str, bytes]] = deque()
        self._result: Result | StagesResult | RequestError | None = None

    def _notify(self, message: Notification) -> None:
        if message.method == "job.output":
            self._output.append((message.params["stream"], message.params["data"]))
        elif message.method == "job.stage":
            self.stage = message.params["stage"]
        elif message.method == "job.exit":
            self._ended(ended(message.params))

    def _ended(self, result: Result | StagesResult | RequestError) -> None:
        self._result = result
        self._client._jobs.pop(self.token, None)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        while True:
            while self._output:  # One by one: who leaves the loop finds the rest next time.
                yield self._output.popleft()
            if self._result is not None or not self._streams:
                return
            self._client._receive()

    def wait(self) -> Result | StagesResult:
        """Wait for the end. Output that came until then can still be iterated over.

        Raises RequestError when the job was taken and then could not be run.
        """
        if self._result is None and not self._streams:
            self._ended(read_result(self._client.call("job.wait", {"job": self.token})))
        while self._result is None:
            self._client._receive()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def write(self, data: bytes) -> None:
        """Give the job bytes on stdin; returns once the daemon has taken them."""
        for chunk in chunks(data):
            self._client.call("job.write", {"job": self.token, "data": chunk})

    def close_stdin(self) -> None:
        """Let the job see the end of its stdin."""
        self._client.call("job.close_stdin", {"job": self.token})

    def signal(self, signal: int | str) -> None:
        """Send a signal, by number or by name, to the job's main process."""
        self._client.call("job.signal", {"job": self.token, "signal": signal})

    def resize(self, rows: int, columns: int) -> None:
        """Tell the job that its terminal has another size."""
        self._client.call("job.resize", {"job": self.token, "rows": rows, "columns": columns})

    def cancel(self) -> None:
        """Stop the job; its result will have the status `cancelled`."""
        self._client.call("job.cancel", {"job": self.token})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._result is None:
            try:  # noqa: SIM105 - contextlib costs 2 ms to import
                self.cancel()
            except (RequestError, ConnectionLost):
                pass  # It has ended by itself, or with the connection.


class ExecutionHandle(JobHandle):
    """A started program of a runtime."""

    def __init__(self, client: Client, answer: Mapping[str, Any], streams: bool) -> None:
        super().__init__(client, answer["job"], streams)
        #: The runtime that was chosen.
        self.language: str = answer["language"]
        self.version: str = answer["version"]

    if TYPE_CHECKING:

        def wait(self) -> ExecuteResult: ...
