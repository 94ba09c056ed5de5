"""Calls a function of program.py once for each line: `python3 runner.py NAME TYPE…`."""

import os
import sys
from typing import Any


def value(kind: str, text: str) -> Any:
    if kind.endswith("[]"):
        return [value(kind[:-2], part) for part in text[1:-1].split()]
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "bool":
        return text.lower() == "true"
    return text


def plain(text: str) -> str:
    codes = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}
    parts = iter(text)
    return "".join(codes.get(next(parts, ""), "") if char == "\\" else char for char in parts)


def escaped(text: str) -> str:
    for char, code in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(char, code)
    return text


def main(name: str, *kinds: str) -> None:
    lines = sys.stdin.read().split("\n")[:-1]
    results = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", buffering=1)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)
    sys.path.insert(0, os.getcwd())
    import program  # type: ignore[import-not-found]

    function = getattr(program, name)
    for line in lines:
        parts = line.split("\t") if kinds else []
        try:
            answer = f"checked:{function(*map(value, kinds, map(plain, parts)))}"
        except Exception as exc:
            answer = f"exception:{type(exc).__name__}: {exc}"
        results.write(escaped(answer) + "\n")


main(*sys.argv[1:])
