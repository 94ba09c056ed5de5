"""Random kills under load, a few of them; `make kills` does it a thousand times.

`SANDBOXD_TEST_KILLS` says how often (10), `SANDBOXD_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random

import pytest

from faults import kills

KILLS = int(os.environ.get("SANDBOXD_TEST_KILLS", "10"))


@pytest.mark.timeout(300 + 30 * KILLS)
def test_killed_and_stopped_at_random_moments() -> None:
    """Nothing that was acknowledged is lost, nobody waits for ever, nothing is left."""
    seed = int(os.environ.get("SANDBOXD_TEST_SEED", random.randrange(2**32)))
    report, counts = kills.run(KILLS, seed)
    table = kills.table(report, counts, seed)
    print(table)
    assert not report.problems, table
    assert counts["answered"] > 10 * KILLS
    assert report.executions
