"""Params and results of `function.*`, `execution.*` and `key.*`.

What a field means is said in docs/protocol.md. JSON values travel in two forms: `args` of a request
is any value, or JSON text as bin; `result` of an answer is JSON text, as the function gave it.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from sandboxd.protocol import ranges
from sandboxd.protocol.models import Count, Count32, Limits, Token

DEFAULT_SPACE: Final = "main"
MAX_CALLS: Final = 10_000
MAX_IDS: Final = 10_000
MAX_PAGE: Final = 1000
PAGE: Final = 100

# One more than a name may have, so that one that is too long is told what a name is.
Name = Annotated[str, Meta(max_length=65)]
Version = Annotated[str, Meta(max_length=ranges.MAX_CHARS)]
Secret = Annotated[str, Meta(max_length=128)]
Uid = Annotated[int, Meta(ge=0, le=2**32 - 2)]
Permissions = Annotated[int, Meta(ge=0, le=0o777)]
Path = Annotated[str, Meta(max_length=4096)]
PageSize = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str, Meta(max_length=256)]

Kind = Literal["python", "json", "program", "task"]
Role = Literal["admin", "manage", "master", "run"]
Status = Literal["pending", "running", "ended"]


class Caller(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who asks: every method takes these."""

    key: Secret | None = None
    tenant: Uid | None = None


# -- functions -----------------------------------------------------------------------------------


class FunctionFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file that comes with the function, as sent; `data` is text or bytes."""

    path: Path
    data: Any
    mode: Permissions | None = None


class InputField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file that an execution is given."""

    id: Name
    path: Path
    name: str | None = None
    required: bool | None = None


