"""Downloading with the standard library: http, https and file, bounded in every way."""

from __future__ import annotations

import contextlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, TYPE_CHECKING

import sandboxd
from sandboxd_packages.errors import DownloadFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Of one wait for the server, and of all together.
STALL_TIMEOUT_S = 30.0
TOTAL_TIMEOUT_S = 3600.0
MAX_REDIRECTS = 5
MAX_ARCHIVE_BYTES = 4 * 1024 * 1024 * 1024

_CHUNK = 256 * 1024


def read(url: str, max_bytes: int, *, timeout_s: float = STALL_TIMEOUT_S) -> bytes:
    """Everything at `url`. Raises DownloadFailed."""
    chunks: list[bytes] = []
    download(url, chunks.append, max_bytes=max_bytes, timeout_s=timeout_s)
    return b"".join(chunks)


def download(
    url: str,
    take: Callable[[bytes], object],
    *,
    total: Callable[[int], object] = lambda size: None,
    max_bytes: int = MAX_ARCHIVE_BYTES,
    timeout_s: float = STALL_TIMEOUT_S,
) -> None:
    """Give `take` the bytes at `url` as they come, and `total` their number where it is known.

    Follows at most MAX_REDIRECTS redirections, and none from https to http. Proxies are those of
    the environment (`http_proxy`, `https_proxy`, `no_proxy`). Raises DownloadFailed; what `take`
    raises is let through.
    """
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    received = 0
    with _opened(url, timeout_s) as (source, size):
        if size is not None:
            if size > max_bytes:
                raise DownloadFailed(f"{url}: has {size} bytes; {max_bytes} are taken")
            total(size)
        while True:
            with _explained(url):
                chunk = source.read(_CHUNK)
            if not chunk:
                break
            received += len(chunk)
            if received > max_bytes:
                raise DownloadFailed(f"{url}: has more than {max_bytes} bytes")
            if time.monotonic() > deadline:
                raise DownloadFailed(f"{url}: takes longer than {TOTAL_TIMEOUT_S:g} s")
            take(chunk)
    if size is not None and received != size:
        raise DownloadFailed(f"{url}: ended after {received} of {size} bytes")


@contextlib.contextmanager
def _opened(url: str, timeout_s: float) -> Iterator[tuple[IO[bytes], int | None]]:
    """The body and its size, where that is known."""
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme == "file":
        with _explained(url):
            file = open(_path(url), "rb")  # noqa: SIM115 - what the caller does is not explained here
        with file:
            yield file, os.fstat(file.fileno()).st_size
        return
    if scheme not in ("http", "https"):
        raise DownloadFailed(f"{url}: only http, https and file addresses can be read")
    request = urllib.request.Request(url)  # noqa: S310 - the scheme was looked at
    request.add_header("User-Agent", f"sandboxd/{sandboxd.__version__}")
    with _explained(url):
        response = _opener().open(request, timeout=timeout_s)
    with response:
        length = response.headers.get("Content-Length", "")
        yield response, int(length) if length.isdigit() else None


def _path(url: str) -> str:
    return urllib.request.url2pathname(urllib.parse.urlsplit(url).path)


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as exc:
        exc.close()
        raise DownloadFailed(f"{url}: the server says {exc.code} {exc.reason}") from exc
    except urllib.error.URLError as exc:
        raise DownloadFailed(f"{url}: {_reason(exc.reason)}") from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise DownloadFailed(f"{url}: {_reason(exc)}") from exc


def _reason(exc: object) -> str:
    if isinstance(exc, TimeoutError):
        return "the server does not answer in time"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows few, and none to where less is checked."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme.lower()
        if scheme != "https" and not (scheme == "http" and req.type == "http"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is less safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Without the handlers of urllib for ftp, file and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        Redirects(),
    ):
        opener.add_handler(handler)
    return opener
