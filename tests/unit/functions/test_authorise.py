"""Every cell of the table: each action, asked by everybody, of everything."""

from pathlib import Path

import pytest

from sandboxd.functions import authorise
from sandboxd.functions.authorise import Action, Principal, Target, Verdict
from sandboxd.functions.model import Filter, Key
from sandboxd.protocol.errors import RequestError

OWN, OTHER = 1000, 1001
FUNCTION, ELSEWHERE = 7, 8
DOCUMENT = Path(__file__).parents[3] / "docs" / "authorisation.md"

KEYS = {
    "admin": Key(id=1, tenant=OWN, name="a", role="admin"),
    "manage": Key(id=2, tenant=OWN, name="m", role="manage"),
    "manage in a": Key(id=3, tenant=OWN, name="s", role="manage", space="a"),
    "master": Key(id=4, tenant=OWN, name="f", role="master", function_id=FUNCTION),
    "run": Key(id=5, tenant=OWN, name="r", role="run", function_id=FUNCTION),
}
PRINCIPALS = {"uid": Principal(OWN)} | {name: Principal(OWN, key) for name, key in KEYS.items()}
RUN_ID = KEYS["run"].id


def of(kind: str, **fields: object) -> Target:
    return Target(kind=kind, tenant=fields.pop("tenant", OWN), **fields)  # type: ignore[arg-type]


# Which functions there are, as a function or to be created: the space a has the key's function.
FUNCTIONS = {
    "its": of("function", space="a", function_id=FUNCTION),
    "same space": of("function", space="a", function_id=ELSEWHERE),
    "other space": of("function", space="b", function_id=ELSEWHERE),
    "foreign": of("function", space="a", function_id=FUNCTION, tenant=OTHER),
}
EXECUTIONS = {
    "made": of("execution", space="a", function_id=FUNCTION, key_id=RUN_ID),
    "its": of("execution", space="a", function_id=FUNCTION, key_id=99),
    "same space": of("execution", space="a", function_id=ELSEWHERE),
    "other space": of("execution", space="b", function_id=ELSEWHERE),
    "foreign": of("execution", space="a", function_id=FUNCTION, key_id=RUN_ID, tenant=OTHER),
}
ROLES = {
    "run of its": of("key", function_id=FUNCTION, role="run"),
    "master of its": of("key", function_id=FUNCTION, role="master"),
    "run of another": of("key", function_id=ELSEWHERE, role="run"),
    "manage": of("key", role="manage"),
    "admin": of("key", role="admin"),
    "foreign": of("key", function_id=FUNCTION, role="run", tenant=OTHER),
}
LISTS = {"list": of("list"), "foreign": of("list", tenant=OTHER)}

# For each principal one letter for each target in the order above: what the table means.
# y: allowed, n: denied, -: hidden.
FUNCTION_CHANGES = {
    "uid": "yyy-",
    "admin": "yyy-",
    "manage": "yyy-",
    "manage in a": "yy--",
    "master": "n---",
    "run": "n---",
}
FUNCTION_READS = FUNCTION_CHANGES | {"master": "y---"}
FUNCTION_USES = FUNCTION_READS | {"run": "y---"}
EXECUTION = {
    "uid": "yyyy-",
    "admin": "yyyy-",
    "manage": "yyyy-",
    "manage in a": "yyy--",
    "master": "yy---",
    "run": "y----",
}
KEY = {
    "uid": "yyyyy-",
    "admin": "yyyyy-",
    "manage": "------",
    "manage in a": "------",
    "master": "y-----",
    "run": "------",
}
EXPECTED: dict[Action, tuple[dict[str, Target], dict[str, str]]] = {
    # Nothing is there yet that could be hidden.
    "function.create": (
        FUNCTIONS,
        {who: cells.replace("-", "n") for who, cells in FUNCTION_CHANGES.items()},
    ),
    "function.update": (FUNCTIONS, FUNCTION_CHANGES),
    "function.delete": (FUNCTIONS, FUNCTION_CHANGES),
    "function.get": (FUNCTIONS, FUNCTION_READS),
    "function.info": (FUNCTIONS, FUNCTION_USES),
    "function.call": (FUNCTIONS, FUNCTION_USES),
    "function.list": (LISTS, dict.fromkeys(PRINCIPALS, "y-") | {"run": "n-"}),
    "execution.create": (FUNCTIONS, FUNCTION_USES),
    "execution.upload": (EXECUTIONS, EXECUTION),
    "execution.start": (EXECUTIONS, EXECUTION),
    "execution.get": (EXECUTIONS, EXECUTION),
    "execution.log": (EXECUTIONS, EXECUTION),
    "execution.output": (EXECUTIONS, EXECUTION),
    "execution.wait": (EXECUTIONS, EXECUTION),
    "execution.stop": (EXECUTIONS, EXECUTION),
    "execution.delete": (EXECUTIONS, EXECUTION),
    "execution.list": (LISTS, dict.fromkeys(PRINCIPALS, "y-")),
    "key.create": (ROLES, {who: cells.replace("-", "n") for who, cells in KEY.items()}),
    "key.delete": (ROLES, KEY),
    "key.list": (
        LISTS,
        dict.fromkeys(PRINCIPALS, "y-") | dict.fromkeys(["manage", "manage in a", "run"], "n-"),
    ),
}
LETTERS: dict[str, Verdict] = {"y": "allowed", "n": "denied", "-": "hidden"}
CELLS = [
    pytest.param(action, who, target, LETTERS[letter], id=f"{action}-{who}-{name}")
    for action, (targets, rows) in EXPECTED.items()
    for who, cells in rows.items()
    for (name, target), letter in zip(targets.items(), cells, strict=True)
]


