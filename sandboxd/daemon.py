"""The life of the daemon: start-up in order, serving, orderly end.

As root, of the host or of a user namespace: read the configuration, make the cgroups, bind the
socket, start the helper. Then give up every privilege, for good. Without: prove by the self test
that the limits hold, say READY, serve.
"""

import contextlib
import errno
import gc
import logging
import os
import resource
import signal
from dataclasses import dataclass
from typing import Final

import trio

from sandboxd import cgroups, listener, privileges, rootless, selftest, state, systemd, warm
from sandboxd.cgroups import Groups
from sandboxd.check import Checker, KernelCheck, start_kernel_check
from sandboxd.config import Config
from sandboxd.engine.helper import Keeper, start_keeper
from sandboxd.engine.jobs import Engine
from sandboxd.environments.store import Environments
from sandboxd.errors import HostError
from sandboxd.functions import python_call
from sandboxd.functions.service import Functions
from sandboxd.listener import Listener
from sandboxd.logs import fields
from sandboxd.packages.installed import Packages
from sandboxd.privileges import Identity
from sandboxd.rootless import User
from sandboxd.runtimes.cache import Cache
from sandboxd.runtimes.catalog import Catalog
from sandboxd.runtimes.loader import Sources
from sandboxd.server import Server
from sandboxd.state import State
from sandboxd.weaker import Weaker

_log = logging.getLogger("sandboxd")

# Where jobs see the packages: the path that packages made for Piston may have in themselves.
PACKAGES_TARGET: Final = "/piston/packages"

# For the keeper to kill what runs and remove the cgroups.
_KEEPER_TIMEOUT_S: Final = 10.0
# For the last answers, and for what runs to be stored.
_LAST_WORDS_S: Final = 10.0
_PRECEDENCE: Final = -10  # nice value, as the helper's
_SELFTEST_TIMEOUT_S: Final = 20.0
# A judge's jobs are many and short-lived: collect seldom, and never what was there at the start.
_GC_THRESHOLDS: Final = (20_000, 20, 50)


@dataclass(slots=True)
class Started:
    """What was made with root's privileges."""

    config: Config
    user: User | None
    """Who started the daemon without being root."""
    groups: Groups
    keeper: Keeper
    kernel: KernelCheck
    listener: Listener | None
    probe: bytes
    state: State
    runtimes: Sources


def acquire(config: Config, *, listen: bool, keep: bool) -> Started:
    """Everything that needs privileges, then giving them up. Raises HostError or ConfigError.

    ``listen``: for a daemon that serves. ``keep``: it may write its state directory.
    """
    _open_standard_descriptors()
    _raise_descriptor_limit()
    user = rootless.find_user() if rootless.is_needed() else None
    if user is not None:
        config = rootless.serve_alone(config, user)
    readonly = config.readonly_directories()
    probe = selftest.read_probe()
    runtimes = Sources(config.runtimes_directory)
    # Without root only from outside of a new namespace can what a dead daemon left be killed.
    groups = cgroups.prepare(user=user.name if user else "")
    sock = None
    try:
        if user is not None:
            rootless.enter_namespaces(user)
        identity = _identity(config, user)
        kept = state.prepare(config.state_directory, identity, write=keep)
        if listen:
            sock = _listener(config, identity)
        kernel = start_kernel_check()
        keeper = start_keeper([*_arguments(config, readonly, kept), *groups.arguments()])
    except BaseException:
        if sock is not None:
            sock.close()
        groups.remove()
        raise
    started = Started(config, user, groups, keeper, kernel, sock, probe, kept, runtimes)
    _schedule()
    try:
        privileges.drop(identity)
        _check_reachable(config, kept)
        kept.clean()
    except BaseException:
        release(started)
        raise
    return started


def release(started: Started) -> None:
    """Undo `acquire` after a failed start, as far as the privileges that are left allow."""
    if started.listener is not None:
        started.listener.close()
    started.keeper.close()
    with contextlib.suppress(Exception):
        started.keeper.process.wait(_KEEPER_TIMEOUT_S)


def _listener(config: Config, identity: Identity) -> Listener:
    try:
        passed = systemd.listen_fds()
    except OSError as exc:
        raise HostError(f"LISTEN_FDS promises a socket that is not there: {exc.strerror}") from exc
    return listener.adopt(passed) if passed else listener.bind(config, identity)


