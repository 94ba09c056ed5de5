"""Measured times and what is made of them: percentiles, rates, medians of ratios."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


def percentile(values: list[int], part: float) -> float:
    """The smallest value that at least `part` of all values do not exceed."""
    ordered = sorted(values)
    return float(ordered[max(0, -(-len(ordered) * int(part * 1000) // 1000) - 1)])


@dataclass(frozen=True, slots=True)
class Round:
    """One run of a measuring program: how long it took, and each job in it."""

    elapsed_ns: int
    each_ns: list[int]

    @property
    def p50(self) -> float:
        return percentile(self.each_ns, 0.50)

    @property
    def p99(self) -> float:
        return percentile(self.each_ns, 0.99)

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return len(self.each_ns) * 1e9 / self.elapsed_ns


def parse_round(text: str) -> Round:
    """Read what `floor` and `load` print."""
    head, *lines = text.split("\n")
    return Round(int(head.removeprefix("elapsed_ns ")), [int(line) for line in lines if line])


@dataclass(frozen=True, slots=True)
class Series:
    """All rounds of one candidate, in the order in which they were measured."""

    name: str
    rounds: list[Round]

    def p50_ms(self) -> float:
        return median(r.p50 for r in self.rounds) / 1e6

    def p99_ms(self) -> float:
        return median(r.p99 for r in self.rounds) / 1e6

    def rate(self) -> float:
        return median(r.rate for r in self.rounds)

    def p50_over(self, floor: Series) -> float:
        """The median over the rounds of p50 / p50 of the floor of the same round."""
        return median(a.p50 / b.p50 for a, b in zip(self.rounds, floor.rounds, strict=True))

    def p99_over(self, floor: Series) -> float:
        """The same for p99 against the floor's p50: the strict reading of "4x of the floor"."""
        return median(a.p99 / b.p50 for a, b in zip(self.rounds, floor.rounds, strict=True))

    def p99_over_p99(self, floor: Series) -> float:
        """p99 against the floor's own p99: what is left when the machine itself is not quiet."""
        return median(a.p99 / b.p99 for a, b in zip(self.rounds, floor.rounds, strict=True))

    def rate_over(self, floor: Series) -> float:
        return median(a.rate / b.rate for a, b in zip(self.rounds, floor.rounds, strict=True))

    def as_json(self, floor: Series) -> dict[str, object]:
        return {
            "p50_ms": self.p50_ms(),
            "p99_ms": self.p99_ms(),
            "jobs_per_second": self.rate(),
            "p50_over_floor": self.p50_over(floor),
            "p99_over_floor_p50": self.p99_over(floor),
            "p99_over_floor_p99": self.p99_over_p99(floor),
            "rounds": [
                {"p50_ns": r.p50, "p99_ns": r.p99, "elapsed_ns": r.elapsed_ns, "n": len(r.each_ns)}
                for r in self.rounds
            ],
        }
