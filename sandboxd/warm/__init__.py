"""Interpreters that wait in warm slots: where the helper finds what they are started from.

`program.py` beside this file is what the interpreter runs: the host's own Python, in the sandbox.
It imports nothing of sandboxd and nothing here imports it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sandboxd.engine.helper import LIBEXEC

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxd.config import Config

COMMAND: Final = ("python3", "-s", "-B")
"""A program whose command begins so may run in an interpreter that waits."""

_PROGRAM: Final = Path(__file__).with_name("program.py")
_MODULE: Final = LIBEXEC / "sandbox_warm.abi3.so"


def arguments(config: Config, readonly: Sequence[str], known: Path) -> list[str]:
    """The helper's options for warm slots; empty where there can be none: they are switched off, or
    there is no interpreter that jobs would see.

    ``known`` is a program whose text many jobs run by `-c`: it is compiled ahead.
    """
    interpreter = _find(config.env, readonly)
    if not config.warm_slots or not interpreter or not _MODULE.exists():
        return []
    return [
        f"warm={config.warm_slots}",
        f"interpreter={interpreter}",
        f"warm_program={_PROGRAM}",
        f"warm_module={_MODULE}",
        f"warm_known={known}",
        *(f"warm_env={name}={value}" for name, value in config.env.items()),
    ]


def _find(env: Mapping[str, str], readonly: Sequence[str]) -> str:
    """The path of the `python3` that a job without a wish would run; empty where there is none."""
    path = ":".join(part for part in env.get("PATH", "").split(":") if part.startswith("/"))
    found = shutil.which(COMMAND[0], path=path) if path else None
    if found is None:
        return ""
    real = Path(found).resolve()
    seen = any(real.is_relative_to(Path(directory).resolve()) for directory in readonly)
    return found if seen else ""
