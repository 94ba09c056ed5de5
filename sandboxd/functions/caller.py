# Calls main of a stored function. Run as `python3 -s -B -c` with this text, in the sandbox, by the
# host's Python: nothing newer than 3.9. It is short because each call may have to compile it.
from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_pid = os.getpid()


def _answer(data: bytes) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - contextlib is not loaded, and should not be for this
            stream.flush()
        except BaseException:  # noqa: S110
            pass
    if os.getpid() == _pid:
        try:
            while data:
                data = data[os.write(3, data) :]
        except OSError:
            pass
    os._exit(0)


def _text(value: object) -> str:
    try:
        return str(value)
    except BaseException as error:
        return "an exception whose text cannot be made: " + type(error).__name__


def _fail(kind: str, name: str, message: str, trace: str = "") -> NoReturn:
    message, trace = message[:8192], trace[-65536:]
    error = {"kind": kind, "type": name, "message": message, "traceback": trace}
    _answer(json.dumps({"error": error}).encode())


def _syntax(error: Any) -> NoReturn:
    where = f"line {error.lineno}: " if getattr(error, "lineno", None) else ""
    import traceback

    trace = "".join(traceback.format_exception_only(error))
    _fail("syntax", type(error).__name__, where + _text(getattr(error, "msg", error)), trace)


def _compiled() -> Any:
    with open("/work/function.py", "rb") as file:
        source = file.read()
    try:
        return source, compile(source, "/work/function.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        _syntax(error)


# -- up to here for the checker, too --


def _raised(error: Any) -> NoReturn:
    import traceback

    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)
    except BaseException:
        lines = [type(error).__name__]
    _fail("exception", type(error).__name__, _text(error), "".join(lines))


def _load() -> Any:
    _, code = _compiled()
    module = sys.modules["function"] = type(sys)("function")
    module.__file__ = "/work/function.py"
    sys.argv = ["/work/function.py"]
    try:
        exec(code, module.__dict__)  # noqa: S102
    except BaseException as error:
        _raised(error)
    main = getattr(module, "main", None)
    if not callable(main):
        what = "there is no main" if main is None else "main is no function"
        _fail("no_main", "NameError", what + "; define main(args, context)")
    return main


def _run() -> None:
    call = json.loads(sys.stdin.buffer.read())
    main = _load()
    try:
        value = main(call["args"], call["context"])
    except BaseException as error:
        trace: Any = error.__traceback__
        if isinstance(error, TypeError) and trace.tb_next is None:
            _fail(
                "signature",
                "TypeError",
                _text(error) + "; main is called with two arguments: main(args, context)",
            )
        _raised(error)
    try:
        data = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except BaseException as error:
        _fail(
            "not_json",
            type(error).__name__,
            "what main returned is no JSON value: "
            + _text(error)
            + "; return None, a bool, a number, a str, a list or a dict of such",
        )
    _answer(b'{"result": ' + data + b"}")


_run()
