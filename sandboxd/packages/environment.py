"""A package's script `environment`: sourced once, in a sandbox, for the variables it exports."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from sandboxd.logs import fields
from sandboxd.protocol import status
from sandboxd.protocol.errors import INVALID_ARGUMENT, RequestError
from sandboxd.protocol.jobs import JobSpec, Stage
from sandboxd.runtimes import inside

if TYPE_CHECKING:
    from sandboxd.engine.jobs import Engine

_log = logging.getLogger("sandboxd.packages")

# As Piston does it: in the package's directory, with nothing in the environment, by bash. What the
# script prints is not to be taken for variables.
_SCRIPT: Final = 'cd "$1" || exit; source ./environment >&2; exec /usr/bin/env -0'
# Of the shell that sourced it, not of the package.
_OF_SHELL: Final = frozenset({"PWD", "OLDPWD", "_", "SHLVL"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN_CHARS: Final = 300
_SHOWN_NAMES: Final = 8
_SHOWN_NAME_CHARS: Final = 64


async def variables(engine: Engine, directory: str) -> dict[str, str]:
    """What `environment` of the package at ``directory`` (inside the sandbox) exports.

    Raises RequestError when it does not come to its end. Cancellation kills it.
    """
    argv = ("/bin/bash", "-c", _SCRIPT, "environment", directory)
    stage = Stage(
        argv=tuple(text.encode() for text in argv), env=(), cwd=b"", stdin=b"", limits=None
    )
    result = await inside.run(engine, JobSpec(run=stage))
    found = parse(result.stdout)
    if result.status != status.OK or result.stdout_truncated or "PWD" not in found:
        said = " ".join(result.stderr.decode(errors="replace").split())[-_SHOWN_CHARS:]
        raise RequestError(
            INVALID_ARGUMENT,
            f"the package's script environment ended with status {result.status}"
            f" {result.message}{': ' if said else ''}{said}".rstrip(),
        )
    return {name: value for name, value in found.items() if name not in _OF_SHELL}


def parse(listed: bytes) -> dict[str, str]:
    """The variables in the output of `env -0`.

    Left out, with one line in the log, is what cannot be kept as a line of text or be given to a
    program again: functions of bash, values of several lines or that are not UTF-8.
    """
    found = {}
    left_out = []
    for item in listed.split(b"\0"):
        if not item:
            continue
        try:
            name, _, value = item.decode().partition("=")
        except UnicodeDecodeError:
            name, value = "?", "\n"
        if _NAME.fullmatch(name) and "\n" not in value:
            found[name] = value
        else:
            left_out.append(name[:_SHOWN_NAME_CHARS])
    if left_out:
        names = " ".join(left_out[:_SHOWN_NAMES])
        _log.warning(
            "variables of a package are left out %s", fields(count=len(left_out), names=names)
        )
    return found
