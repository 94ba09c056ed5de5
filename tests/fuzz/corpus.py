"""The kept inputs: for each target a file, an input a line, in Base64: so changes can be seen."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

HERE = Path(__file__).parent / "corpus"
# Longer ones would make the repository large.
_LONGEST = 4096


def load(target: str) -> list[bytes]:
    path = HERE / f"{target}.txt"
    return [base64.b64decode(line) for line in path.read_text().split()] if path.exists() else []


def line(data: bytes) -> str:
    return base64.b64encode(data).decode()


def keep(target: str, inputs: list[bytes]) -> int:
    """Replace the kept inputs. Returns how many there are."""
    kept = sorted({data for data in inputs if 0 < len(data) <= _LONGEST}, key=lambda d: (len(d), d))
    HERE.mkdir(exist_ok=True)
    (HERE / f"{target}.txt").write_text("".join(line(data) + "\n" for data in kept))
    return len(kept)


def spread(target: str, directory: Path) -> None:
    """As files, the way libFuzzer has them."""
    directory.mkdir(parents=True, exist_ok=True)
    for data in load(target):
        (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def gather(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.iterdir()]