@pytest.mark.parametrize(("action", "who", "target", "expected"), CELLS)
def test_cell(action: Action, who: str, target: Target, expected: Verdict) -> None:
    principal = PRINCIPALS[who]
    assert authorise.verdict(principal, action, target) == expected
    if expected == "allowed":
        authorise.require(principal, action, target, "thing")
        return
    with pytest.raises(RequestError) as caught:
        authorise.require(principal, action, target, "thing")
    code = {"hidden": "not_found", "denied": "permission_denied"}[expected]
    assert caught.value.code == code
    if expected == "hidden":
        assert str(caught.value) == "there is no thing"


def test_every_action_of_the_table_is_tested() -> None:
    listed = [action for actions, _ in authorise.TABLE for action in actions]
    assert sorted(listed) == sorted(EXPECTED)


def test_the_document_has_the_table() -> None:
    assert authorise.table() in DOCUMENT.read_text()


def test_a_key_for_no_function_reaches_none() -> None:
    """A bound key has always a function; one that has lost it must not match what has none."""
    for role in ("master", "run"):
        principal = Principal(OWN, Key(id=9, tenant=OWN, name="k", role=role))
        for target in (of("function", space="a"), of("execution"), of("key", role="run")):
            assert authorise.verdict(principal, "execution.get", target) == "hidden"


@pytest.mark.parametrize(
    ("who", "wanted", "narrowed"),
    [
        ("uid", Filter(space="b"), Filter(space="b")),
        ("admin", Filter(), Filter()),
        ("manage", Filter(space="b"), Filter(space="b")),
        ("manage in a", Filter(), Filter(space="a")),
        ("manage in a", Filter(space="a", function="x"), Filter(space="a", function="x")),
        ("manage in a", Filter(space="b"), Filter(space="b", function_id=0)),
        ("master", Filter(status="ended"), Filter(status="ended", function_id=FUNCTION)),
        ("master", Filter(function_id=ELSEWHERE), Filter(function_id=0)),
        ("run", Filter(), Filter(function_id=FUNCTION, key_id=RUN_ID)),
        ("run", Filter(key_id=99), Filter(function_id=FUNCTION, key_id=0)),
    ],
)
def test_lists_are_narrowed(who: str, wanted: Filter, narrowed: Filter) -> None:
    assert authorise.narrowed(PRINCIPALS[who], wanted) == narrowed


def test_a_key_made_with_a_key_allows_no_more() -> None:
    master = Key(
        id=4, tenant=OWN, name="f", role="master", function_id=FUNCTION,
        max_memory_bytes=100, max_time_ns=200,
    )  # fmt: skip
    new = Key(
        tenant=OWN, name="r", role="run", max_memory_bytes=1000, max_time_ns=20, max_executions=3
    )
    made = authorise.inherited(Principal(OWN, master), new)
    assert (made.max_memory_bytes, made.max_time_ns, made.max_executions) == (100, 20, 3)
    bare = authorise.inherited(Principal(OWN, master), Key(tenant=OWN, name="r", role="run"))
    assert (bare.max_memory_bytes, bare.max_time_ns, bare.max_executions) == (100, 200, 0)
    assert authorise.inherited(Principal(OWN), new) == new
