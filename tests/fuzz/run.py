"""`make fuzz`: every target for some CPU time; what is new is kept, what is found is shown."""

from __future__ import annotations

import argparse
import shutil
import sys

from fuzz import corpus, engines, gateway

_HEAD = f"{'target':<10} {'executions':>12} {'edges':>6} {'CPU s':>6} {'inputs':>6}  findings"

_GATEWAY = "gateway"
_ALL = [*engines.IN_C, *engines.IN_PYTHON, _GATEWAY]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of CPU time, for each target")
    parser.add_argument("targets", nargs="*", default=_ALL)
    arguments = parser.parse_args()
    print(_HEAD, flush=True)
    found = [name for name in arguments.targets if not _one(name, arguments.seconds)]
    return 1 if found else 0


def _one(target: str, seconds: float) -> bool:
    """Returns whether nothing was found."""
    place = engines.WORK / target
    shutil.rmtree(place, ignore_errors=True)
    if target == _GATEWAY:
        total, kept, findings = gateway.fuzz(seconds), 0, []
    else:
        total = _fuzz(target, seconds)
        findings = sorted(path.name for path in place.glob("finding-*"))
        kept = _keep(target)
    print(
        f"{target:<10} {total.executions:>12,} {total.edges:>6} {total.cpu_s:>6.0f} {kept:>6}  "
        f"{', '.join(findings) or ('failed' if total.failed else 'none')}",
        flush=True,
    )
    if total.failed:
        sys.stderr.write(total.output[-8000:])
        print(f"the inputs are in {place}", file=sys.stderr)
    return not total.failed


def _fuzz(target: str, seconds: float) -> engines.Run:
    """libFuzzer counts the time of the clock; on a busy machine that is less of the CPU's."""
    inputs = engines.WORK / target / "corpus"
    corpus.spread(target, inputs)
    total = engines.Run()
    while not total.failed and (left := seconds - total.cpu_s) >= 1:
        run = engines.fuzz(target, inputs, f"-max_total_time={left:.0f}", "-reload=0")
        total.executions += run.executions
        total.edges = max(total.edges, run.edges)
        total.cpu_s += run.cpu_s
        total.output, total.failed = run.output, run.failed
    return total


def _keep(target: str) -> int:
    place = engines.WORK / target
    engines.minimise(target, place / "corpus", place / "minimised")
    return corpus.keep(target, corpus.gather(place / "minimised"))


if __name__ == "__main__":
    sys.exit(main())
