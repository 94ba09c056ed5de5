"""`make soak` for some seconds: it writes its files, judges, and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.requirements import CLEAN_ENVIRONMENT, REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

# Of so short a run; that nothing grows, and how long a probe takes, is for a long one.
ALWAYS = (
    "failures", "left on the host", "counters that are not at rest", "tracebacks in the logs",
    "daemon, mounts", "processes that got away",
)  # fmt: skip


@pytest.mark.slow
def test_a_short_soak(require_sandbox: None, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [sys.executable, "-m", "soak", "--minutes", "0.33", "--scale", "0.2", "--every", "1",
         "--into", str(tmp_path)],
        env=CLEAN_ENVIRONMENT | {"PYTHONPATH": str(REPOSITORY / "tests")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["samples.jsonl", "soak.png", "table.txt"], done
    table = (tmp_path / "table.txt").read_text()
    assert table in done.stdout
    rows = {line.split("  ")[0]: line for line in table.splitlines() if "held" in line.lower()}
    for what in ALWAYS:
        assert rows[what].endswith(" held"), table
    assert done.returncode == (1 if "NOT HELD" in table else 0), done
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(samples) >= 10
    assert sum(len(sample["probe"]) for sample in samples) >= 20
    taken = {kind for sample in samples for kind, times in sample["taken"].items() if times}
    assert {"recycled", "called", "stored", "piston", "pythia"} <= taken
    image = (tmp_path / "soak.png").read_bytes()
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(image) > 50_000
