"""What is stored: functions, their executions, and API keys.

These are values: the store gives copies, and changes nothing but what it is told to. Times are
nanoseconds since 1970 (0: not yet), sizes are bytes. A tenant is a uid.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from msgspec import Struct, field

from sandboxd.protocol.models import Limits

Kind = Literal["python", "json", "program", "task"]
Status = Literal["pending", "running", "ended"]
EndReason = Literal[
    "",
    "normal",
    "out-of-memory",
    "timeout",
    "output-limit",
    "stopped",
    "cancelled",
    "interrupted",
    "error",
]
Role = Literal["admin", "manage", "master", "run"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
ROLES: Final[tuple[Role, ...]] = get_args(Role)
BOUND_ROLES: Final[tuple[Role, ...]] = ("master", "run")
"""Keys with these are for one function only."""

DEFAULT_SPACE: Final = "main"


class StoredFile(Struct, frozen=True):
    """A file of a function, below the work directory. Its bytes are a content of the store."""

    path: str
    mode: int
    sha256: str
    bytes: int


class Port(Struct, frozen=True, omit_defaults=True):
    """An input or an output of a function: what a client calls it, and where it is."""

    id: str
    path: str
    name: str = ""
    required: bool = False
    """Of an input: an execution cannot be started without it."""


class ExecutionFile(Struct, frozen=True):
    """An uploaded input or a collected output of an execution."""

    id: str
    path: str
    sha256: str
    bytes: int


class Function(Struct, frozen=True, kw_only=True):
    """Stored code. ``id`` is given by the store, for good: no other function ever has it."""

    tenant: int
    space: str = DEFAULT_SPACE
    name: str
    kind: Kind
    code: str = ""
    language: str = ""
    version: str = ""
    command: tuple[str | bytes, ...] = ()
    """Bytes where it is not UTF-8."""
    environment: str = ""
    env: dict[str, str] = field(default_factory=dict)
    files: tuple[StoredFile, ...] = ()
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    """Secret: encrypted on the disk, and not in `repr`. JSON values."""
    limits: Limits = Limits()
    metadata: dict[str, Any] = field(default_factory=dict)
    created_ns: int = 0
    updated_ns: int = 0
    revision: int = 1
    id: int = 0

    def __repr__(self) -> str:
        return f"<Function {self.id} {self.tenant}:{self.space}/{self.name} r{self.revision}>"


class FunctionItem(Struct, frozen=True, kw_only=True):
    """A function in a list: without what is long or secret."""

    tenant: int
    space: str
    name: str
    kind: Kind
    language: str
    version: str
    environment: str
    metadata: dict[str, Any]
    created_ns: int
    updated_ns: int
    revision: int
    id: int
    cut: bool = False
    """More would be too much for one list: it ends here, and there may be others."""


class Failure(Struct, frozen=True):
    """The error that a call ended with, as the user's code raised it."""

    type: str
    message: str
    traceback: str = ""
    kind: str = "exception"
    """One of `protocol.functions.CALL_ERRORS`."""


class Execution(Struct, frozen=True, kw_only=True):
    """One run of a function. ``sequence`` is given by the store and counts up.

    Lists leave out what may be long: `args`, `stdin`, `result`, `error`, `inputs`, `outputs` have
    their defaults there. The log is never in it: see `Store.log`.
    """

    id: str
    tenant: int
    space: str
    function: str
    function_id: int
    revision: int = 0
    """Of the function, as it was when this began."""
    status: Status = "pending"
    end_reason: EndReason = ""
    created_ns: int = 0
    submitted_ns: int = 0
    """When a client started it: it is run from then on, also by the daemon's next life."""
    started_ns: int = 0
    ended_ns: int = 0
    key: str = ""
    """Name of the key that it was made with; "" when it was a local user."""
    key_id: int = 0

    limits: Limits = Limits()
    """What this run asked for or its key allows, where that is less than the function's."""
    metadata: dict[str, Any] = field(default_factory=dict)
    args: str = ""
    """JSON; "" for none."""
    stdin: bytes = b""
    inputs: tuple[ExecutionFile, ...] = ()

    job_status: str = ""
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    cpu_time_ns: int = 0
    wall_time_ns: int = 0
    memory_bytes: int = 0
    result: str | None = None
    """JSON; None when there is none."""
    error: Failure | None = None
    log_bytes: int = 0
    log_truncated: bool = False
    outputs: tuple[ExecutionFile, ...] = ()
    sequence: int = 0

    def __repr__(self) -> str:
        return f"<Execution {self.id} of {self.space}/{self.function} {self.status}>"


class Outcome(Struct, frozen=True, kw_only=True):
    """How an execution ended: what `end_execution` writes."""

    end_reason: EndReason
    ended_ns: int
    started_ns: int | None = None
    """None: what `change_execution` has set. A short one is never noted as running."""
    revision: int | None = None
    """None: the same."""
    job_status: str = ""
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    cpu_time_ns: int = 0
    wall_time_ns: int = 0
    memory_bytes: int = 0
    result: str | None = None
    error: Failure | None = None
    log: bytes = b""
    log_truncated: bool = False
    outputs: tuple[ExecutionFile, ...] = ()


class Filter(Struct, frozen=True, kw_only=True):
    """Which executions of a tenant; what is None does not matter."""

    space: str | None = None
    function: str | None = None
    """Only together with ``space``."""
    function_id: int | None = None
    key_id: int | None = None
    status: Status | None = None


class Key(Struct, frozen=True, kw_only=True):
    """An API key without its secret, which the store does not have."""

    tenant: int
    name: str
    role: Role
    space: str | None = None
    """Of a `manage` key: the only space it reaches; None: all."""
    function_id: int = 0
    """Of a bound key: the function. A new function of the same name is another one."""
    function_space: str = ""
    function_name: str = ""
    max_memory_bytes: int = 0
    max_time_ns: int = 0
    max_executions: int = 0
    """Of running ones; 0 in these three: no limit of the key's own."""
    created_ns: int = 0
    id: int = 0


class Retention(Struct, frozen=True):
    """How long ended executions are kept."""

    age_ns: int = 7 * 86_400 * 1_000_000_000
    bytes: int = 1024 * 1024 * 1024
    count: int = 1_000_000


FUNCTION_CHANGES: Final = frozenset(Function.__struct_fields__) - {
    "tenant",
    "id",
    "created_ns",
    "revision",
}
"""What `Store.change_function` takes."""
