"""What `make soak` takes for growth, and what not."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

from soak import judge

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
COUNT = 600
PROCESS = {
    "rss": 40 * MIB,
    "pss": 30 * MIB,
    "anonymous": MIB,
    "fds": 30,
    "threads": 3,
    "mounts": 20,
}


def run_of(change: Callable[[dict[str, Any], float], None] = lambda *_: None) -> list[judge.Sample]:
    """Samples of 50 minutes, with noise; ``change`` gets each with its place from 0 to 1."""
    chance = random.Random(1)
    samples = []
    for number in range(COUNT):
        sample: dict[str, Any] = {
            "time": 5.0 * number,
            "processes": {n: dict(PROCESS) for n in ("daemon", "keeper", "worker", "gateway")},
            "cgroups": 28 + chance.choice((0, 0, 4)),
            "sandbox_processes": 16 + chance.randrange(4),
            "zombies": chance.randrange(2),
            "strays": 0,
            "namespaces": {"mnt": 7, "net": 7},
            "state_bytes": 5 * MIB + chance.choice((0, 0, MIB)),
            "state_files": 12,
            "machine_idle": 0.5 + chance.uniform(-0.3, 0.3),
            "probe": [1_000_000 + chance.randrange(500_000) for _ in range(50)],
            "plain": [500_000] * 50,
        }
        sample["processes"]["daemon"]["fds"] += chance.randrange(8)
        change(sample, number / COUNT)
        samples.append(copy.deepcopy(sample))
    return samples


def not_held(samples: list[judge.Sample]) -> list[str]:
    verdicts = [*judge.growth(samples), *judge.latency(samples), judge.idle(samples)]
    return [verdict.what for verdict in verdicts if verdict.held is False]


def test_what_is_flat() -> None:
    assert not_held(run_of()) == []


def test_a_leak_of_few_bytes() -> None:
    def leak(sample: dict[str, Any], at: float) -> None:
        sample["processes"]["daemon"]["rss"] += int(2 * MIB * at)

    assert not_held(run_of(leak)) == ["daemon, resident"]


def test_a_leak_of_few_descriptors_in_the_noise() -> None:
    def leak(sample: dict[str, Any], at: float) -> None:
        sample["processes"]["daemon"]["fds"] += int(6 * at)

    assert not_held(run_of(leak)) == ["daemon, descriptors"]


def test_what_grows_only_at_the_end() -> None:
    """A straight line hardly sees it."""

    def burst(sample: dict[str, Any], at: float) -> None:
        sample["cgroups"] += 12 if at > 0.99 else 0

    assert not_held(run_of(burst)) == ["cgroups"]


def test_one_process_that_got_away() -> None:
    def stray(sample: dict[str, Any], at: float) -> None:
        sample["strays"] = int(at > 0.5)

    assert not_held(run_of(stray)) == ["processes that got away"]


def test_a_probe_that_takes_longer() -> None:
    def slower(sample: dict[str, Any], at: float) -> None:
        sample["probe"] = [int(ns * (1 + 0.3 * at)) for ns in sample["probe"]]

    assert not_held(run_of(slower)) == ["probe, p99"]


def test_a_machine_that_is_busy() -> None:
    def busy(sample: dict[str, Any], at: float) -> None:
        sample["machine_idle"] = 0.2

    assert not_held(run_of(busy)) == ["the machine is idle"]


def test_a_run_of_a_few_samples() -> None:
    assert not_held(run_of()[:5])[0] == "samples to judge by"
    assert [verdict.held for verdict in judge.latency([])] == [False] * 4


def test_how_much_is_not_judged() -> None:
    assert judge.warm_up_s(3600) == 300
    assert judge.warm_up_s(60) == 20


def test_the_table() -> None:
    text = judge.as_text(judge.growth(run_of()))
    lines = text.splitlines()
    assert lines[0].split() == ["start", "end", "change", "bound"]
    assert len(lines) == 1 + len(judge.FIGURES)
    assert all(line.endswith(" held") for line in lines[1:])
