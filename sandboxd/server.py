"""The server: accepts clients, knows the methods, answers for the daemon as a whole."""

import errno
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

import trio

import sandboxd
from sandboxd import methods, runtime_methods
from sandboxd.batch import batch
from sandboxd.check import Checker
from sandboxd.config import Config
from sandboxd.connection import LATER, Connection
from sandboxd.engine.aside import OURS, Closer
from sandboxd.engine.jobs import Engine
from sandboxd.environments import methods as environment_methods
from sandboxd.environments.store import Environments
from sandboxd.functions import methods as function_methods
from sandboxd.functions.service import Functions
from sandboxd.listener import Listener
from sandboxd.logs import fields
from sandboxd.packages import methods as package_methods
from sandboxd.packages.installed import Packages
from sandboxd.peer import Peer, identify
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import BUSY, INTERNAL, PERMISSION_DENIED, RequestError
from sandboxd.protocol.models import NoParams
from sandboxd.runtimes.catalog import Catalog
from sandboxd.untaken import Untaken

_log = logging.getLogger("sandboxd.server")

PROTOCOL_VERSION: Final = 1
_FEATURES: Final = (
    "batch", "collect", "compile", "environments", "fds", "functions", "packages", "runtimes",
    "stream", "tty",
)  # fmt: skip
# Out of descriptors or memory: what is open goes on, new clients wait in the backlog.
_OVERLOADED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_OVERLOAD_PAUSE_S: Final = 0.1
_ACCEPTS_PER_WAKEUP: Final = 16
# Descriptors that are not for connections: the daemon's own, and those of each place's job (its
# pipes, its passed or sealed input).
_RESERVED_FDS: Final = 32
_FDS_PER_PLACE: Final = 8
_MIN_CONNECTIONS: Final = 4
_REFUSED_RETRY_NS: Final = 1_000_000_000

Handler = Callable[[Connection, int, Any], object]