def _identity(config: Config, user: User | None) -> Identity:
    """Whose privileges are left. An ordinary user is root of the namespace by name only."""
    if user is not None:
        return Identity(0, 0)
    return privileges.choose_identity(config.user, fallback_uid=config.uid_base - 1)


def _check_reachable(config: Config, kept: State) -> None:
    """What sandboxes show, they must reach without root's rights, as sandboxd does by now."""
    shown = {f"mounts.{name}.source": mount.source for name, mount in config.mounts.items()}
    if kept.writable:
        shown["state_directory"] = str(kept.packages)
    for key, path in shown.items():
        try:
            os.close(os.open(path, os.O_PATH | os.O_CLOEXEC))
        except OSError as exc:
            hint = "; every directory above it must be searchable by others (chmod o+x)"
            hint = hint if exc.errno == errno.EACCES else ""
            raise HostError(f"{key}: {path}: {exc.strerror}{hint}") from exc


def _arguments(config: Config, readonly: list[str], kept: State) -> list[str]:
    """The helper's configuration. Slots are made with the usual limits, so that a job with these
    needs no change."""
    packages = [f"readonly={kept.packages}:{PACKAGES_TARGET}"] if kept.packages.is_dir() else []
    return [
        f"slots={config.slots}",
        f"spare={config.spares}",
        f"uid_base={config.uid_base}",
        f"output_max={config.max_limits.output_bytes}",
        f"disk_bytes={config.limits.disk_bytes}",
        f"disk_inodes={config.limits.disk_inodes}",
        f"memory_bytes={config.limits.memory_bytes}",
        f"processes={config.limits.processes}",
        f"core_scheduling={config.core_scheduling:d}",
        f"dedicated_cpus={config.dedicated_cpus:d}",
        *(f"readonly={path}" for path in readonly),
        *packages,
        *warm.arguments(config, readonly, python_call.CALLER_FILE),
        *(f"mount={mount.source}:{mount.target}" for mount in config.mounts.values()),
    ]


