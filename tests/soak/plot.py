"""All samples of a run over time, as one image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from bench.times import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from soak.judge import Sample

MIB = 1024 * 1024
_PROCESSES = ("daemon", "gateway", "worker", "keeper")
# So many samples are one point of a curve of latencies.
_POINTS = 120
_SIZE = (16, 22)


def draw(path: Path, samples: Sequence[Sample], warm_up_s: float, title: str) -> None:
    figure = Figure(figsize=_SIZE, layout="constrained")
    rows = figure.subplots(5, 2, sharex=True)
    minutes = [(sample["time"] - samples[0]["time"]) / 60 for sample in samples]
    panels: list[tuple[str, Callable[[Axes, list[float], Sequence[Sample]], None]]] = [
        ("resident memory, MiB", _memory),
        ("memory since the end of the first minutes, MiB", _memory_since(warm_up_s)),
        ("open descriptors", _descriptors),
        ("sandboxes", _sandboxes),
        ("mounts, threads", _mounts),
        ("state directory", _state),
        ("probe: one job in 100 ms, and a plain start, ms", _probe),
        ("p99 of each kind by the native protocol, ms", _kinds(native=True)),
        ("the machine", _machine),
        ("p99 of each kind through the gateway, ms", _kinds(native=False)),
    ]
    for axes, (name, panel) in zip(rows.flat, panels, strict=True):
        panel(axes, minutes, samples)
        axes.set_title(name, fontsize=10)
        axes.axvline(warm_up_s / 60, color="grey", linestyle=":", linewidth=1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=6, loc="upper left", ncols=3, framealpha=0.5)
    for axes in rows[-1]:
        axes.set_xlabel("minutes")
    figure.suptitle(title)
    figure.savefig(path, dpi=90)


def _memory(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
    for name in _PROCESSES:
        for key, style in (("rss", "-"), ("pss", ":")):
            values = [sample["processes"][name][key] / MIB for sample in samples]
            axes.plot(minutes, values, style, linewidth=1, label=f"{name} {key}")
    axes.set_ylim(bottom=0)


def _memory_since(warm_up_s: float) -> Callable[[Axes, list[float], Sequence[Sample]], None]:
    def panel(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
        start = next((n for n, at in enumerate(minutes) if at * 60 >= warm_up_s), 0)
        for name in _PROCESSES:
            values = [sample["processes"][name]["rss"] / MIB for sample in samples]
            since = [value - values[start] for value in values]
            axes.plot(minutes[start:], since[start:], linewidth=1, label=name)

    return panel


def _descriptors(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
    for name in _PROCESSES:
        values = [sample["processes"][name]["fds"] for sample in samples]
        axes.plot(minutes, values, linewidth=1, label=name)
    axes.set_ylim(bottom=0)


def _sandboxes(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
    for name, key in (("cgroups", "cgroups"), ("processes", "sandbox_processes")):
        axes.plot(minutes, [sample[key] for sample in samples], linewidth=1, label=name)
    for kind in ("mnt", "net", "user"):
        values = [sample["namespaces"][kind] for sample in samples]
        axes.plot(minutes, values, linewidth=1, label=f"namespaces, {kind}")
    axes.plot(minutes, [s["zombies"] + s["strays"] for s in samples], "r", label="zombies, strays")
    axes.set_ylim(bottom=0)


def _mounts(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
    for key in ("mounts", "threads"):
        for name in ("daemon", "worker", "gateway"):
            values = [sample["processes"][name][key] for sample in samples]
            axes.plot(minutes, values, linewidth=1, label=f"{name}, {key}")
    axes.set_ylim(bottom=0)


def _state(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
    axes.plot(minutes, [s["state_bytes"] / MIB for s in samples], linewidth=1, label="MiB")
    axes.plot(
        minutes, [s["state_files"] / 100 for s in samples], linewidth=1, label="files, hundreds"
    )
    axes.set_ylim(bottom=0)


def _probe(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
    for key, name in (("probe", "job"), ("plain", "plain start")):
        for part in (0.5, 0.99):
            at, values = _percentiles(minutes, [sample[key] for sample in samples], part)
            axes.plot(at, values, linewidth=1, label=f"{name}, p{part * 100:.0f}")
    axes.set_yscale("log")


def _kinds(native: bool) -> Callable[[Axes, list[float], Sequence[Sample]], None]:
    def panel(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
        for name in samples[0]["native" if native else "rest"]:
            taken = [sample["taken"].get(name, []) for sample in samples]
            at, values = _percentiles(minutes, taken, 0.99)
            axes.plot(at, values, linewidth=0.8, label=name)
        axes.set_yscale("log")
        axes.set_ylim(top=axes.get_ylim()[1] * 20)  # Room for the names.

    return panel


def _percentiles(
    minutes: list[float], taken: list[list[int]], part: float
) -> tuple[list[float], list[float]]:
    """In ms, of some samples together, so that each is of enough figures."""
    step = max(1, len(taken) // _POINTS, min(6, len(taken) // 10))
    at, values = [], []
    for start in range(0, len(taken), step):
        together = [ns for one in taken[start : start + step] for ns in one]
        if together:
            at.append(minutes[min(start + step, len(minutes)) - 1])
            values.append(percentile(together, part) / 1e6)
    return at, values


def _machine(axes: Axes, minutes: list[float], samples: Sequence[Sample]) -> None:
    figures: tuple[tuple[str, Callable[[Any], float]], ...] = (
        ("idle, %", lambda s: s["machine_idle"] * 100),
        ("stolen, %", lambda s: s["machine_stolen"] * 100),
        ("load", lambda s: s["load"]),
        ("done, in a second", lambda s: s["done_per_second"]),
        ("kernel memory, MiB / 10", lambda s: s["kernel_unreclaimable_bytes"] / MIB / 10),
    )
    for name, figure in figures:
        axes.plot(minutes, [figure(s) for s in samples], linewidth=1, label=name)
    axes.set_ylim(bottom=0)