class OutputField(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file that an execution leaves."""

    id: Name
    path: Path
    name: str | None = None


class TemplateFields(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A task is to be made from a template; `config` is the template's own."""

    type: Literal["input-output", "unit-testing"]
    language: Token
    config: Any = None


class FunctionFields(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a function is made of; absent and nil are the default, or what there is."""

    code: str | None = None
    language: Name | None = None
    version: Version | None = None
    command: list[Any] | None = None
    environment: Token | None = None
    env: dict[str, str] | None = None
    files: list[FunctionFile] | None = None
    archive: Any = None  # Bytes of a tar, zip or squashfs archive; its files join the others.
    template: TemplateFields | None = None
    inputs: list[InputField] | None = None
    outputs: list[OutputField] | None = None
    context: dict[str, Any] | None = None
    limits: Limits | None = None
    metadata: dict[str, Any] | None = None
    check: bool | None = None


class FunctionCreateParams(FunctionFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `function.create`."""

    name: Name
    kind: Kind
    space: Name = DEFAULT_SPACE


class FunctionUpdateParams(FunctionFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `function.update`."""

    name: Name
    space: Name = DEFAULT_SPACE
    new_name: Name | None = None
    kind: Kind | None = None


class FunctionRef(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `function.delete`, and what names a function in the others."""

    name: Name
    space: Name = DEFAULT_SPACE


class FunctionGetParams(FunctionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `function.get`."""

    code: bool = True


class FunctionListParams(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `function.list`."""

    space: Name | None = None
    kind: Kind | None = None
    after: Cursor | None = None
    limit: PageSize = PAGE


class FunctionCallParams(FunctionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `function.call`."""

    args: Any = None
    stdin: Any = None
    limits: Limits | None = None
    log: bool | None = None
    client: Token | None = None


class FileInfo(Struct, frozen=True):
    """A file of a function in an answer."""

    path: str
    mode: int
    sha256: str
    bytes: int


class InputInfo(Struct, frozen=True):
    """An input of a function in an answer."""

    id: str
    path: str
    name: str = ""
    required: bool = False


class OutputInfo(Struct, frozen=True):
    """An output of a function in an answer."""

    id: str
    path: str
    name: str = ""


class FunctionInfo(Struct, frozen=True):
    """A function in an answer. What stands last is left out for who may only run it, and in lists,
    where `inputs`, `outputs` and `limits` are, too. Of `context` the names are shown."""

    space: str
    name: str
    kind: str
    revision: int
    created_ns: int
    updated_ns: int
    language: str = ""
    version: str = ""
    environment: str = ""
    metadata: dict[str, Any] = {}
    inputs: tuple[InputInfo, ...] | UnsetType = UNSET
    outputs: tuple[OutputInfo, ...] | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    command: tuple[str | bytes, ...] | UnsetType = UNSET
    env: dict[str, str] | UnsetType = UNSET
    files: tuple[FileInfo, ...] | UnsetType = UNSET
    context: tuple[str, ...] | UnsetType = UNSET
    code: str | UnsetType = UNSET


class FunctionsResult(Struct, frozen=True, omit_defaults=True):
    """Answer of `function.list`; `next` is the `after` of the next page, if there is one."""

    functions: list[FunctionInfo]
    next: str | None = None


# -- executions ----------------------------------------------------------------------------------


class ExecutionCreateParams(FunctionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.create`."""

    limits: Limits | None = None


class ExecutionRef(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.stop` and `execution.delete`."""

    id: Token


class ExecutionUploadParams(ExecutionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.upload`; `data` is text or bytes."""

    input: Name
    data: Any


class ExecutionStartParams(ExecutionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.start`."""

    args: Any = None
    stdin: Any = None


class ExecutionRunParams(FunctionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.run`; `inputs` are text or bytes by id."""

    args: Any = None
    stdin: Any = None
    inputs: dict[str, Any] | None = None
    limits: Limits | None = None
    wait: bool | None = None
    log: bool | None = None
    client: Token | None = None


class ExecutionRunManyParams(FunctionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.run_many`: the `args` of each call."""

    calls: Annotated[list[Any], Meta(max_length=MAX_CALLS)]
    limits: Limits | None = None


class ExecutionGetParams(ExecutionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.get`."""

    log: bool | None = None
    log_from: Count = 0


class ExecutionGetManyParams(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.get_many`."""

    ids: Annotated[list[Token], Meta(max_length=MAX_IDS)]


class ExecutionListParams(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.list`."""

    space: Name | None = None
    name: Name | None = None
    status: Status | None = None
    after: Cursor | None = None
    limit: PageSize = PAGE


class ExecutionWaitParams(ExecutionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.wait`."""

    log: bool | None = None


class ExecutionOutputParams(ExecutionRef, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `execution.output`."""

    output: Name


class CallError(Struct, frozen=True):
    """Why a function has no result. `kind` is one of `CALL_ERRORS`."""

    kind: str
    type: str
    message: str
    traceback: str = ""


# Why a function that ran has no result.
EXCEPTION: Final = "exception"  # It raised one.
SYNTAX: Final = "syntax"  # Its code does not parse.
NO_MAIN: Final = "no_main"  # There is no main in it that can be called.
SIGNATURE: Final = "signature"  # main does not take (args, context).
NOT_JSON: Final = "not_json"  # What it gave is no JSON value.
TOO_LARGE: Final = "too_large"  # What it gave is more than may be kept.
NO_RESULT: Final = "no_result"  # It ended without giving one.
CALL_ERRORS: Final = (EXCEPTION, SYNTAX, NO_MAIN, SIGNATURE, NOT_JSON, TOO_LARGE, NO_RESULT)

# Why an execution ended.
NORMAL: Final = "normal"
OUT_OF_MEMORY: Final = "out-of-memory"
TIMEOUT: Final = "timeout"
OUTPUT_LIMIT: Final = "output-limit"
STOPPED: Final = "stopped"
CANCELLED: Final = "cancelled"
INTERRUPTED: Final = "interrupted"
ERROR: Final = "error"
END_REASONS: Final = (
    NORMAL, OUT_OF_MEMORY, TIMEOUT, OUTPUT_LIMIT, STOPPED, CANCELLED, INTERRUPTED, ERROR,
)  # fmt: skip

# The life of an execution.
PENDING: Final = "pending"
RUNNING: Final = "running"
ENDED: Final = "ended"


class CallResult(Struct, frozen=True):
    """Answer of `function.call`."""

    end_reason: str
    status: str
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    cpu_time_ns: int = 0
    wall_time_ns: int = 0
    memory_bytes: int = 0
    result: str | None = None
    error: CallError | None = None
    log: bytes | UnsetType = UNSET
    log_truncated: bool | UnsetType = UNSET


class Uploaded(Struct, frozen=True):
    """An input or output of an execution that is there. Also the answer of `execution.upload`."""

    id: str
    path: str
    bytes: int


class ExecutionInfo(Struct, frozen=True):
    """An execution in an answer; `log` when it was asked for."""

    id: str
    space: str
    function: str
    revision: int
    status: str
    created_ns: int
    end_reason: str | None = None
    # When its start was asked for. Pending ones that have it wait for their turn.
    submitted_ns: int | None = None
    started_ns: int | None = None
    ended_ns: int | None = None
    job_status: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    cpu_time_ns: int = 0
    wall_time_ns: int = 0
    memory_bytes: int = 0
    result: str | None = None
    error: CallError | None = None
    inputs: tuple[Uploaded, ...] = ()
    outputs: tuple[Uploaded, ...] = ()
    key: str | None = None
    log_bytes: int = 0
    log_truncated: bool = False
    log: bytes | UnsetType = UNSET


class ExecutionsResult(Struct, frozen=True, omit_defaults=True):
    """Answer of `execution.list` and `execution.get_many`."""

    executions: list[ExecutionInfo]
    next: str | None = None


class IdsResult(Struct, frozen=True):
    """Answer of `execution.run_many`, in the order of the calls."""

    ids: list[str]


class OutputResult(Struct, frozen=True):
    """Answer of `execution.output`."""

    id: str
    path: str
    data: bytes


# -- keys ----------------------------------------------------------------------------------------


class KeyCreateParams(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `key.create`; `function` is the name of the one it is bound to, in `space`."""

    name: Name
    role: Role
    space: Name | None = None
    function: Name | None = None
    max_memory_bytes: Count | None = None
    max_time_ns: Count | None = None
    max_executions: Count32 | None = None


class KeyListParams(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `key.list`."""


class KeyRef(Caller, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Params of `key.delete`."""

    name: Name


class KeyInfo(Struct, frozen=True):
    """A key in an answer; `secret` only in that of `key.create`."""

    name: str
    role: str
    created_ns: int
    space: str | None = None
    function: str | None = None
    max_memory_bytes: int | None = None
    max_time_ns: int | None = None
    max_executions: int | None = None
    secret: str | UnsetType = UNSET


class KeysResult(Struct, frozen=True):
    """Answer of `key.list`."""

    keys: list[KeyInfo]


# Every method and the type of its params.
METHODS: Final[dict[str, type[Struct]]] = {
    "function.create": FunctionCreateParams,
    "function.update": FunctionUpdateParams,
    "function.get": FunctionGetParams,
    "function.list": FunctionListParams,
    "function.delete": FunctionRef,
    "function.call": FunctionCallParams,
    "execution.create": ExecutionCreateParams,
    "execution.upload": ExecutionUploadParams,
    "execution.start": ExecutionStartParams,
    "execution.run": ExecutionRunParams,
    "execution.run_many": ExecutionRunManyParams,
    "execution.get": ExecutionGetParams,
    "execution.get_many": ExecutionGetManyParams,
    "execution.list": ExecutionListParams,
    "execution.wait": ExecutionWaitParams,
    "execution.output": ExecutionOutputParams,
    "execution.stop": ExecutionRef,
    "execution.delete": ExecutionRef,
    "key.create": KeyCreateParams,
    "key.list": KeyListParams,
    "key.delete": KeyRef,
}
