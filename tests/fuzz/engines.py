"""The two kinds of targets: programs in C, and functions in Python under atheris. Both take
libFuzzer's arguments."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fuzz import targets

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
WORK = ROOT / "build" / "fuzzing"
IN_C = ("worker", "message", "job", "glob", "tree")
IN_PYTHON = tuple(targets.TARGETS)
# An input that takes longer than this is a finding.
_TIMEOUT_S = 20
_LONGEST = 4096


@dataclass
class Run:
    """What one or several runs of a target came to."""

    executions: int = 0
    edges: int = 0
    cpu_s: float = 0.0
    output: str = ""
    failed: bool = False


def command(target: str) -> str:
    """The program of a target. It is one file, as libFuzzer starts itself again to minimise."""
    if target in IN_C:
        return str(BUILD / f"fuzz_{target}")
    program = WORK / f"fuzz_{target}"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fuzz {target} "$0" "$@"\n')
    program.chmod(0o755)
    return str(program)


def fuzz(target: str, corpus: Path, *arguments: str, timeout_s: float | None = None) -> Run:
    """Run the target once on the directory ``corpus``, which gets what it finds."""
    place = WORK / target
    place.mkdir(parents=True, exist_ok=True)
    before = _children_cpu()
    done = subprocess.run(
        [
            command(target),
            *arguments,
            f"-timeout={_TIMEOUT_S}",
            f"-max_len={_LONGEST}",
            "-print_final_stats=1",
            f"-artifact_prefix={place}/finding-",
            str(corpus),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=place,
        env=os.environ | {"TMPDIR": str(place), "PYTHONPATH": str(ROOT / "tests")},
        timeout=timeout_s,
        check=False,
    )
    return Run(
        _last(r"number_of_executed_units: *(\d+)", done.stdout),
        _last(r"cov: (\d+)", done.stdout),
        _children_cpu() - before,
        done.stdout,
        done.returncode != 0,
    )


def minimise(target: str, corpus: Path, into: Path) -> None:
    """The inputs of ``corpus`` that reach what no smaller one does."""
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            command(target),
            "-merge=1",
            "-detect_leaks=0",
            f"-max_len={_LONGEST}",
            str(into),
            str(corpus),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=WORK / target,
        env=os.environ | {"TMPDIR": str(WORK / target), "PYTHONPATH": str(ROOT / "tests")},
        check=True,
    )


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _last(pattern: str, text: str) -> int:
    return int(next(iter(re.findall(pattern, text)[-1:]), 0))
