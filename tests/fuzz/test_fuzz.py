"""Every kept input once more, and some new ones: what was found once stays found, and a target that
no longer builds or runs is seen at once. `make fuzz` is for finding more."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fuzz import corpus, engines
from fuzz.targets import TARGETS
from support import requirements

if TYPE_CHECKING:
    from pathlib import Path

_FRESH_S = 2


@pytest.fixture(scope="session")
def programs() -> None:
    """The targets in C, built."""
    if shutil.which("clang") is None:
        requirements.skip("clang is not installed, which the targets in C need: run 'make fuzz'")
    built = subprocess.run(
        ["flock", ".ci", ".ci/build", "fuzz"],
        cwd=engines.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "libclang_rt" in built.stderr:
        requirements.skip("clang has no sanitizers (libclang-rt-…-dev): run 'make fuzz'")
    assert built.returncode == 0, built.stderr[-4000:]


@pytest.mark.parametrize("target", engines.IN_C)
def test_the_helper_takes_anything(target: str, programs: None, tmp_path: Path) -> None:
    if target == "tree" and os.geteuid() != 0:
        requirements.skip("its directories are on a file system of their own: run it as root")
    corpus.spread(target, tmp_path / "corpus")
    kept = len(corpus.load(target))
    assert kept
    run = engines.fuzz(target, tmp_path / "corpus", f"-max_total_time={_FRESH_S}", timeout_s=100)
    assert not run.failed, run.output[-6000:]
    assert run.executions > kept


@pytest.mark.parametrize("target", engines.IN_PYTHON)
def test_the_daemon_takes_anything(target: str) -> None:
    kept = corpus.load(target)
    assert kept
    for data in kept:
        _try(target, data)
    end = time.monotonic() + _FRESH_S
    while time.monotonic() < end:
        _try(target, _mutated(random.choice(kept), random.choice(kept)))


def _try(target: str, data: bytes) -> None:
    try:
        TARGETS[target](data)
    except Exception as exc:
        exc.add_note(f"the input, as a line for tests/fuzz/corpus: {corpus.line(data)}")
        raise


def _mutated(data: bytes, other: bytes) -> bytes:
    """Parts of both, with some bytes changed."""
    at = random.randrange(len(data) + 1)
    mixed = bytearray(data[:at] + other[random.randrange(len(other) + 1) :])
    for _ in range(random.randrange(4)):
        if mixed:
            mixed[random.randrange(len(mixed))] = random.randrange(256)
    return bytes(mixed)
