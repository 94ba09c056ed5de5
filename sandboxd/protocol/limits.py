"""What the limits in a request mean: absent, 0 and nil are the configured ones, never "none"."""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from sandboxd.protocol.errors import LIMIT_EXCEEDED, RequestError
from sandboxd.protocol.models import Limits


class LimitValues(Protocol):
    """Anything that has a whole number for every limit."""

    @property
    def cpu_time_ns(self) -> int: ...
    @property
    def wall_time_ns(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def output_bytes(self) -> int: ...
    @property
    def file_size_bytes(self) -> int: ...
    @property
    def disk_bytes(self) -> int: ...
    @property
    def stack_bytes(self) -> int: ...
    @property
    def disk_inodes(self) -> int: ...
    @property
    def processes(self) -> int: ...
    @property
    def open_files(self) -> int: ...


class JobLimits(Struct, frozen=True):
    """The limits a job runs with: all set."""

    cpu_time_ns: int
    wall_time_ns: int
    memory_bytes: int
    output_bytes: int
    file_size_bytes: int
    disk_bytes: int
    stack_bytes: int
    disk_inodes: int
    processes: int
    open_files: int


LIMIT_NAMES: Final = Limits.__struct_fields__


class LimitPolicy:
    """Fills in the configured limits and refuses what is above the most allowed."""

    def __init__(self, configured: LimitValues, maximum: LimitValues) -> None:
        self._default = JobLimits(*(getattr(configured, name) for name in LIMIT_NAMES))
        self._maximum = tuple(getattr(maximum, name) for name in LIMIT_NAMES)
        self._steps = tuple(
            zip(LIMIT_NAMES, self._maximum, self._values(self._default), strict=True)
        )

    @staticmethod
    def _values(limits: JobLimits) -> tuple[int, ...]:
        return tuple(getattr(limits, name) for name in LIMIT_NAMES)

    def resolve(self, asked: Limits | None, field: str = "limits") -> JobLimits:
        """The limits to run with. Raises RequestError (`limit_exceeded`), naming `field`."""
        if asked is None:
            return self._default
        values = []
        for name, most, default in self._steps:
            value = getattr(asked, name) or default
            if value > most:
                raise _above(f"{field}.{name}", value, most)
            values.append(value)
        return JobLimits(*values)


def _above(field: str, value: int, most: int) -> RequestError:
    message = f"{field}: {value} is more than this server allows; at most {most}"
    return RequestError(LIMIT_EXCEEDED, message, {"field": field, "maximum": most})
