"""Whether a run was flat. Everything is judged after the first minutes, in which caches fill.

A figure grows when a straight line through all of its samples rises by more than its bound from one
end to the other, or when its largest sample in the last fifth is above that in the first fifth by
more than the bound and what such maxima differ by themselves: the distance between the median and
the maximum of the first fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final

from bench.times import percentile

Sample = dict[str, Any]
Figure = Callable[[Sample], float]

WARM_UP_S: Final = 300.0
# Of a run that is shorter than a quarter of an hour.
_WARM_UP_PART: Final = 1 / 3
_PARTS: Final = 5
_FEWEST: Final = 10

P99_TARGET: Final = 1.2
"""Of the probe at the end, over that at the start."""
IDLE_TARGET: Final = 0.3
"""With less, a latency is the length of a queue."""

MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Verdict:
    """One line of the table. ``held`` is None for what is only shown."""

    what: str
    start: str
    end: str
    change: str
    bound: str
    held: bool | None


@dataclass(frozen=True)
class Judged:
    """A figure, what it may grow by, and why so much."""

    what: str
    figure: Figure
    bound: float
    unit: float = 1
    name: str = ""


def _of(process: str, key: str) -> Figure:
    return lambda sample: float(sample["processes"][process][key])


# The least that anything leaks, 16 bytes or a descriptor, is more than this after an hour of what
# is done here once a second and processor. What is allowed is what one answer more, or one slot
# that is being made, takes at the moment of a sample.
FIGURES: Final = (
    Judged("daemon, resident", _of("daemon", "rss"), 1.5 * MIB, MIB, "MiB"),
    Judged("gateway, resident", _of("gateway", "rss"), 1.5 * MIB, MIB, "MiB"),
    Judged("keeper, resident", _of("keeper", "rss"), 0.1 * MIB, MIB, "MiB"),
    Judged("worker, resident", _of("worker", "rss"), 0.1 * MIB, MIB, "MiB"),
    Judged("daemon, descriptors", _of("daemon", "fds"), 3),
    Judged("gateway, descriptors", _of("gateway", "fds"), 3),
    Judged("keeper, descriptors", _of("keeper", "fds"), 0),
    Judged("worker, descriptors", _of("worker", "fds"), 24),  # Those of a slot.
    Judged("daemon, threads", _of("daemon", "threads"), 2),
    Judged("gateway, threads", _of("gateway", "threads"), 2),
    Judged("daemon, mounts", _of("daemon", "mounts"), 0),
    Judged("worker, mounts", _of("worker", "mounts"), 1),
    Judged("cgroups", lambda s: float(s["cgroups"]), 4),
    Judged("processes of sandboxes", lambda s: float(s["sandbox_processes"]), 4),
    Judged("zombies", lambda s: float(s["zombies"]), 1),
    Judged("processes that got away", lambda s: float(s["strays"]), 0),
    Judged("mount namespaces", lambda s: float(s["namespaces"]["mnt"]), 3),
    Judged("network namespaces", lambda s: float(s["namespaces"]["net"]), 3),
    Judged("state directory", lambda s: float(s["state_bytes"]), 0.5 * MIB, MIB, "MiB"),
    Judged("files in it", lambda s: float(s["state_files"]), 8),
)


def warm_up_s(length_s: float) -> float:
    return min(WARM_UP_S, length_s * _WARM_UP_PART)


def growth(samples: Sequence[Sample]) -> list[Verdict]:
    """Of every figure. ``samples`` are those after the first minutes."""
    if len(samples) < _FEWEST:
        text = f"{len(samples)} samples"
        return [Verdict("samples to judge by", "", text, "", f">= {_FEWEST}", False)]
    return [_growth(judged, samples) for judged in FIGURES]


def _growth(judged: Judged, samples: Sequence[Sample]) -> Verdict:
    values = [judged.figure(sample) for sample in samples]
    times = [float(sample["time"]) for sample in samples]
    first, last = _ends(values)
    rise = slope(times, values) * (times[-1] - times[0])
    higher = max(last) - max(first)
    noise = max(first) - median(first)
    held = rise <= judged.bound and higher <= judged.bound + noise
    return Verdict(
        judged.what,
        _number(max(first), judged),
        _number(max(last), judged),
        f"{rise / judged.unit:+.2f}",
        f"<= {judged.bound / judged.unit:g}",
        held,
    )


def _number(value: float, judged: Judged) -> str:
    return f"{value / judged.unit:.2f} {judged.name}" if judged.name else f"{value:g}"


def _ends(values: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    size = max(1, len(values) // _PARTS)
    return values[:size], values[-size:]


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line with the least squares."""
    middle, mean = fmean(times), fmean(values)
    square = sum((time - middle) ** 2 for time in times)
    both = sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True))
    return both / square if square else 0.0


def latency(samples: Sequence[Sample]) -> list[Verdict]:
    """Of the probe, and of the plain start that says what the machine did meanwhile."""
    verdicts = []
    for what, key, part, judged in (
        ("probe, p99", "probe", 0.99, True),
        ("probe, p50", "probe", 0.50, False),
        ("a plain start, p99", "plain", 0.99, False),
        ("a plain start, p50", "plain", 0.50, False),
    ):
        first, last = ([ns for sample in some for ns in sample[key]] for some in _ends(samples))
        if not first or not last:
            verdicts.append(Verdict(what, "", "no figures", "", "", False))
            continue
        before, after = percentile(first, part), percentile(last, part)
        ratio = after / before
        held = ratio <= P99_TARGET if judged else None
        bound = f"<= {P99_TARGET:g}x" if judged else ""
        times = (f"{ns / 1e6:.2f} ms" for ns in (before, after))
        verdicts.append(Verdict(what, *times, f"{ratio:.2f}x", bound, held))
    return verdicts


def idle(samples: Sequence[Sample]) -> Verdict:
    """Whether the latencies are those of jobs."""
    shares = [float(sample["machine_idle"]) for sample in samples]
    first, last = (median(some) for some in _ends(shares))
    middle = median(shares)
    return Verdict(
        "the machine is idle",
        f"{first:.0%}",
        f"{last:.0%}",
        f"{middle:.0%}",
        f">= {IDLE_TARGET:.0%}",
        middle >= IDLE_TARGET,
    )


def none_of(what: str, found: Sequence[str]) -> Verdict:
    """``found`` are things that there must not be."""
    return Verdict(what, "", str(len(found)), "", "0", not found)


def as_text(verdicts: Sequence[Verdict]) -> str:
    words = {True: "held", False: "NOT HELD", None: ""}
    rows = [("", "start", "end", "change", "bound", "")]
    rows += [(v.what, v.start, v.end, v.change, v.bound, words[v.held]) for v in verdicts]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in rows
    )
