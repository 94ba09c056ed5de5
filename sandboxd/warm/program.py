"""What a waiting interpreter runs, as `python3 -s -B`. See native/src/warm.c.

The interpreter itself never leaves `serve`. A copy of it does, as an unprivileged process with a
job's files, limits and streams, and runs the job's program as `python3 -s -B …` would have. Where
it could not be quite the same, the program is executed instead.

It is read by the host's Python, whichever that is: nothing newer than Python 3.9.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import signal
import sys
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from typing import Any, NamedTuple

_MODULE = "/proc/self/fd/7"
_KNOWN = "/proc/self/fd/8"
_START = ["python3", "-s", "-B"]
# Variables that the interpreter or its libraries read when they start, or that say which it is.
_AT_START = ("PATH", "PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "TZ")
_REHEARSED = "def main(args, context):\n    return {**args}\n"


class Program(NamedTuple):
    """What is to be run in place of this program."""

    source: str | bytes
    file_name: str
    names: dict[str, Any]


def load() -> Any:
    loader = ExtensionFileLoader("sandbox_warm", _MODULE)
    module = loader.create_module(ModuleSpec("sandbox_warm", loader, origin=_MODULE))
    loader.exec_module(module)
    return module


def at_start(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}


def open_streams() -> None:
    """As the interpreter opens them: what it learns of a stream, it learns when it opens it."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        old = getattr(sys, name)
        binary: Any = open(fd, mode + "b", -1, closefd=False)  # noqa: SIM115 - for good
        binary.raw.name = "<" + name + ">"
        text = io.TextIOWrapper(
            binary, old.encoding, old.errors, "\n", line_buffering=name == "stderr"
        )
        text.mode = mode  # type: ignore[misc]
        setattr(sys, name, text)
        setattr(sys, "__" + name + "__", text)


def become(
    argv: list[str], env: dict[str, str], first: dict[str, str], made: dict[str, str]
) -> Program | None:
    """Make this process what `python3` with these arguments is before its first line.

    ``first`` are the variables this one was started with, ``made`` those that it made of them
    (without a locale, it chooses one). None where only a start will do.
    """
    words = argv[len(_START) :]
    if argv[: len(_START)] != _START or not words or at_start(env) != at_start(first):
        return None
    is_text = words[0] == "-c" and len(words) > 1
    source = words[1] if is_text else read_script(words[0])
    place = "" if is_text else os.path.dirname(os.path.realpath(words[0]))
    if source is None or any(map(os.isatty, range(3))) or hides_module(place):
        return None
    os.environ.clear()
    os.environ.update({**env, **made})
    open_streams()
    main: Any = type(sys)("__main__")
    main.__builtins__ = __builtins__
    main.__annotations__ = {}
    name = _text(main, words) if is_text else _script(main, words)
    sys.modules["__main__"] = main
    sys.orig_argv = argv  # Since Python 3.10.
    return Program(source, name, main.__dict__)


def hides_module(place: str) -> bool:
    """Whether a file there has the name of a module that is loaded here already: a program that
    imports it means the file. False where nobody can look."""
    try:
        names = os.listdir(place or ".")
    except OSError:
        return False
    return any(name.partition(".")[0] in sys.modules for name in names)


def read_script(path: str) -> bytes | None:
    """None of a file whose end some versions see at a null byte, and of what is none."""
    try:
        # Before the program starts, this process has descriptors that are not the program's.
        if path.startswith("-") or not os.path.isfile(path) or in_proc(path):
            return None
        with open(path, "rb") as file:
            source = file.read()
    except OSError:
        return None
    return None if b"\0" in source else source


def in_proc(path: str) -> bool:
    return os.path.realpath(path).startswith("/proc/")


def _text(main: Any, words: list[str]) -> str:
    main.__loader__ = BuiltinImporter
    sys.path[0] = ""
    sys.argv = ["-c", *words[2:]]
    return "<string>"


def _script(main: Any, words: list[str]) -> str:
    path = os.path.join(os.getcwd(), words[0])
    main.__file__ = path
    main.__cached__ = None
    main.__loader__ = SourceFileLoader("__main__", path)
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    sys.argv = words
    return path


def report(error: BaseException) -> None:
    """An error that nobody caught, as the interpreter reports it: this file is not in it."""
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    sys.excepthook(type(error), error, trace)


def die_of_interrupt() -> None:
    """By SIGINT: the process ends by that signal, after all clean-up."""
    # What the program registered is called first, here: the last thing left to do is to die.
    atexit._run_exitfuncs()
    atexit.register(signal.raise_signal, signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def text(items: list[bytes]) -> list[str]:
    return [os.fsdecode(item) for item in items]


def variables(items: list[str]) -> dict[str, str]:
    pairs = (item.partition("=") for item in items)
    return {name: value for name, _, value in pairs}


def rehearse() -> None:
    """Do what will be done for most programs. In the copy it leaves nothing but memory of its own,
    which otherwise would be copied page by page while somebody waits."""
    names: dict[str, Any] = {}
    exec(compile(_REHEARSED, "rehearsal", "exec"), names)  # noqa: S102
    read_script("/etc/hosts")
    become([*_START, "-c", "pass"], {**variables(text([b"A=b"])), **started}, started, made)
    print(json.dumps(names["main"](json.loads('{"a": [1, "b"]}'), {})), flush=True)


def variables_at_start() -> dict[str, str]:
    with open("/proc/self/environ", "rb") as file:
        return variables(text(file.read().split(b"\0")[:-1]))


def known_programs() -> dict[str | bytes, Any]:
    """Of a text that many jobs run by `-c`: what it is compiled to."""
    with open(_KNOWN, encoding="utf-8") as file:
        source = file.read()
    return {source: compile(source, "<string>", "exec", 0, True)}


warm = load()
known = known_programs()
started = variables_at_start()
made = {name: value for name, value in os.environ.items() if started.get(name) != value}
rehearse()
gc.collect()
gc.freeze()
program = warm.serve(
    rehearse, lambda argv, env: become(text(argv), variables(text(env)), started, made)
)
try:
    code = known.get(program.source)
    if code is None:
        code = compile(program.source, program.file_name, "exec", 0, True)
    exec(code, program.names)  # noqa: S102
except SystemExit:
    raise
except BaseException as error:
    report(error)
    if isinstance(error, KeyboardInterrupt):
        die_of_interrupt()
    raise SystemExit(1) from None
