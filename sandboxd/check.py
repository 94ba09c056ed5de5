"""What this host can do, feature by feature: ``sandboxd --check`` and ``server.check``."""

import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

import trio

from sandboxd import selftest
from sandboxd.cgroups import Groups
from sandboxd.engine.helper import HELPER
from sandboxd.engine.jobs import Engine
from sandboxd.errors import HostError
from sandboxd.weaker import Weaker

_SELFTEST_TIMEOUT_S: Final = 20.0
_HELPER_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Feature:
    """One line of the report."""

    name: str
    ok: bool
    required: bool
    detail: str
    hint: str


class KernelCheck:
    """``sandbox-helper check``, which needs root: started before privileges are dropped, read
    when somebody asks."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self._features: list[Feature] | None = None

    def features(self) -> list[Feature]:
        """Waits for the process: call it in a thread. Raises HostError without an answer."""
        if self._features is None:
            try:
                self._process.wait(_HELPER_TIMEOUT_S)
            except subprocess.TimeoutExpired as exc:
                raise HostError("sandbox-helper check does not end") from exc
            with self._output as output:
                output.seek(0)
                self._features = parse(output.read().decode("utf-8", "replace"))
        return self._features


def start_kernel_check(executable: Path = HELPER) -> KernelCheck:
    output = os.fdopen(os.memfd_create("sandboxd-check", os.MFD_CLOEXEC), "w+b")
    process = subprocess.Popen(
        [executable, "check"], stdin=subprocess.DEVNULL, stdout=output, cwd="/", env={}
    )
    return KernelCheck(process, output)


def parse(text: str) -> list[Feature]:
    """The helper's lines: name, ok or missing, required or optional, detail, hint."""
    features = []
    for line in text.splitlines():
        parts = line.split("\t")
        if len(parts) == 5:
            name, found, need, detail, hint = parts
            features.append(Feature(name, found == "ok", need == "required", detail, hint))
    return features


class Checker:
    """Answers ``server.check``. One check runs at a time, because its jobs take places."""

    def __init__(
        self, engine: Engine, kernel: KernelCheck, groups: Groups, probe: bytes, weaker: Weaker
    ) -> None:
        self._engine = engine
        self._kernel = kernel
        self._groups = groups
        self._probe = probe
        self.weaker = weaker
        self._lock = trio.Lock()

    async def report(self) -> dict[str, object]:
        """``{ok, features, privileges, weaker}``: the kernel's part, the controllers, and the self
        test, run now; what the mode of privileges costs."""
        async with self._lock:
            features = await trio.to_thread.run_sync(self._kernel.features)
            features = features + self._controllers() + await self._limits()
        ok = all(feature.ok for feature in features if feature.required)
        return {
            "ok": ok,
            "features": [asdict(feature) for feature in features],
            "privileges": self.weaker.mode,
            "weaker": self.weaker.sentences(),
        }

    def _controllers(self) -> list[Feature]:
        return [
            Feature(f"cgroup.{name}", True, True, detail, "")
            for name, detail in self._groups.describe()
        ]

    async def _limits(self) -> list[Feature]:
        try:
            findings = await selftest.run(self._engine, _SELFTEST_TIMEOUT_S, self._probe)
        except HostError as error:
            return [Feature("limits", False, True, str(error), "")]
        return [
            Feature(f"limit.{found.name}", not found.problem, True, found.problem, "")
            for found in findings
        ]