class Server:
    """Everything the connections share."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        checker: Checker,
        runtimes: Catalog,
        environments: Environments,
        packages: Packages,
        functions: Functions,
        *,
        private: bool,
    ) -> None:
        self.config = config
        self.engine = engine
        self.runtimes = runtimes
        self.environments = environments
        self.packages = packages
        self.functions = functions
        self.looking = runtime_methods.Looking(config)
        self.stopping = False
        self.untaken = Untaken(config.max_write_buffer_bytes)
        self.connections: set[Connection] = set()
        self.methods: dict[str, Handler] = {
            "server.info": self._info,
            "server.health": self._health,
            "server.stats": self._stats,
            "server.check": self._check,
            "job.run": methods.run,
            "job.start": methods.start,
            "job.wait": methods.wait,
            "job.write": methods.write,
            "job.close_stdin": methods.close_stdin,
            "job.signal": methods.send_signal,
            "job.resize": methods.resize,
            "job.cancel": methods.cancel,
            "job.batch": batch,
            "environment.list": environment_methods.list_all,
            "environment.import": environment_methods.import_archive,
            "environment.remove": environment_methods.remove,
            "package.list": package_methods.list_all,
            "package.install": package_methods.install,
            "package.uninstall": package_methods.uninstall,
            "runtime.list": runtime_methods.list_runtimes,
            "runtime.execute": runtime_methods.execute,
            "runtime.start": runtime_methods.start,
            **function_methods.HANDLERS,
        }
        self.accepting = trio.CancelScope()
        self._max_connections = _affordable(config.max_connections, engine.scheduler.places)
        self._private = private
        self._checker = checker
        self._by_uid: Counter[int] = Counter()
        # Each for as long as somebody has it: a connection, a job, a thread that cannot close.
        self._closers: WeakValueDictionary[int, Closer] = WeakValueDictionary()
        self._started_ns = time.monotonic_ns()

    # -- accepting ---------------------------------------------------------------------------

    async def serve(self, listener: Listener) -> None:
        """Accept clients until `accepting` is cancelled, then serve on those that are there.

        Closes the listener. Cancelling this closes every connection.
        """
        async with trio.open_nursery() as nursery:
            try:
                with self.accepting:
                    await self._accept(listener.sock, nursery)
            finally:
                trio.lowlevel.notify_closing(listener.sock)
                listener.close()

    async def _accept(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                self._accept_some(sock, nursery)
            except OSError as exc:
                if exc.errno not in _OVERLOADED:
                    raise
                _log.error("cannot accept clients %s", fields(why=exc.strerror))
                await trio.sleep(_OVERLOAD_PAUSE_S)

    def _accept_some(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        for _ in range(_ACCEPTS_PER_WAKEUP):
            try:
                client, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            client.setblocking(False)
            try:
                peer = identify(client, self.config)
            except OSError:
                OURS.close((client.detach(),))
                continue
            refusal = self._refusal(peer)
            if refusal is None:
                # Counted here: of many that come at once none has had its turn when the next is
                # accepted.
                self._by_uid[peer.uid] += 1
                connection = Connection(self, client, peer)
                self.connections.add(connection)
                nursery.start_soon(self._serve_client, connection)
            else:
                _refuse(client, refusal, self.closer(peer.uid))

    def _refusal(self, peer: Peer) -> RequestError | None:
        if self._private and not peer.can_run:
            return RequestError(PERMISSION_DENIED, f"this sandboxd is private, not for {peer.uid}")
        mine, all_ = self._by_uid[peer.uid], len(self.connections)
        if all_ < self._max_connections and mine < self.config.max_connections_per_uid:
            return None
        return RequestError(
            BUSY, "too many connections; close some", {"retry_after_ns": _REFUSED_RETRY_NS}
        )

    async def _serve_client(self, connection: Connection) -> None:
        peer = connection.peer
        try:
            await connection.run()
        except Exception:
            # A mistake of ours on one connection must not end all the others.
            _log.exception("a connection failed %s", fields(uid=peer.uid))
        finally:
            self.connections.discard(connection)
            self._by_uid[peer.uid] -= 1
            if not self._by_uid[peer.uid]:
                del self._by_uid[peer.uid]

    def closer(self, uid: int) -> Closer:
        """Of what this user passes."""
        return self._closers.setdefault(uid, Closer())

    # -- shutting down -----------------------------------------------------------------------

    async def finish(self, timeout_s: float, last_words_s: float = 1.0) -> None:
        """Take no new jobs, let the present ones end, cancel what has not in time, and see the
        answers off."""
        self.stopping = True
        self.functions.pause()
        with trio.move_on_after(timeout_s):
            await self.engine.wait_idle()
        await self.functions.finish()
        for connection in self.connections:
            for job in list(connection.jobs.live):
                self.engine.cancel(job, "sandboxd is shutting down")
        with trio.move_on_after(last_words_s):
            await self.engine.wait_idle()
            for connection in list(self.connections):
                await connection.flushed()

    # -- server.* ----------------------------------------------------------------------------

    def _info(self, connection: Connection, msgid: int, params: NoParams) -> object:
        config, hello = self.config, self.engine.link.hello
        recycles = hello is None or bool(hello.recycles)
        return {
            "name": "sandboxd",
            "version": sandboxd.__version__,
            "protocol": PROTOCOL_VERSION,
            "helper": {
                "abi": hello.abi if hello else None,
                "pid": hello.pid if hello else None,
                "starts": self.engine.link.starts,
            },
            "limits": config.limits,
            "max_limits": config.max_limits,
            "cgroup": hello.cgroup_version if hello else None,
            "privileges": self._checker.weaker.mode,
            "modes": ["recycled", "fresh"] if recycles else ["fresh"],
            "mounts": {name: mount.target for name, mount in config.mounts.items()},
            "env": dict(config.env),
            "tenant": connection.peer.uid,
            "features": _FEATURES,
        }

    def _health(self, connection: Connection, msgid: int, params: NoParams) -> object:
        if not self.engine.link.up:
            raise RequestError(INTERNAL, "the helper is down; jobs wait until it is back")
        return {"status": "ok", "uptime_ns": self._uptime_ns()}

    def _uptime_ns(self) -> int:
        return time.monotonic_ns() - self._started_ns

    def _stats(self, connection: Connection, msgid: int, params: NoParams) -> object:
        async def answer() -> None:
            connection.answer(msgid, await self._collect_stats())

        connection.start_soon(answer)
        return LATER

    async def _collect_stats(self) -> object:
        scheduler = self.engine.scheduler
        slots = await self.engine.link.stats(self.config.helper_timeout_ns / 1e9)
        numbers = slots._asdict() if slots is not None else {}
        numbers.pop("type", None)
        return {
            "jobs": dict(self.engine.counts),
            "queue": {
                "running": scheduler.running,
                "waiting": scheduler.waiting,
                "capacity": scheduler.capacity,
            },
            "slots": numbers,
            "connections": len(self.connections),
            "uptime_ns": self._uptime_ns(),
        }

    def _check(self, connection: Connection, msgid: int, params: NoParams) -> object:
        connection.peer.require_run()

        async def answer() -> None:
            connection.answer(msgid, await self._checker.report())

        connection.start_soon(answer)
        return LATER


def _affordable(configured: int, places: int) -> int:
    """So many connections that jobs never run out of descriptors for lack of a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = soft - _RESERVED_FDS - _FDS_PER_PLACE * places
    return max(_MIN_CONNECTIONS, min(configured, left))


def _refuse(client: socket.socket, refusal: RequestError, closer: Closer) -> None:
    """Say why, as far as the socket takes it at once, and close."""
    try:
        client.send(rpc.encode_notification("error", rpc.error_map(refusal)))
    except OSError:
        return
    finally:
        closer.close((client.detach(),))
