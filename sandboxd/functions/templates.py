"""The files of a task that is made from a template: Pythia's `input-output` and `unit-testing`.

The files in `template_files` are put together with what the request says; what becomes of them in
the sandbox is said in `template_files/grading.py`. They are read when this module is imported,
with root's privileges: in a checkout in root's home directory the daemon's user cannot.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from sandboxd import tomlfile
from sandboxd.functions import control
from sandboxd.protocol.errors import invalid

T = TypeVar("T", bound=Struct)
Kind = Literal["input-output", "unit-testing"]

FIELD: Final = "template"
_MIB: Final = 1024 * 1024
_MAX_RANDOM: Final = 10_000
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_VERSION: Final = re.compile(r"[-_ ]?[0-9][0-9.]*")
_CONTROL: Final = b"/usr/bin/python3 -s -E -S -B /task/scripts/grade.py\n"

_DIRECTORY: Final = Path(__file__).parent / "template_files"
_FILES: Final = {path.name: path.read_bytes() for path in _DIRECTORY.iterdir() if path.is_file()}
_LANGUAGES: Final[dict[str, dict[str, Any]]] = tomllib.loads(_FILES["languages.toml"].decode())
_NAMES: Final = {
    name: language
    for language, values in _LANGUAGES.items()
    for name in (language, *values.get("aliases", ()))
}
UNIT_TESTING: Final = ("python", "java")
"""The languages that unit testing can be done in."""

_TYPES: Final = {
    **dict.fromkeys(("int", "integer", "long"), "int"),
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys(("bool", "boolean"), "bool"),
    **dict.fromkeys(("str", "string", "String"), "str"),
}
_JAVA_TYPES: Final = {"int": "int", "float": "double", "bool": "boolean", "str": "String"}
_ARRAY: Final = re.compile(r"(?:array|list)[(\[](\w{1,16})[)\]]|(\w{1,16})\[\]", re.ASCII)


# -- what a request says -------------------------------------------------------------------------


class OutputTest(Struct, frozen=True):
    """One test of a program."""

    input: str
    output: str
    message: str = ""


class OutputConfig(Struct, frozen=True):
    """Of `input-output`."""

    predefined: list[OutputTest] = []


class Argument(Struct, frozen=True):
    """An argument of the function that is tested."""

    name: str
    type: str


class Spec(Struct, frozen=True):
    """The function that is tested."""

    name: str
    args: list[Argument] = []
    return_: Any = msgspec.field(name="return", default=None)


class UnitTest(Struct, frozen=True):
    """One test of a function: its arguments as `(1, 2)`."""

    data: str
    feedback: dict[str, str] = {}


class RandomTests(Struct, frozen=True):
    """So many more tests, each argument as `int(1,9)` says."""

    n: int = 0
    args: list[str] = []


class UnitTests(Struct, frozen=True):
    """All tests of a function."""

    predefined: list[UnitTest] = []
    random: RandomTests | None = None


class UnitConfig(Struct, frozen=True):
    """Of `unit-testing`. The solution is one field's text, or texts by field."""

    spec: Spec
    test: UnitTests = UnitTests()
    solution: str | dict[str, str] = {}


class File(Struct, frozen=True):
    """A file of the task; its path is relative to /task."""

    path: str
    data: bytes
    mode: int = 0o644


# -- what becomes of it --------------------------------------------------------------------------


def language_of(environment: str) -> str | None:
    """The language that an environment's name stands for: `go1.12` is golang, `python3` python."""
    name = environment.lower()
    if name in _NAMES:
        return _NAMES[name]
    match = _VERSION.search(name)
    return _NAMES.get(name[: match.start()]) if match and match.end() == len(name) else None


def files(kind: Kind, environment: str, config: object, memory_bytes: int) -> list[File]:
    """All files of the task. Raises RequestError, naming the field of the configuration."""
    language = language_of(environment)
    if language is None:
        known = ", ".join(sorted(_LANGUAGES))
        raise invalid(f"{FIELD}.language", f"must be one of {known}, not {environment!r}")
    if kind == "input-output":
        values = _converted(config, OutputConfig)
        made = [
            _json("test.json", values),
            _json("language.json", _command_lines(_LANGUAGES[language], memory_bytes)),
            _script("grade.py", "input_output.py"),
        ]
    else:
        made = _unit_testing(language, _converted(config, UnitConfig), memory_bytes)
    return [
        File(control.NAME, _CONTROL, 0o644),
        _script("grading.py", "grading.py"),
        *made,
    ]


