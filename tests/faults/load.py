"""A mixed load, and the book that is kept of it: what was asked, what was answered, and whether
each answer is the right one, whole, and the only one."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from sandboxd_client import Client, ConnectionLost, DaemonUnreachable, RequestError
from support import acknowledged

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from compat.gateway import Gateway
    from faults.service import Service
    from support.acknowledged import Acknowledged

LOST: Final = (ConnectionLost, DaemonUnreachable, OSError)
OTHER_TENANT: Final = 70001
BIG: Final = 150_000
# What a fault can do to a job: its slot was killed, its process was, or its limit found what stood
# still. Everything else is a wrong answer.
_HIT: Final = ("internal_error", "signaled", "wall_time_limit")
_SETRESUID: Final = {"x86_64": 117, "aarch64": 147}[platform.machine()]
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Wrong(Exception):
    """An answer that must not be."""


class Book:
    """Everything that was asked, by all clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.doing: dict[str, str] = {}

    @contextlib.contextmanager
    def entry(self, who: str, what: str) -> Iterator[None]:
        """One thing that is asked; the block raises what is not an answer as it should be."""
        self.doing[who] = what
        outcome = "answered"
        try:
            yield
        except Hit:
            outcome = "hit"
        except RequestError as error:
            outcome = f"refused {error.code}"
            if not error.message:
                self.note(f"{what}: a refusal without words")
        except LOST:
            outcome = "lost with the connection"
        except Wrong as error:
            outcome = "wrong"
            self.note(f"{what}: {error}")
        finally:
            # One that was stuck may have an heir of its name by now.
            self.doing.pop(who, None)
            with self._lock:
                self.counts[outcome] += 1

    def note(self, problem: str) -> None:
        with self._lock:
            self.wrong.append(problem)


class Hit(Exception):
    """The job says that a fault hit it."""


def connect(socket: str, uid: int) -> Client:
    """A client of this user, who is another than the rest of the process."""
    if uid == 0:
        return Client(socket)
    _libc.syscall(_SETRESUID, -1, uid, -1)  # Of this thread; the C library's would be of all.
    try:
        return Client(socket)
    finally:
        _libc.syscall(_SETRESUID, -1, 0, -1)


class Caller(threading.Thread):
    """A client that asks for one thing after the other until it is told to stop. A lost connection
    is made anew."""

    def __init__(
        self, name: str, book: Book, service: Service, socket: str, rng: random.Random, uid: int = 0
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.book, self.service, self.socket, self.rng, self.uid = book, service, socket, rng, uid
        self.stop = threading.Event()
        self.number = 0

    def run(self) -> None:
        while not self.stop.is_set():
            if not self.service.up.wait(0.05):
                continue
            with contextlib.suppress(*LOST), connect(self.socket, self.uid) as client:
                while not self.stop.is_set():
                    if not self.step(client):
                        break
                self._nothing_twice(client)

    def _nothing_twice(self, client: Client) -> None:
        if client._answers or any(early.method == "job.exit" for early in client._early):
            self.book.note(f"{self.name}: answered twice: {client._answers} {client._early}")

    def step(self, client: Client) -> bool:
        """False when the connection is lost."""
        raise NotImplementedError

    def token(self) -> str:
        self.number += 1
        return f"{self.name}-{self.number}-{self.rng.randrange(10**9)}"


class JobCaller(Caller):
    """Jobs of every kind."""

    def step(self, client: Client) -> bool:
        kind = self.rng.choice(_JOBS)
        lost = False
        with self.book.entry(self.name, kind.__name__.strip("_")):
            try:
                kind(client, self.token())
            except LOST:
                lost = True
                raise
        return not lost


def _expect(result: Any, stdout: bytes) -> None:
    if result.status in _HIT:
        raise Hit
    if (result.status, result.stdout) != ("ok", stdout):
        raise Wrong(f"{result}")


def _recycled(client: Client, token: str) -> None:
    _expect(client.run(["/bin/cat"], stdin=token), token.encode())


def _fresh(client: Client, token: str) -> None:
    _expect(client.run(["/bin/echo", "-n", token], mode="fresh"), token.encode())


def _slow(client: Client, token: str) -> None:
    _expect(client.run(["sh", "-c", f"sleep 0.05; echo {token}"]), f"{token}\n".encode())


def _large(client: Client, token: str) -> None:
    data = token.encode().ljust(BIG, b".")
    _expect(client.run(["/bin/cat"], stdin=data), data)


def _streamed(client: Client, token: str) -> None:
    started = client.start(["sh", "-c", f"echo {token}; sleep 0.02; echo end"], stream=True)
    # On the other stream a shell says whom of its own somebody killed.
    output = b"".join(data for stream, data in started if stream == "stdout")
    result = started.wait()
    if result.status in _HIT:
        raise Hit
    if (result.status, output) != ("ok", f"{token}\nend\n".encode()):
        raise Wrong(f"{result} {output!r}")


def _staged(client: Client, token: str) -> None:
    compile = {"argv": ["sh", "-c", f"echo {token} > made"]}
    result = client.run(["/bin/cat", "made"], compile=compile)
    if result.compile.status in _HIT:
        raise Hit
    if result.run is None:
        raise Wrong(f"{result.compile}")
    _expect(result.run, f"{token}\n".encode())


def _collected(client: Client, token: str) -> None:
    result = client.run(["sh", "-c", f"echo {token} > made"], collect=["made"])
    _expect(result, b"")
    if dict(result.files) != {"made": f"{token}\n".encode()} and not result.files_truncated:
        raise Wrong(f"{result} {result.files}")


def _warm(client: Client, token: str) -> None:
    files = [{"name": "main.py", "data": f"print({token!r})"}]
    result = client.execute("python", files=files)
    _expect(result.run, f"{token}\n".encode())


_JOBS: Final[list[Callable[[Client, str], None]]] = [
    _recycled, _recycled, _fresh, _slow, _large, _streamed, _staged, _collected, _warm,
]  # fmt: skip


class FunctionCaller(Caller):
    """Functions that are called, and executions that are stored."""

    known: Acknowledged

    def step(self, client: Client) -> bool:
        lost = False
        token = self.token()
        with self.book.entry(self.name, "function"):
            try:
                if self.rng.random() < 0.4:
                    _call(client, token)
                else:
                    acknowledged.step(client, self.known, self.rng, token)
            except LOST:
                lost = True
                raise
        return not lost


def _call(client: Client, token: str) -> None:
    answer = client.call_function("echo", token)
    if answer["status"] in _HIT:
        raise Hit
    if answer["result"] != f'"{token}"':
        raise Wrong(f"{answer}")


class GatewayCaller(Caller):
    """Programs, over HTTP."""

    def run(self) -> None:
        while not self.stop.is_set():
            if self.service.up.wait(0.05):
                gateway: Any = self.service.unit
                with self.book.entry(self.name, "http"):
                    self._execute(gateway)

    def _execute(self, gateway: Gateway) -> None:
        token = self.token()
        try:
            answer = gateway.execute(content=f"print({token!r})")
        except LOST:
            time.sleep(0.02)
            raise
        except Exception as error:
            raise ConnectionLost(str(error)) from error  # http.client's: it broke off.
        if answer.status in (429, 500, 503):
            time.sleep(0.02)
            raise RequestError(f"http {answer.status}", answer.message)
        if answer.status != 200:
            raise Wrong(f"{answer}")
        run = answer.json["run"]
        if run["status"] in ("XX", "SG", "TO"):
            raise Hit
        if (run["code"], run["stdout"]) != (0, f"{token}\n"):
            raise Wrong(f"{run}")
