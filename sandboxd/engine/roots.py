"""The root file systems that jobs may run in besides the host's: environments, by name.

The helper knows each by a number and holds its directory; this registry says which number a name
has, tells a new helper all of them, and counts the jobs that use one, so that a root which was
removed goes when the last of them has ended.
"""

import contextlib
import itertools
import logging
import os
from collections.abc import Callable
from typing import Final

from sandboxd.engine import wire
from sandboxd.engine.helper import HelperLink
from sandboxd.logs import fields
from sandboxd.protocol.errors import EXISTS, LIMIT_EXCEEDED, NOT_FOUND, RequestError

_log = logging.getLogger("sandboxd.roots")


def _nothing() -> None: ...


class Root:
    """One environment's root. Owns the descriptor of its directory."""

    __slots__ = ("directory", "env", "gone", "id", "name", "uses")

    def __init__(self, number: int, name: str, directory: int, env: tuple[bytes, ...]) -> None:
        self.id = number
        self.name = name
        self.directory = directory
        self.env = env
        """`NAME=value`, for jobs that bring no environment variables; empty for the usual ones."""
        self.uses = 0
        self.gone: Callable[[], None] | None = None
        """What to do when nobody uses it any more; None while it is not removed."""


class Roots:
    """Every root the helper knows."""

    def __init__(self, link: HelperLink) -> None:
        self._link = link
        self._by_name: dict[str, Root] = {}
        self._all: dict[int, Root] = {}
        self._numbers: Final = itertools.count(1)

    def add(self, name: str, directory: int, env: tuple[bytes, ...] = ()) -> None:
        """Jobs may say `environment: name` from now on. Owns ``directory``, an open directory (it
        may be O_PATH) on the daemon's own mount namespace, also when this raises.

        Raises RequestError `exists`, or `limit_exceeded` for one too many.
        """
        try:
            if name in self._by_name:
                raise RequestError(EXISTS, f"environment {name} is there already")
            if len(self._all) >= wire.MAX_ROOTS:
                raise RequestError(
                    LIMIT_EXCEEDED, f"at most {wire.MAX_ROOTS} environments are possible"
                )
        except RequestError:
            os.close(directory)
            raise
        root = Root(next(self._numbers), name, directory, env)
        self._by_name[name] = self._all[root.id] = root
        self._tell(root)

    def remove(self, name: str, gone: Callable[[], None] = _nothing) -> None:
        """No further job may use it; ``gone`` is called (perhaps at once) when none does.

        Raises RequestError `not_found`.
        """
        root = self.find(name)
        del self._by_name[name]
        root.gone = gone
        self._forget_unused(root)

    def find(self, name: str) -> Root:
        """Raises RequestError `not_found`."""
        root = self._by_name.get(name)
        if root is None:
            known = ", ".join(sorted(self._by_name)[:20]) or "none"
            raise RequestError(
                NOT_FOUND, f"environment: there is no {name[:64]!r}; there is: {known}"
            )
        return root

    def hold(self, root: Root) -> None:
        """A job is going to use it. Raises RequestError `not_found` when it is gone, which it may
        be since it was found."""
        if root.id not in self._all:
            raise RequestError(NOT_FOUND, f"environment: {root.name!r} was removed")
        root.uses += 1

    def release(self, root: Root) -> None:
        root.uses -= 1
        self._forget_unused(root)

    def _forget_unused(self, root: Root) -> None:
        if root.uses or root.gone is None:
            return
        del self._all[root.id]
        os.close(root.directory)
        with contextlib.suppress(OSError):  # Without a worker there is nobody who knows it.
            self._link.send(wire.pack_control(wire.MSG_UNROOT, root.id))
        root.gone()

    def helper_up(self) -> None:
        """A new worker knows none."""
        for root in self._all.values():
            self._tell(root)

    def _tell(self, root: Root) -> None:
        try:
            copy = os.dup(root.directory)
            self._link.send(wire.pack_control(wire.MSG_ROOT, root.id), (copy,))
        except OSError as exc:
            if self._link.up:
                _log.error(
                    "an environment is not usable %s", fields(name=root.name, why=exc.strerror)
                )
