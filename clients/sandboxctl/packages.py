"""`sandboxctl packages`: languages to install, and those that are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxctl import exitcodes
from sandboxctl.environments import day, refused
from sandboxctl.jsonout import error_map, print_json
from sandboxctl.options import UsageError
from sandboxctl.progress import Progress
from sandboxctl.reach import connect, connect_or_start
from sandboxctl.table import table
from sandboxctl.units import format_size
from sandboxd.protocol.errors import EXISTS, RequestError, SandboxdError
from sandboxd_client._client import Client
from sandboxd_client.errors import ConnectionLost
from sandboxd_packages import (
    NoSuchPackage,
    Package,
    PackageError,
    build,
    fetch_index,
    index_url,
    install,
    matching,
    select,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxctl.options import Command
    from sandboxctl.specfile import Rule
    from sandboxctl.stdio import Stdio

_PHASES = {
    "download": "downloading",
    "unpack": "unpacking",
    "environment": "asking for its environment",
}
# An index is written by others; its mistakes must not fill the screen.
_MAX_WARNINGS = 10


def run(command: Command, stdio: Stdio) -> int:
    """Do what the word after `packages` says."""
    act = {
        "list": _list,
        "install": _install,
        "uninstall": _uninstall,
        "spec": _spec,
        "build": _build,
    }[command.spec.word]
    try:
        return act(command, stdio)
    except PackageError as exc:
        return refused(command, stdio, exc)


# -- list ----------------------------------------------------------------------------------------


def _list(command: Command, stdio: Stdio) -> int:
    connection, daemon = connect_or_start(command, stdio)
    try:
        installed = Client.on(connection).packages()
    finally:
        connection.close()
        if daemon is not None:
            daemon.close()
    if command["--available"] or command["--index"]:
        return _list_available(command, stdio, installed)
    if command["--json"]:
        print_json(stdio, {"packages": installed})
    else:
        stdio.out(text(installed))
    return exitcodes.OK


def text(packages: Sequence[Mapping[str, Any]]) -> str:
    """A line for each that is installed."""
    if not packages:
        return "None is installed; see sandboxctl packages list --available.\n"
    rows = [
        (
            package["language"],
            package["version"],
            format_size(package["size_bytes"]),
            day(package["installed_ns"]),
            ", ".join(package["runtimes"]),
        )
        for package in packages
    ]
    return table(("PACKAGE", "VERSION", "SIZE", "INSTALLED", "RUNTIMES"), rows)


def _list_available(command: Command, stdio: Stdio, installed: Sequence[Mapping[str, Any]]) -> int:
    there = {(package["language"], package["version"]) for package in installed}
    available = {package[:2] for package in _index(command, stdio)}
    keys = [
        key
        for language in sorted({language for language, _ in there | available})
        for key in _newest_first(language, there | available)
    ]
    if command["--json"]:
        packages = [
            {"language": key[0], "version": key[1], "installed": key in there} for key in keys
        ]
        print_json(stdio, {"packages": packages})
    else:
        rows = [(*key, "yes" if key in there else "no") for key in keys]
        stdio.out(table(("PACKAGE", "VERSION", "INSTALLED"), rows))
    return exitcodes.OK


def _newest_first(language: str, keys: set[tuple[str, str]]) -> list[tuple[str, str]]:
    import nodesemver

    versions = [version for name, version in keys if name == language]
    return [(language, version) for version in nodesemver.rsort(versions, loose=True)]


def _index(command: Command, stdio: Stdio) -> tuple[Package, ...]:
    """The packages that can be installed. Raises IndexUnavailable."""
    progress = Progress(command, stdio)
    url = index_url(command["--index"], stdio.environ)
    progress.show(f"reading {url}")
    try:
        index = fetch_index(url)
    finally:
        progress.clear()
    for warning in index.warnings[:_MAX_WARNINGS]:
        stdio.err(warning)
    if len(index.warnings) > _MAX_WARNINGS:
        stdio.err(f"{len(index.warnings) - _MAX_WARNINGS} more lines of it are left out")
    return index.packages


# -- install, uninstall, spec --------------------------------------------------------------------


class _Report:
    """What became of each package: a line as it is done, or all of it as JSON at the end."""

    def __init__(self, command: Command, stdio: Stdio) -> None:
        self._json = command["--json"]
        self._stdio = stdio
        self._done: list[dict[str, Any]] = []
        self._code = exitcodes.OK

    def done(self, language: str, version: str, what: str) -> None:
        self._done.append({"language": language, "version": version, "status": what})
        if not self._json:
            self._stdio.out(f"{language} {version} {what.replace('_', ' ')}\n")

    def failed(self, language: str, version: str, exc: SandboxdError) -> None:
        self._code = exitcodes.FAILED
        failure = {"language": language, "version": version, "status": "failed"}
        self._done.append({**failure, "error": error_map(exc)})
        if not self._json:
            self._stdio.err(f"{language} {version}: {exc}")

    def end(self) -> int:
        """Print the JSON, if that is wanted; the exit status."""
        if self._json:
            print_json(self._stdio, {"packages": self._done})
        return self._code


def selector(word: str) -> tuple[str, str]:
    """(language, range) of a word that was typed. Raises UsageError."""
    language, equals, versions = word.partition("=")
    if not language or (equals and not versions):
        raise UsageError(f"{word!r} is not LANGUAGE or LANGUAGE=RANGE, such as python=3.x")
    return language, versions or "*"


def _install(command: Command, stdio: Stdio) -> int:
    wanted = [selector(word) for word in command.args]
    report = _Report(command, stdio)
    with Client.on(connect(command, stdio)) as client:
        packages = _index(command, stdio)
        for language, versions in wanted:
            try:
                package = select(packages, language, versions)
            except NoSuchPackage as exc:
                report.failed(language, versions, exc)
            else:
                _install_one(command, stdio, client, package, report)
    return report.end()


def _install_one(
    command: Command, stdio: Stdio, client: Client, package: Package, report: _Report
) -> None:
    progress = Progress(command, stdio)
    name = f"{package.language} {package.version}"

    def show(phase: str, done: int, total: int | None) -> None:
        if phase in _PHASES:
            progress.show(f"{name}: {_PHASES[phase]}", done, total or 0)

    try:
        install(client, package, show)
    except ConnectionLost:
        raise
    except SandboxdError as exc:
        progress.clear()
        if isinstance(exc, RequestError) and exc.code == EXISTS:
            report.done(package.language, package.version, "already_installed")
        else:
            report.failed(package.language, package.version, exc)
    else:
        progress.clear()
        report.done(package.language, package.version, "installed")


def _uninstall(command: Command, stdio: Stdio) -> int:
    wanted = [selector(word) for word in command.args]
    report = _Report(command, stdio)
    with Client.on(connect(command, stdio)) as client:
        for language, versions in wanted:
            found = matching(_installed(client), language, versions)
            version = found[0].version if found else versions
            _uninstall_one(client, language, version, report)
    return report.end()


def _installed(client: Client) -> list[Package]:
    return [
        Package(package["language"], package["version"], "", "") for package in client.packages()
    ]


def _uninstall_one(client: Client, language: str, version: str, report: _Report) -> None:
    try:
        client.uninstall_package(language, version)
    except RequestError as exc:
        report.failed(language, version, exc)
    else:
        report.done(language, version, "uninstalled")


def _spec(command: Command, stdio: Stdio) -> int:
    from sandboxctl.specfile import plan

    rules = _rules(command.args[0])
    report = _Report(command, stdio)
    with Client.on(connect(command, stdio)) as client:
        installed = {package[:2] for package in _installed(client)}
        steps = plan(rules, _index(command, stdio), installed)
        for rule in steps.unmatched:
            where = f"{command.args[0]}: line {rule.line}"
            stdio.err(f"{where}: the index has no {rule.language} {rule.versions}")
        for package in steps.install:
            _install_one(command, stdio, client, package, report)
        for package in steps.uninstall:
            _uninstall_one(client, package.language, package.version, report)
    code = report.end()
    return code or (exitcodes.FAILED if steps.unmatched else exitcodes.OK)


def _rules(path: str) -> list[Rule]:
    from sandboxctl.specfile import BadSpec, parse_spec

    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            return parse_spec(file.read())
        except BadSpec as exc:
            raise PackageError(f"{path}: {exc}") from exc


# -- build ---------------------------------------------------------------------------------------


def _build(command: Command, stdio: Stdio) -> int:
    built = build(command.args[0], command["--output"], command["--url"])
    if command["--json"]:
        print_json(stdio, {**built._asdict(), "path": str(built.path)})
    else:
        stdio.out(f"{built.line}\n")
        if stdio.is_terminal(stdio.stderr):
            stdio.err(f"{built.path} has {format_size(built.path.stat().st_size)}")
    return exitcodes.OK
