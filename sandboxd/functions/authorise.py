"""Who may do what with functions, executions and keys: the only place where that is decided.

What somebody may not see is hidden: it is as if it were not there. What he may see, and not do
something with, is denied. docs/authorisation.md shows the table; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import UNSET, Struct, UnsetType, structs

from sandboxd.protocol.errors import NOT_FOUND, PERMISSION_DENIED, RequestError

if TYPE_CHECKING:
    from sandboxd.functions.live import Live
    from sandboxd.functions.model import Execution, Filter, Function, FunctionItem, Key, Role

Action = Literal[
    "function.create",
    "function.update",
    "function.delete",
    "function.list",
    "function.get",
    "function.info",
    "function.call",
    "execution.create",
    "execution.upload",
    "execution.start",
    "execution.list",
    "execution.get",
    "execution.log",
    "execution.output",
    "execution.wait",
    "execution.stop",
    "execution.delete",
    "key.create",
    "key.list",
    "key.delete",
]
Who = Literal["uid", "admin", "manage", "master", "run"]
Reach = Literal["all", "its space", "its function", "those it made", "`run` keys", "no"]
Verdict = Literal["allowed", "hidden", "denied"]
Kind = Literal["function", "execution", "key", "list"]

_ALL: Final[Reach] = "all"
_NO: Final[Reach] = "no"
_WHO: Final[tuple[Who, ...]] = ("uid", "admin", "manage", "master", "run")

TABLE: Final[tuple[tuple[tuple[Action, ...], tuple[Reach, ...]], ...]] = (
    (
        ("function.create", "function.update", "function.delete"),
        (_ALL, _ALL, "its space", _NO, _NO),
    ),
    (("function.list", "function.get"), (_ALL, _ALL, "its space", "its function", _NO)),
    (
        ("function.info", "function.call", "execution.create"),
        (_ALL, _ALL, "its space", "its function", "its function"),
    ),
    (
        (
            "execution.upload",
            "execution.start",
            "execution.list",
            "execution.get",
            "execution.log",
            "execution.output",
            "execution.wait",
            "execution.stop",
            "execution.delete",
        ),
        (_ALL, _ALL, "its space", "its function", "those it made"),
    ),
    (("key.create", "key.list", "key.delete"), (_ALL, _ALL, _NO, "`run` keys", _NO)),
)
"""For each action how far it reaches: as the uid itself, and with a key of each role."""

_REACH: Final[dict[tuple[Who, Action], Reach]] = {
    (who, action): reach
    for actions, reaches in TABLE
    for who, reach in zip(_WHO, reaches, strict=True)
    for action in actions
}
# There is nothing yet whose existence could be hidden.
_NEW: Final = ("function.create", "key.create")


class Principal(Struct, frozen=True):
    """Who asks: the uid ``tenant`` itself, or somebody with a key of that tenant."""

    tenant: int
    key: Key | None = None

    @property
    def who(self) -> Who:
        return "uid" if self.key is None else self.key.role


class Target(Struct, frozen=True, kw_only=True):
    """What something is to be done with; `list` is all that there is, before it is narrowed."""

    kind: Kind
    tenant: int
    space: str = ""
    function_id: int = 0
    key_id: int = 0
    """Of an execution: the key it was made with."""
    role: Role | UnsetType = UNSET
    """Of a key."""


def of_function(function: Function | FunctionItem) -> Target:
    """Also for one that is to be created, which has the id 0."""
    return Target(
        kind="function",
        tenant=function.tenant,
        space=function.space,
        function_id=function.id,
    )


def of_execution(execution: Execution) -> Target:
    return Target(
        kind="execution",
        tenant=execution.tenant,
        space=execution.space,
        function_id=execution.function_id,
        key_id=execution.key_id,
    )


def of_key(key: Key) -> Target:
    """Also for one that is to be created."""
    return Target(kind="key", tenant=key.tenant, function_id=key.function_id, role=key.role)


def of_list(tenant: int) -> Target:
    return Target(kind="list", tenant=tenant)


def verdict(principal: Principal, action: Action, target: Target) -> Verdict:
    """The answer, from its arguments alone."""
    if target.tenant != principal.tenant or not _sees(principal, target):
        return "denied" if action in _NEW else "hidden"
    return "denied" if _REACH[principal.who, action] == _NO else "allowed"


def _sees(principal: Principal, target: Target) -> bool:
    key = principal.key
    if key is None or key.role == "admin" or target.kind == "list":
        return True
    if key.role == "manage":
        return target.kind != "key" and key.space in (None, target.space)
    if not key.function_id or key.function_id != target.function_id:
        return False
    if key.role == "master":
        return target.kind != "key" or target.role == "run"
    return target.kind == "function" or (target.kind == "execution" and target.key_id == key.id)


def may_wait(principal: Principal, live: Live) -> bool:
    """Whether he may wait for one that has not ended, as far as what of it never changes says:
    False where its row has to be looked at, which has its space."""
    if principal.who == "manage":
        return False
    target = Target(
        kind="execution",
        tenant=live.tenant,
        function_id=live.function_id,
        key_id=live.key_id,
    )
    return verdict(principal, "execution.wait", target) == "allowed"


def require(principal: Principal, action: Action, target: Target, what: str) -> None:
    """Raises RequestError: `not_found` for what is hidden, `permission_denied`.

    ``what`` names the target in the message, as `function main/hello`.
    """
    found = verdict(principal, action, target)
    if found == "hidden":
        raise RequestError(NOT_FOUND, f"there is no {what}")
    if found == "denied":
        raise denied(principal, action)


def require_name(principal: Principal, space: str, name: str) -> None:
    """What can be told of a function by its name alone, before it is looked for: by neither an
    error nor the time that it takes is anybody to learn whether one is there that he may not see.
    Raises RequestError `not_found`; `require` is still needed."""
    key = principal.key
    if key is None or key.role == "admin":
        return
    if key.role == "manage":
        seen = key.space in (None, space)
    else:
        seen = (key.function_space, key.function_name) == (space, name)
    if not seen:
        raise RequestError(NOT_FOUND, f"there is no function {space}/{name}")


def denied(principal: Principal, action: Action) -> RequestError:
    """That this is not for the principal to do."""
    key = principal.key
    if key is None:
        text = f"uid {principal.tenant} may not do {action} for another uid"
    elif key.role == "manage" and key.space is not None:
        text = f"the key {key.name} is for the space {key.space} only: {action} needs another key"
    else:
        text = f"a key with the role {key.role} may not do {action}: use one that may"
    return RequestError(PERMISSION_DENIED, text)


def narrowed(principal: Principal, wanted: Filter) -> Filter:
    """``wanted``, and of that what the principal may see: for lists of executions."""
    key = principal.key
    if key is None or key.role == "admin":
        return wanted
    if key.role == "manage":
        return wanted if key.space is None else _also_in(wanted, key.space)
    mine = structs.replace(wanted, function_id=_both(wanted.function_id, key.function_id))
    if key.role == "run":
        mine = structs.replace(mine, key_id=_both(wanted.key_id, key.id))
    return mine


def _both(wanted: int | None, reached: int) -> int:
    """The id that is both; 0, which nothing has, where there is none."""
    return reached if wanted in (None, reached) else 0


def _also_in(wanted: Filter, space: str) -> Filter:
    if wanted.space in (None, space):
        return structs.replace(wanted, space=space)
    # Nothing is in two spaces, and no function has this id.
    return structs.replace(wanted, function_id=0)


def inherited(principal: Principal, new: Key) -> Key:
    """``new``, made by the principal: it allows no more than the key that it is made with."""
    maker = principal.key
    if maker is None:
        return new
    return structs.replace(
        new,
        max_memory_bytes=_least(maker.max_memory_bytes, new.max_memory_bytes),
        max_time_ns=_least(maker.max_time_ns, new.max_time_ns),
        max_executions=_least(maker.max_executions, new.max_executions),
    )


def _least(first: int, second: int) -> int:
    """Of two limits, of which 0 is none."""
    return min(first, second) if first and second else first or second


def table() -> str:
    """The table of docs/authorisation.md."""
    words = {_ALL: "yes"}
    lines = [
        "| | the uid itself | `admin` | `manage` | `master` | `run` |",
        "|---|---|---|---|---|---|",
    ]
    for actions, reaches in TABLE:
        names = ", ".join(f"`{action}`" for action in actions)
        cells = " | ".join(words.get(reach, reach) for reach in reaches)
        lines.append(f"| {names} | {cells} |")
    return "\n".join(lines) + "\n"
