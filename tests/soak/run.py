"""One run: the load, the probe, the samples, and what is made of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from bench.times import percentile
from sandboxd_client import Client
from sandboxd_client.aio import TrioClient
from soak import judge, plot
from soak.load import Load
from soak.native import Native
from soak.rest import Rest
from soak.samples import Sampler
from support import invariants

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from soak.judge import Sample, Verdict
    from soak.kinds import Kind
    from soak.world import World

_PROBES_PER_SECOND = 10
_PROGRESS_S = 60.0
_SHOWN_FAILURES = 20


@dataclass
class Soak:
    """What a run is of, and what was found out in it."""

    world: World
    into: Path
    length_s: float
    every_s: float
    scale: float
    samples: list[Sample] = field(default_factory=list)
    probes: list[tuple[int, int]] = field(default_factory=list)
    stopped: str = ""
    """Why it ended too early."""


async def soak(run: Soak) -> int:
    """The exit status."""
    async with await TrioClient.connect(run.world.daemon.socket) as client:
        native, rest = Native(run.world, client).kinds(), Rest(run.world).kinds()
        load = Load([*native, *rest], run.scale * len(os.sched_getaffinity(0)))
        _say("soak: each kind once")
        await load.once()
        if load.failures:
            _say("\n".join(load.failures))
            return 1
        load.taken()
        before = await _at_rest(run.world)
        _say(f"soak: {run.length_s / 60:g} minutes into {run.into}, daemon {run.world.daemon.pid}")
        await _under_load(run, load, native, rest)
        verdicts = _judged(run, load) + await _left(run, before)
    text = judge.as_text(verdicts)
    held = all(verdict.held is not False for verdict in verdicts) and not run.stopped
    notes = [*load.failures[:_SHOWN_FAILURES], *([run.stopped] if run.stopped else [])]
    text = "\n".join([text, *notes, "soak: it held" if held else "soak: it did NOT hold"])
    (run.into / "table.txt").write_text(text + "\n")
    _say(text)
    return 0 if held else 1


def _say(text: str) -> None:
    print(text, flush=True)


async def _under_load(run: Soak, load: Load, native: Sequence[Kind], rest: Sequence[Kind]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_signal, run, nursery.cancel_scope)
        probing = await nursery.start(_probe, run)
        async with trio.open_nursery() as loading:
            loading.start_soon(load.run)
            names = {"native": [k.name for k in native], "rest": [k.name for k in rest]}
            await _sample(run, load, names)
            loading.cancel_scope.cancel()
        probing.terminate()
        nursery.cancel_scope.cancel()


async def _until_signal(run: Soak, scope: trio.CancelScope) -> None:
    """End early, and judge all the same."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            run.stopped = f"stopped by {signal.Signals(number).name}"
            scope.cancel()


async def _probe(
    run: Soak, task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED
) -> None:
    command = [sys.executable, "-m", "soak.probe", run.world.daemon.socket, str(_PROBES_PER_SECOND)]
    start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        assert process.stdout is not None
        task_status.started(process)
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                job, plain = line.split()
                run.probes.append((int(job), int(plain)))


async def _sample(run: Soak, load: Load, names: dict[str, list[str]]) -> None:
    """A sample every few seconds, each a line in the file."""
    sampler = Sampler(run.world)
    began = told = due = trio.current_time()
    done = load.done
    while due < began + run.length_s and not run.stopped:
        due += run.every_s
        await trio.sleep_until(due)
        try:
            sample = sampler.take()
        except OSError as exc:
            run.stopped = f"a process is gone: {exc}"
            return
        probes, run.probes = run.probes, []
        sample |= names
        sample["taken"] = load.taken()
        sample["probe"], sample["plain"] = [p[0] for p in probes], [p[1] for p in probes]
        sample["done_per_second"], done = (load.done - done) / run.every_s, load.done
        sample["failed"] = load.failed
        run.samples.append(sample)
        _write(run.into / "samples.jsonl", sample)
        if due - told >= min(_PROGRESS_S, run.length_s / 4):
            told = due
            _say(_progress(sample, due - began, load))


def _write(path: Path, sample: Sample) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(sample) + "\n")


def _progress(sample: Sample, passed_s: float, load: Load) -> str:
    memory = {name: values["rss"] / judge.MIB for name, values in sample["processes"].items()}
    shown = " ".join(f"{name} {size:.1f}" for name, size in memory.items())
    probe = f"{percentile(sample['probe'], 0.5) / 1e6:.2f} ms" if sample["probe"] else "none"
    return (
        f"{time.strftime('%H:%M:%S')} {passed_s / 60:.1f} min: {load.done} done,"
        f" {load.failed} failed, MiB {shown}, probe {probe}, idle {sample['machine_idle']:.0%}"
    )


def _judged(run: Soak, load: Load) -> list[Verdict]:
    samples = run.samples
    if not samples:
        return [judge.none_of("failures", load.failures)]
    warm_up_s = judge.warm_up_s(run.length_s)
    settled = [s for s in samples if s["time"] - samples[0]["time"] >= warm_up_s]
    title = f"{run.length_s / 60:g} minutes, {load.done} done, {load.failed} failed"
    plot.draw(run.into / "soak.png", samples, warm_up_s, title)
    verdicts = judge.growth(settled)
    if settled:
        verdicts += [*judge.latency(settled), judge.idle(settled)]
    return [*verdicts, judge.none_of("failures", load.failures)]


# -- what is left at the end ----------------------------------------------------------------------


async def _at_rest(world: World) -> invariants.Snapshot:
    return await trio.to_thread.run_sync(_settled, world)


def _settled(world: World) -> invariants.Snapshot:
    """Without the connections that there are: the gateway keeps as many as it once needed."""
    with Client(world.daemon.socket) as client:
        found = invariants.settle(world.daemon, client)
        daemon = next(iter(found.descriptors.values()))
        daemon["socket"] -= client.stats()["connections"]
        return found


async def _left(run: Soak, before: invariants.Snapshot) -> list[Verdict]:
    """Of processes, cgroups, mounts, descriptors, files, in counters and in logs."""
    if run.world.daemon.process.poll() is not None:
        return [judge.none_of("daemons that died", [run.world.daemon.log_text()[-2000:]])]
    differences = await trio.to_thread.run_sync(_differences, run.world, before)
    counters = await trio.to_thread.run_sync(_counters, run.world)
    logs = [run.world.daemon.log_text(), run.world.gateway.log_text()]
    for text in (*differences, *counters):
        _say(text)
    return [
        judge.none_of("left on the host", differences),
        judge.none_of("counters that are not at rest", counters),
        judge.none_of("tracebacks in the logs", [text for text in logs if "Traceback" in text]),
    ]


def _differences(world: World, before: invariants.Snapshot) -> list[str]:
    """What is not as before, also after a moment."""
    deadline = time.monotonic() + invariants.SETTLE_TIMEOUT_S
    while found := _settled(world).differences(before):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found


def _counters(world: World) -> list[str]:
    """Those that are not what they are when nothing runs."""
    with Client(world.daemon.socket) as client:
        stats: dict[str, Any] = client.stats()
        unfinished = [
            row["id"]
            for status in ("pending", "running")
            for row in client.executions(status=status)["executions"]
        ]
    at_rest = {
        "queue": {"running": 0, "waiting": 0},
        "slots": {"running": 0, "preparing": 0, "held": 0, "waiting": 0},
    }
    wrong = [
        f"{group}.{name} is {stats[group][name]}"
        for group, names in at_rest.items()
        for name, value in names.items()
        if stats[group][name] != value
    ]
    return wrong + [f"execution {id} has not ended" for id in unfinished]
