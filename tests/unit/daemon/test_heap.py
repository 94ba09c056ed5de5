"""That memory for large blocks goes back to the kernel."""

import subprocess
import sys

import pytest

MIB = 1 << 20
# What it is that decides: a block has been freed before, and a small one is above the others.
PROGRAM = """
import sys
from pathlib import Path
from sandboxd.heap import give_back_large
if sys.argv[1] == "give_back":
    give_back_large()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
large = bytearray(8 << 20)
del large
before = resident()
large = [bytearray(8 << 20) for _ in range(16)]
above = bytearray(100_000)
del large
print(resident() - before)
"""


def left_by(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, check=True, timeout=60
    )
    return int(done.stdout)


def test_large_blocks_go_back() -> None:
    if left_by("leave") < 64 * MIB:
        pytest.skip("the C library gives them back by itself")
    assert left_by("give_back") < MIB
