"""May this job be run as asked? The configuration's answer, before anything is queued."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from sandboxd.config import Config
from sandboxd.engine import wire
from sandboxd.engine.job import Job
from sandboxd.protocol.errors import LIMIT_EXCEEDED, RequestError, invalid
from sandboxd.protocol.jobs import InputFile, JobSpec, Stage
from sandboxd.protocol.limits import JobLimits, LimitPolicy

if TYPE_CHECKING:
    from sandboxd.engine.jobs import Engine

_STANDARD_STREAMS: Final = 3


class Admission:
    """Turns a checked request into a job with every limit set."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._policy = LimitPolicy(config.limits, config.max_limits)
        self._mount_bits = {name: 1 << n for n, name in enumerate(config.mounts)}

    def admit(self, engine: "Engine", spec: JobSpec, tenant: int, field: str = "") -> Job:
        """A job that may be submitted. Raises RequestError when the configuration forbids it."""
        at = f"{field}." if field else ""
        limits = self._resolve(spec.run, at + "limits")
        job = Job(engine, spec, tenant, limits)
        first = job.limits
        if spec.compile is not None:
            first = self._resolve(spec.compile, f"{at}compile.limits")
            job.compile_limits = first
            job.size += len(spec.compile.stdin)
        if spec.files:
            job.size += _check_files(spec.files, first, at)
        if spec.mounts:
            job.mounts = self._mounts(spec.mounts, at)
        if spec.environment:
            if spec.mounts:
                raise invalid(f"{at}mounts", "cannot go with environment, which has all it needs")
            job.root = engine.roots.find(spec.environment)
        if (spec.mode or self._config.mode) == "fresh":
            job.mode = wire.MODE_FRESH
        if spec.file_locks and not self._config.file_locks:
            raise invalid(f"{at}file_locks", "is not allowed by the configuration of sandboxd")
        if spec.file_locks is False or not self._config.file_locks:
            job.flags = wire.JOB_NO_LOCKS
        if spec.collect_bytes > self._config.max_collect_bytes:
            raise _too_much(
                f"{at}collect_bytes", spec.collect_bytes, self._config.max_collect_bytes
            )
        return job

    def _resolve(self, stage: Stage, field: str) -> JobLimits:
        limits = self._policy.resolve(stage.limits, field)
        if limits.open_files < _STANDARD_STREAMS:
            raise invalid(f"{field}.open_files", "must be 3 at least: stdin, stdout and stderr")
        return limits

    def _mounts(self, names: Iterable[str], at: str) -> int:
        bits = 0
        for name in names:
            bit = self._mount_bits.get(name)
            if bit is None:
                known = ", ".join(self._mount_bits) or "none"
                raise invalid(f"{at}mounts", f"{name[:64]!r} is not configured; there is: {known}")
            bits |= bit
        return bits


def _check_files(files: Sequence[InputFile], limits: JobLimits, at: str) -> int:
    """Their bytes. Raises RequestError when they cannot fit into the limits of the job."""
    total = 0
    for file in files:
        if len(file.data) > limits.file_size_bytes:
            name = file.path.decode()
            raise _too_much(f"{at}files[{name[:64]!r}]", len(file.data), limits.file_size_bytes)
        total += len(file.data)
    if total > limits.disk_bytes:
        raise _too_much(f"{at}files", total, limits.disk_bytes)
    if len(files) > limits.disk_inodes:
        message = f"{at}files: {len(files)} files are more than the limit disk_inodes"
        raise RequestError(LIMIT_EXCEEDED, message, {"field": f"{at}files"})
    return total


def _too_much(field: str, value: int, most: int) -> RequestError:
    message = f"{field}: {value} bytes are more than the limit of {most}"
    return RequestError(LIMIT_EXCEEDED, message, {"field": field, "maximum": most})
