"""The command `sandboxd-rest`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final

import trio

import sandboxd
from sandboxd import heap, logs
from sandboxd.errors import ConfigError
from sandboxd.protocol.errors import SandboxdError
from sandboxd_rest import config as configuration
from sandboxd_rest import devtls
from sandboxd_rest.piston.settings import warn_about_others

# sysexits(3), which systemd knows by name.
EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_CONFIG: Final = 78

_EPILOG: Final = """\
examples:
  sandboxd-rest                           serve on 127.0.0.1:2000
  sandboxd-rest --bind 0.0.0.0:2000       serve everybody who can reach this machine
  curl http://127.0.0.1:2000/api/v2/runtimes
"""


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    heap.give_back_large()
    try:
        config = configuration.load(options.config, flags=_flags(options))
        logs.configure(config.log_level)
        warn_about_others(os.environ)
        if config.dev_tls:
            config = devtls.with_certificate(config)
        from sandboxd_rest.serve import run  # The HTTP server takes a while to import.

        trio.run(run, config)
    except SandboxdError as error:
        print(f"sandboxd-rest: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILURE
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sandboxd-rest",
        description="Serves sandboxd over HTTP: the APIs of Piston, FaaSpot, PIFOP and Pythia.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration (TOML)")
    parser.add_argument("--socket", metavar="PATH", help="the daemon's socket")
    parser.add_argument(
        "--bind", metavar="HOST:PORT", action="append", help="listen here; may be repeated"
    )
    parser.add_argument(
        "--plain-bind",
        metavar="HOST:PORT",
        action="append",
        help="listen here without TLS, too; may be repeated",
    )
    parser.add_argument("--tls-certificate", metavar="FILE", help="serve HTTPS with this (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's key (PEM)")
    parser.add_argument(
        "--dev-tls",
        action="store_const",
        const=True,
        help="serve HTTPS with a certificate for localhost that is made here",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    version = f"sandboxd-rest {sandboxd.__version__}"
    parser.add_argument("--version", action="version", version=version)
    return parser


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    given = {key: value for key, value in vars(options).items() if key != "config"}
    return {key: value for key, value in given.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