def _unit_testing(language: str, config: UnitConfig, memory_bytes: int) -> list[File]:
    if language not in UNIT_TESTING:
        known = " and ".join(UNIT_TESTING)
        raise invalid(f"{FIELD}.language", f"is {language}; unit testing is for {known}")
    _check(config)
    kinds = [_type(argument.type, "spec.args") for argument in config.spec.args]
    values = _python(config.spec, kinds) if language == "python" else _java(config.spec, kinds)
    solution = config.solution
    return [
        _json("spec.json", config.spec),
        _json("test.json", config.test),
        _json("solution.json", {"f1": solution} if isinstance(solution, str) else solution),
        _json("language.json", _command_lines(values, memory_bytes)),
        _script("grade.py", "unit_testing.py"),
    ]


def _check(config: UnitConfig) -> None:
    for name in (config.spec.name, *(argument.name for argument in config.spec.args)):
        if not _IDENTIFIER.fullmatch(name):
            raise invalid(f"{FIELD}.config.spec", f"{name!r} cannot be the name of a function")
    drawn = config.test.random
    if drawn is not None and not 0 <= drawn.n <= _MAX_RANDOM:
        raise invalid(f"{FIELD}.config.test.random.n", f"must be 0 to {_MAX_RANDOM}")
    if drawn is not None and drawn.n and len(drawn.args) != len(config.spec.args):
        raise invalid(f"{FIELD}.config.test.random.args", "must have one entry for each argument")


def _python(spec: Spec, kinds: list[str]) -> dict[str, Any]:
    names = ", ".join(argument.name for argument in spec.args)
    return {
        "file": "program.py",
        "skeleton": f"# -*- coding: utf-8 -*-\n\ndef {spec.name}({names}):\n@    @f1@@\n",
        "runner": {"runner.py": _FILES["runner.py"].decode()},
        "run": ["python3", "-s", "-B", "runner.py", spec.name, *kinds],
    }


def _java(spec: Spec, kinds: list[str]) -> dict[str, Any]:
    arguments = ", ".join(
        f"{_java_type(kind)} {argument.name}"
        for kind, argument in zip(kinds, spec.args, strict=True)
    )
    wanted = spec.return_.get("type") if isinstance(spec.return_, dict) else spec.return_
    answer = _java_type(_type(str(wanted), "spec.return")) if wanted else "Object"
    java = _LANGUAGES["java"]
    head = f"    public static {answer} {spec.name}({arguments}) throws Exception {{\n"
    return {
        "file": "Program.java",
        "skeleton": f"public class Program {{\n{head}@        @f1@@\n    }}\n}}\n",
        "runner": {"Runner.java": _FILES["Runner.java"].decode()},
        "compile": [*java["compile"], "Runner.java"],
        "run": [*java["run"][:-1], "Runner", spec.name, *kinds],
    }


def _type(name: str, field: str) -> str:
    """`int`, `float`, `bool`, `str`, or one of them and `[]`. Raises RequestError."""
    match = _ARRAY.fullmatch(name)
    inner = (match[1] or match[2]) if match else name
    if inner not in _TYPES:
        known = ", ".join(sorted(set(_TYPES.values())))
        raise invalid(
            f"{FIELD}.config.{field}", f"type {name!r} is none of {known}, or one of them and []"
        )
    return _TYPES[inner] + ("[]" if match else "")


def _java_type(kind: str) -> str:
    return _JAVA_TYPES[kind.removesuffix("[]")] + ("[]" if kind.endswith("[]") else "")


def _command_lines(values: dict[str, Any], memory_bytes: int) -> dict[str, Any]:
    memory = str(max(1, memory_bytes // _MIB))
    lines = {
        name: [part.replace("{memory_mib}", memory) for part in values[name]]
        for name in ("compile", "run")
        if name in values
    }
    return values | lines


def _converted(config: object, kind: type[T]) -> T:
    try:
        return msgspec.convert({} if config is None else config, kind)
    except msgspec.ValidationError as exc:
        text = tomlfile.explain(str(exc))
        raise invalid(f"{FIELD}.config", text) from None


def _json(name: str, value: object) -> File:
    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return File(f"config/{name}", data + b"\n")


def _script(name: str, source: str) -> File:
    return File(f"scripts/{name}", _FILES[source], 0o755)
