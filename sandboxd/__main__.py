"""The command ``sandboxd``."""

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import trio

import sandboxd
from sandboxd import config as configuration
from sandboxd import heap, logs, rootless, scope
from sandboxd.config import Config
from sandboxd.daemon import Daemon, acquire
from sandboxd.errors import ConfigError
from sandboxd.protocol.errors import SandboxdError

_log = logging.getLogger("sandboxd")

# sysexits(3), which systemd knows by name.
EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFIG: Final = 78

_EPILOG: Final = """\
examples:
  sandboxd                                serve on /run/sandboxd/sandboxd.sock
  sandboxd --socket /tmp/s.sock           serve on another socket
  sandboxd --check                        say what this host can do, and what is missing
"""


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    _forget_the_starter()
    heap.give_back_large()
    scope.enter()
    ready_fd = _take_fd("SANDBOXD_READY_FD")
    lifeline = _take_fd("SANDBOXD_LIFELINE")
    try:
        config = configuration.load(
            options.config, flags=_flags(options), rootless=rootless.is_needed()
        )
        logs.configure(config.log_level)
        if options.check:
            return _check(config, as_json=options.json)
        _serve(config, options, ready_fd, lifeline)
    except SandboxdError as error:
        return _fail(error, ready_fd)
    except BaseExceptionGroup as group:
        return _fail(_only_error(group), ready_fd)
    return EXIT_OK


def _forget_the_starter() -> None:
    """Undo what whoever starts the daemon may have set for itself and would hand down: with SIGTERM
    blocked the daemon would not end, and with an odd umask not reach what it makes."""
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sandboxd",
        description="Runs untrusted programs, each in a sandbox of its own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration (TOML)")
    parser.add_argument("--socket", metavar="PATH", help="the Unix socket to listen on")
    parser.add_argument("--jobs", type=int, metavar="N", help="jobs at once (0: one per processor)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--state-directory", metavar="PATH", help="where packages are kept")
    parser.add_argument("--private", action="store_true", help="serve the starting user only")
    parser.add_argument("--check", action="store_true", help="check this host and end")
    parser.add_argument("--json", action="store_true", help="with --check: print JSON")
    parser.add_argument("--version", action="version", version=f"sandboxd {sandboxd.__version__}")
    return parser


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "socket": options.socket,
        "jobs": options.jobs,
        "log_level": options.log_level,
        "state_directory": options.state_directory,
    }
    flags = {key: value for key, value in given.items() if value is not None}
    if options.private:
        # Of whoever starts it, and of nobody else, not even of the administrators.
        uid = os.getuid()
        flags |= {"allowed_uids": [uid], "allowed_gids": [], "admin_uids": [uid]}
        flags |= {"socket_mode": 0o600, "socket_group": str(os.getgid())}
        flags.setdefault("log_level", "warning")
    return flags


def _take_fd(name: str) -> int | None:
    """A descriptor handed over by number in a variable, which is then removed."""
    text = os.environ.pop(name, "")
    if not text.isdigit():
        return None
    os.set_inheritable(int(text), False)
    return int(text)


def _serve(
    config: Config, options: argparse.Namespace, ready_fd: int | None, lifeline: int | None
) -> None:
    # A private daemon leaves nothing behind, unless it is told where.
    private = options.private
    started = acquire(config, listen=True, keep=not private or options.state_directory is not None)
    daemon = Daemon(started, private=private, lifeline=lifeline)
    trio.run(daemon.run, ready_fd)


def _check(config: Config, *, as_json: bool) -> int:
    daemon = Daemon(acquire(config, listen=False, keep=False), private=True, lifeline=None)
    report = trio.run(daemon.check)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)
    return EXIT_OK if report["ok"] else EXIT_FAILURE


def _print_report(report: dict[str, Any]) -> None:
    features = report["features"]
    width = max(len(feature["name"]) for feature in features)
    for feature in features:
        found = "ok" if feature["ok"] else "missing" if feature["required"] else "absent"
        print(f"{feature['name']:{width}}  {found:7}  {feature['detail']}".rstrip())
        if not feature["ok"] and feature["hint"]:
            print(f"{'':{width}}           {feature['hint']}")
    for sentence in report["weaker"]:
        print(f"weaker than under root: {sentence}")
    print(
        "everything that is required is there" if report["ok"] else "something required is missing"
    )


def _only_error(group: BaseExceptionGroup[BaseException]) -> SandboxdError:
    """The sandboxd error in a group of a nursery; anything else in it is a bug and goes on."""
    expected, rest = group.split(SandboxdError)
    if rest is not None or expected is None:
        raise group
    first: SandboxdError | BaseExceptionGroup[SandboxdError] = expected
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _fail(error: SandboxdError, ready_fd: int | None) -> int:
    """One line where somebody will read it, and no traceback."""
    text = " ".join(str(error).split())
    print(f"sandboxd: {text}", file=sys.stderr)
    if ready_fd is not None:
        os.write(ready_fd, f"{text}\n".encode())
    return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
