"""A Python function as a program: what runs in the sandbox, and how its answer is read.

`CALLER` reads the call from stdin, loads the function's code from `function.py`, calls `main` and
writes one JSON object, `{"result": …}` or `{"error": …}`, to descriptor 3. It shares its
interpreter with the function, so what arrives is as hostile as the function: it is bounded by the
engine and parsed as anybody's text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sandboxd.protocol.functions import (
    CALL_ERRORS,
    EXCEPTION,
    NO_RESULT,
    NOT_JSON,
    TOO_LARGE,
    CallError,
)

SOURCE_NAME: Final = b"function.py"
INTERPRETER: Final = b"python3"
# Without the user's site directory, which is no user's here, and without writing bytecode.
FLAGS: Final = (b"-s", b"-B")

MAX_TYPE_CHARS: Final = 200
MAX_MESSAGE_CHARS: Final = 8192
MAX_TRACEBACK_CHARS: Final = 65536

CALLER_FILE: Final = Path(__file__).with_name("caller.py")
CALLER: Final = CALLER_FILE.read_text(encoding="utf-8")
# How both programs report. The texts are cut there so that an error is never too large to be told;
# they are cut again where they arrive, because the function may have made them.
_REPORT: Final = CALLER[: CALLER.index("# -- up to here")]

# Does not run the function's code: what it does when it is loaded may take long, or need its input.
CHECKER: Final = (
    _REPORT
    + r"""
def _wrong_signature(node):
    required = len(node.posonlyargs) + len(node.args) - len(node.defaults)
    most = 1 << 30 if node.vararg else len(node.posonlyargs) + len(node.args)
    return required > 2 or most < 2 or any(default is None for default in node.kw_defaults)

def _check():
    import ast, symtable
    source, _ = _compiled()
    tree = ast.parse(source, "/work/function.py")
    table = symtable.symtable(source, "/work/function.py", "exec")
    stars = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
                for node in ast.walk(tree))
    try:
        symbol = table.lookup("main")
        found = symbol.is_assigned() or symbol.is_imported()
    except KeyError:
        found = False
    if not found and not stars:
        _fail("no_main", "NameError", "there is no main; define main(args, context)")
    for node in tree.body:
        if getattr(node, "name", None) != "main":
            continue
        where = "line %d: " % node.lineno
        if isinstance(node, ast.AsyncFunctionDef):
            _fail("signature", "TypeError",
                  where + "main is a coroutine; define it by def, not by async def")
        if isinstance(node, ast.FunctionDef) and not node.decorator_list \
                and _wrong_signature(node.args):
            _fail("signature", "TypeError",
                  where + "main is called with two arguments: define main(args, context)")
    _answer(b'{"result": null}')

_check()
"""
)

CALL_ARGV: Final = (INTERPRETER, *FLAGS, b"-c", CALLER.encode())
CHECK_ARGV: Final = (INTERPRETER, *FLAGS, b"-c", CHECKER.encode())


class _Error(Struct):
    kind: str = EXCEPTION
    type: str = ""
    message: str = ""
    traceback: str = ""


class _Answer(Struct, forbid_unknown_fields=True):
    result: Raw | UnsetType = UNSET
    error: _Error | UnsetType = UNSET


_decoder = msgspec.json.Decoder(_Answer)
_any_decoder = msgspec.json.Decoder()


def read_answer(data: bytes, *, truncated: bool) -> tuple[str | None, CallError | None]:
    """What a Python function answered: its result as JSON text, or why there is none."""
    if truncated:
        return None, too_large(len(data))
    if not data:
        return None, CallError(NO_RESULT, "", "the function ended before main returned")
    try:
        answer = _decoder.decode(data)
        if answer.error is not UNSET:
            return None, _error(answer.error)
        if answer.result is not UNSET:
            return _checked(bytes(answer.result)), None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        return None, _not_json(exc)
    return None, _not_json(ValueError("neither a result nor an error"))


def read_value(data: bytes, *, truncated: bool) -> tuple[str | None, CallError | None]:
    """What a program wrote to descriptor 3 as its result: JSON text, or why it is none."""
    if truncated:
        return None, too_large(len(data))
    if not data.strip():
        return None, CallError(
            NO_RESULT,
            "",
            "the program ended without a result; write one JSON value to descriptor 3",
        )
    try:
        return _checked(data), None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        return None, _not_json(exc)


def too_large(most: int) -> CallError:
    """The error for a result that was cut at `most` bytes."""
    message = f"the result is more than {most} bytes; return less, or leave it in an output file"
    return CallError(TOO_LARGE, "", message)


def _checked(data: bytes) -> str:
    """`data` as text that is JSON for sure: it is passed on to people who rely on that."""
    _any_decoder.decode(data)
    return data.decode().strip()


def _not_json(exc: Exception) -> CallError:
    message = "the result is no JSON value"
    if isinstance(exc, RecursionError):
        message += ": it is nested too deep"
    elif str(exc):
        message += f": {str(exc)[:MAX_TYPE_CHARS]}"
    return CallError(NOT_JSON, "", message)


def _error(error: _Error) -> CallError:
    return CallError(
        error.kind if error.kind in CALL_ERRORS else EXCEPTION,
        error.type[:MAX_TYPE_CHARS],
        error.message[:MAX_MESSAGE_CHARS],
        error.traceback[-MAX_TRACEBACK_CHARS:],
    )
