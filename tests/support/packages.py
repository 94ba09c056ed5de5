"""Real packages, made of this machine's dash, and a server on the loopback interface for them."""

import contextlib
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sandboxd_packages import Built, build

_RUN = '#!/usr/bin/env bash\nmysh "$@"\n'
_ENVIRONMENT = "export PATH=$PWD/bin:$PATH\nexport LD_LIBRARY_PATH=$PWD/lib\necho not a variable\n"


def make(
    parent: Path,
    language: str = "mysh",
    version: str = "1.2.3",
    *,
    info: Mapping[str, Any] | None = None,
    files: Mapping[str, str | None] | None = None,
) -> Path:
    """The directory of a package whose language is that of dash, with its own copy of dash.

    ``files`` replace the usual ones, or remove them with None.
    """
    directory = parent / f"{language}-{version}"
    (directory / "bin").mkdir(parents=True)
    shutil.copy("/bin/dash", directory / "bin" / "mysh")
    (directory / "lib").mkdir()
    for library in _libraries("/bin/dash"):
        shutil.copy(library, directory / "lib")
    (directory / "bin" / "again").symlink_to("mysh")
    content: dict[str, str | None] = {
        "pkg-info.json": json.dumps(
            {"language": language, "version": version, "build_platform": "docker-debian",
             "aliases": ["ms"], **(info or {})}
        ),
        "run": _RUN,
        "environment": _ENVIRONMENT,
        **(files or {}),
    }  # fmt: skip
    for name, text in content.items():
        if text is not None:
            (directory / name).write_text(text)
    return directory


def made(parent: Path, *args: Any, **kwargs: Any) -> Built:
    """`make`, packed."""
    directory = make(parent, *args, **kwargs)
    return build(directory, directory.with_suffix(".tar.gz"))


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"=> (/\S+)", listed)


class Repository:
    """An HTTP server with an index; `requests` is what was asked for."""

    def __init__(self, directory: Path) -> None:
        self.requests: list[str] = []
        self.redirects: dict[str, str] = {}
        self.lines: list[str] = [""]
        self.go_on = threading.Event()
        """Archives are held back after their first half until this is set."""
        self.go_on.set()
        self._directory = directory
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.index = f"{self.url}/index"

    def add(self, built: Built, sha256: str | None = None) -> None:
        """Serve a package, with a checksum of its own or not."""
        url = f"{self.url}/{built.path.relative_to(self._directory)}"
        fields = (built.language, built.version, sha256 or built.sha256, url)
        self.lines.append(",".join(fields))

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        repository = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.requests.append(self.path)
                file = repository._directory / self.path.lstrip("/")
                if self.path == "/index":
                    self._answer("\n".join(repository.lines).encode())
                elif self.path in repository.redirects:
                    self.send_response(302)
                    self.send_header("Location", repository.redirects[self.path])
                    self.end_headers()
                elif file.is_file():
                    self._answer(file.read_bytes())
                else:
                    self.send_error(404)

            def _answer(self, data: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                half = len(data) // 2
                with contextlib.suppress(OSError):
                    self.wfile.write(data[:half])
                    self.wfile.flush()
                    if self.path != "/index":
                        repository.go_on.wait(30)
                    self.wfile.write(data[half:])

            def log_message(self, format: str, *args: object) -> None:
                """Not into the output of the tests."""

        return Handler


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Repository]:
    """A repository of the archives in ``directory`` for as long as the block runs."""
    repository = Repository(directory)
    thread = threading.Thread(target=repository.serve)
    thread.start()
    try:
        yield repository
    finally:
        repository.stop()
        thread.join()
