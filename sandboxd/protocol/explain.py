"""Turns a decoding error into one sentence that names the field and says what belongs there."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sandboxd.protocol.errors import RequestError, invalid

# "Expected `int | null`, got `float` - at `$[0].limits.memory_bytes`", and the form for a wrong
# key of a map: "Expected `str`, got `int` - at `key` in `$[0].env`".
_AT: Final = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`(?P<path>\$[^`]*)`)?", re.S)
_PATH_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])")
_EXPECTED: Final = re.compile(r"Expected `(?P<types>[^`]*)`(?P<rest>.*)", re.S)
_NAMED: Final = re.compile(
    r"(?P<kind>Object contains unknown field|Object missing required field) `(?P<name>.*)`", re.S
)
_BOUND: Final = re.compile(r" (?P<op>[<>]=) (?P<bound>-?\d+)")

# The wrong value is shown only out of a small message: it is decoded again to find it.
_SHOW_BELOW_BYTES: Final = 64 * 1024
_SHOWN_CHARS: Final = 40

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "bytes": "bytes",
    "array": "a list",
    "object": "a map",
}
_MISSING: Final = object()


def explain(exc: Exception, raw: msgspec.Raw, prefix: str, field: str = "") -> RequestError:
    """`invalid_argument` for what msgspec says about `raw`.

    `prefix` is the part of msgspec's path that is not a field (`$[0]`), `field` what stands
    before the path instead.
    """
    # Until msgspec 0.22 the one, from 0.23 on the other.
    if isinstance(exc, UnicodeDecodeError) or str(exc).startswith("Invalid UTF-8"):
        return invalid(field or "params", "holds text that is not UTF-8; send it as bytes (bin)")
    if isinstance(exc, RecursionError):
        return invalid(field or "params", "is nested too deep")
    match = _AT.fullmatch(str(exc))
    what = match["what"] if match else str(exc)
    path = (match["path"] if match else None) or "$"
    value = _value_at(raw, path) if match and not match["key"] else _MISSING
    inner = path.removeprefix(prefix)
    if inner == path and path != prefix:  # Above the fields: not a list with one map.
        return invalid("params", "must be a list with one map of the method's fields")
    name = (field + inner).lstrip(".").replace("[...]", "")
    if match and match["key"]:
        return invalid(name or "params", "every name in the map must be text")
    return _problem(name, what, value)


def _problem(name: str, what: str, value: object) -> RequestError:
    named = _NAMED.match(what)
    if named:
        full = f"{name}.{named['name'][:64]}" if name else named["name"][:64]
        unknown = named["kind"].endswith("unknown field")
        return invalid(full, "there is no such field" if unknown else "is required")
    if what.startswith("Invalid enum value"):
        shown = show(value) if value is not _MISSING else what.removeprefix("Invalid enum value ")
        return invalid(name, f"{shown} is not one of the words for it")
    expected = _EXPECTED.match(what)
    if not expected:
        return invalid(name or "params", what[:1].lower() + what[1:])
    problem = f"must be {_kind(name, expected['types'])}{_range(expected['rest'])}"
    if value is not _MISSING:
        problem += f", not {show(value)}"
    return invalid(name or "params", problem)


def _kind(name: str, types: str) -> str:
    words = [_WORDS.get(word, word) for word in types.split(" | ") if word != "null"]
    if name.endswith("_ns"):
        words = [word.replace("a whole number", "a whole number of nanoseconds") for word in words]
    if name.endswith("_bytes"):
        words = [word.replace("a whole number", "a whole number of bytes") for word in words]
    return " or ".join(words)


def _range(rest: str) -> str:
    bound = _BOUND.match(rest)
    if not bound:
        return ""
    if bound["op"] == "<=":
        return f", at most {bound['bound']}"
    return "" if bound["bound"] == "0" else f", at least {bound['bound']}"


def _value_at(raw: msgspec.Raw, path: str) -> object:
    """The value msgspec complains about, or _MISSING where it cannot be told."""
    if len(memoryview(raw)) > _SHOW_BELOW_BYTES:
        return _MISSING
    try:
        value = msgspec.msgpack.decode(raw)
        for name, index, unknown in _PATH_STEP.findall(path):
            if unknown:
                return _MISSING
            value = value[name] if name else value[int(index)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return _MISSING
    return value


def show(value: object) -> str:
    """`value` for a message: short, on one line, in the protocol's words."""
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a map"
    if isinstance(value, msgspec.msgpack.Ext):
        return "an extension type"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
