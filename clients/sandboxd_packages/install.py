"""Installing: what is downloaded flows to the daemon through a pipe, once it asks for it."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from sandboxd_packages.download import download
from sandboxd_packages.errors import DownloadFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxd_client import Client
    from sandboxd_packages.index import Package

    Progress = Callable[[str, int, int | None], object]


def install(client: Client, package: Package, progress: Progress | None = None) -> tuple[str, str]:
    """Download a package and have the daemon install it. Returns its (language, version).

    `progress` is called with the phase (see `package.install` in docs/protocol.md), bytes, and
    their total where it is known. Nothing is downloaded before the daemon wants it. Raises
    DownloadFailed, or RequestError with what the daemon says: `exists` "Already installed",
    `invalid_argument` "Checksum miss-match want: … got: …", `permission_denied`, …
    """
    reader, writer = os.pipe()
    feed = _Feed(package.url, writer)

    def report(phase: str, done: int, total: int | None) -> None:
        if phase == "download":
            feed.start_once()
            total = feed.total
        if progress is not None:
            progress(phase, done, total)

    try:
        answer = client.install_package(
            package.language, package.version, package.sha256, reader, progress=report
        )
    except Exception:
        if feed.error is not None:  # The rest follows from that.
            raise feed.error from None
        raise
    finally:
        # The daemon has its own, or has refused: then this ends the download.
        os.close(reader)
        feed.give_up()
    return answer["language"], answer["version"]


class _Feed:
    """Downloads into a pipe, in a thread. Owns the pipe's end."""

    def __init__(self, url: str, writer: int) -> None:
        self.error: DownloadFailed | None = None
        self.total: int | None = None
        self._url = url
        self._writer = writer
        # Not waited for when the daemon has refused: it may wait for a server that is slow.
        self._thread = threading.Thread(target=self._run, name="download", daemon=True)
        self._started = False

    def start_once(self) -> None:
        if not self._started:
            self._started = True
            self._thread.start()

    def give_up(self) -> None:
        """Nobody reads any more. The thread, if there is one, ends with its next write."""
        if not self._started:
            os.close(self._writer)

    def _run(self) -> None:
        try:
            with contextlib.suppress(BrokenPipeError):
                download(self._url, self._take, total=self._know_total)
        except DownloadFailed as exc:
            self.error = exc
        finally:
            os.close(self._writer)  # After the error is known: this is what the daemon notices.

    def _know_total(self, size: int) -> None:
        self.total = size

    def _take(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._writer, view) :]