def _open_standard_descriptors() -> None:
    """A descriptor 0, 1 or 2 that is closed would be given to the next file that is opened, and
    from there to a child that takes it for its standard stream."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _schedule() -> None:
    """Before the jobs, as the helper is. With SCHED_BATCH (sched(7)) whom sandboxd wakes does not
    take the CPU from it: on a busy host it then handles several results at a time."""
    with contextlib.suppress(OSError):  # Without the right to, or under a filter: no harm done.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRECEDENCE)


class Daemon:
    """Runs what `acquire` started."""

    def __init__(self, started: Started, *, private: bool, lifeline: int | None) -> None:
        self._started = started
        self._config = started.config
        self._lifeline = lifeline
        self.state = started.state
        self.engine = Engine(started.config, started.keeper)
        weaker = Weaker(started.user, started.config, started.groups, started.keeper.process.pid)
        self.checker = Checker(self.engine, started.kernel, started.groups, started.probe, weaker)
        cache = Cache(str(self.state.root), writable=self.state.writable)
        self.runtimes = Catalog(started.config, self.engine, started.runtimes, cache)
        self.environments = Environments(self.state, self.engine.roots, started.config.env)
        self.packages = Packages(self.state, self.engine, self.runtimes, PACKAGES_TARGET)
        self.functions = Functions(started.config, self.state, self.engine, self.runtimes)
        self.server = Server(
            started.config,
            self.engine,
            self.checker,
            self.runtimes,
            self.environments,
            self.packages,
            self.functions,
            private=private,
        )
        self._private = private
        self._stop = trio.Event()
        self._hurry = trio.CancelScope()
        self._detection = trio.CancelScope()

    async def run(self, ready_fd: int | None = None) -> None:
        """Serve until a signal, or the end of the lifeline, says stop. Raises HostError."""
        sock = self._started.listener
        if sock is None:
            raise HostError("there is no socket to serve on")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_signals)
                nursery.start_soon(self.engine.link.run)
                self.environments.load()
                nursery.start_soon(self.environments.run)
                self.packages.load()
                nursery.start_soon(self.packages.run)
                await self._prove()
                await self.functions.open()
                await nursery.start(self.functions.run)
                nursery.start_soon(self.server.serve, sock)
                self._say_ready(ready_fd)
                nursery.start_soon(self._watch_lifeline)
                nursery.start_soon(self._read_kernel_check)
                nursery.start_soon(self._detect_runtimes)
                nursery.start_soon(self._feed_watchdog)
                await self._stop.wait()
                await self._finish()
                nursery.cancel_scope.cancel()
        finally:
            sock.close()
            with trio.CancelScope(shield=True):
                await self.functions.aclose()
                await self._end_helper()

    async def check(self) -> dict[str, object]:
        """For ``--check``: the report, without serving anybody."""
        try:
            report: dict[str, object] = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.engine.link.run)
                await self._wait_for_helper()
                report = await self.checker.report()
                nursery.cancel_scope.cancel()
            return report
        finally:
            with trio.CancelScope(shield=True):
                await self._end_helper()

    async def _wait_for_helper(self) -> None:
        timeout_s = self._config.helper_timeout_ns / 1e9
        with trio.move_on_after(timeout_s) as scope:
            await self.engine.up.wait()
        if scope.cancelled_caught:
            raise HostError(f"sandbox-helper did not say hello within {timeout_s:g} s")

    async def _prove(self) -> None:
        """The self test: one exact sentence for the first limit that does not hold."""
        await self._wait_for_helper()
        systemd.notify("STATUS=running the self test")
        for finding in await selftest.run(self.engine, _SELFTEST_TIMEOUT_S, self._started.probe):
            if finding.problem:
                raise HostError(f"self test: {finding.name}: {finding.problem}")
        self.engine.counts.clear()

    def _say_ready(self, ready_fd: int | None) -> None:
        config = self._config
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        systemd.notify(f"READY=1\nSTATUS=serving, {config.slots} jobs at once")
        if ready_fd is not None:
            os.write(ready_fd, b"READY\n")
            os.close(ready_fd)
        _log.info("ready %s", fields(socket=config.socket, jobs=config.slots, pid=os.getpid()))

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                _log.info("stopping %s", fields(signal=signal.Signals(number).name))
                if self._stop.is_set():
                    self._hurry.cancel()  # The second one: somebody has lost patience.
                self._stop.set()

    async def _read_kernel_check(self) -> None:
        """So that the process that made it is reaped; a failure is told to those who ask."""
        with contextlib.suppress(HostError):
            await trio.to_thread.run_sync(self._started.kernel.features, abandon_on_cancel=True)

    async def _detect_runtimes(self) -> None:
        """Ahead of the first request. A private daemon is there for one call: it looks at what
        that asks for and at nothing else."""
        if self._private or not self._config.detect_at_start:
            return
        with self._detection:
            try:
                await self.runtimes.detect_all()
            except Exception:
                # Requests find out for themselves; jobs need none of this.
                _log.exception("runtimes could not be detected")

    async def _watch_lifeline(self) -> None:
        """The process that started a private daemon holds the other end of a pipe."""
        if self._lifeline is None:
            return
        await trio.lowlevel.wait_readable(self._lifeline)
        self._stop.set()

    async def _feed_watchdog(self) -> None:
        """Only a daemon whose helper answers is alive."""
        interval_s = systemd.watchdog_interval_s()
        if interval_s is None:
            return
        while True:
            if await self.engine.link.stats(interval_s) is not None:
                systemd.notify("WATCHDOG=1")
            await trio.sleep(interval_s / 2)

    async def _finish(self) -> None:
        # The unit's TimeoutStopSec= cannot know what is configured here.
        seconds = self._config.shutdown_timeout_ns / 1e9 + _LAST_WORDS_S + _KEEPER_TIMEOUT_S
        systemd.notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")
        self.server.accepting.cancel()
        self._detection.cancel()
        with self._hurry:
            await self.server.finish(self._config.shutdown_timeout_ns / 1e9)

    async def _end_helper(self) -> None:
        keeper = self._started.keeper
        keeper.close()
        if not await keeper.wait(_KEEPER_TIMEOUT_S):
            _log.error("sandbox-helper does not end %s", fields(pid=keeper.process.pid))
