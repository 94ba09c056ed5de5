"""Grades a function by what it gives for some arguments, compared with what the solution gives.

The verdict is as that of the other template. `example.input` is `(1,2)`. A test's own message goes
by the wrong answer; `*` stands for any other.
"""

from __future__ import annotations

import ast
import random
import re
from typing import Any

import grading  # type: ignore[import-not-found] # it is beside this one

_RANGE = re.compile(r"(int|float|str)\((-?[0-9.]{1,20}),(-?[0-9.]{1,20})\)")
_ENUM = re.compile(r"enum\((.+)\)")
_ARRAY = re.compile(r"array\(([0-9]{1,4}),([0-9]{1,4})\)\[(.+)\]")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def cases(test: dict[str, Any]) -> list[list[str]]:
    """The arguments of every test, as texts."""
    found = [_split(case["data"]) for case in test.get("predefined") or ()]
    wanted = test.get("random") or {}
    kinds = [text.replace(" ", "") for text in wanted.get("args") or ()]
    return found + [[_random(kind) for kind in kinds] for _ in range(wanted.get("n", 0))]


def _split(text: str) -> list[str]:
    """`(1, 'a')`: Python's literals, or else whatever is between the commas."""
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        inner = text.strip()[1:-1]
        return [part.strip() for part in inner.split(",")] if inner.strip() else []
    return [_text(value) for value in (values if isinstance(values, tuple) else (values,))]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + " ".join(_text(item) for item in value) + "]"
    return str(value)


def _random(text: str) -> str:
    match = _RANGE.fullmatch(text)
    if match:
        kind, low, high = match.groups()
        if kind == "float":
            return f"{random.uniform(float(low), float(high)):f}"
        number = random.randint(int(low), int(high))
        return str(number) if kind == "int" else "".join(random.choices(_LETTERS, k=number))
    if text == "bool":
        return random.choice(("true", "false"))
    match = _ENUM.fullmatch(text)
    if match:
        return str(random.choice(match[1].split(",")))
    match = _ARRAY.fullmatch(text)
    if match:
        count = random.randint(int(match[1]), int(match[2]))
        return "[" + " ".join(_random(match[3]) for _ in range(count)) + "]"
    raise grading.Fault(f"config/test.json: {text!r} is no description of random values")


def answers(
    language: dict[str, Any], program: str, calls: list[list[str]]
) -> tuple[list[str], str]:
    """(what the function says to each call, why there are no more)."""
    directory = grading.directory()
    grading.write(directory, language["file"], program)
    for name, text in language["runner"].items():
        grading.write(directory, name, text)
    if "compile" in language:
        ended = grading.run(language["compile"], directory)
        if ended.status:
            return [], ended.words()
    lines = "".join("\t".join(map(_escaped, call)) + "\n" for call in calls)
    ended = grading.run(language["run"], directory, lines)
    return [_plain(line) for line in ended.stdout.split("\n")[:-1]], ended.words()


def _escaped(text: str) -> str:
    for char, code in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(char, code)
    return text


_CODES = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _CODES.get(match[1], match[1]), text)


def grade() -> None:
    (tid, fields), config = grading.begin("test.json", "solution.json")
    language = config["language.json"]
    test, solution = config["test.json"], config["solution.json"]
    calls = cases(test)
    program = grading.fill(language["skeleton"], fields)
    given, why = answers(language, program, calls)
    if not given and calls:
        grading.verdict(tid, "failed", {"message": why, "score": 0})
        return
    program = grading.fill(language["skeleton"], solution)
    expected, why = answers(language, program, calls)
    if len(expected) != len(calls) or not all(a.startswith("checked:") for a in expected):
        raise grading.Fault(f"the solution of this task does not work: {why}")
    grading.verdict(tid, *compare(test, calls, given, expected))


def compare(
    test: dict[str, Any], calls: list[list[str]], given: list[str], expected: list[str]
) -> tuple[str, dict[str, Any]]:
    """(status, feedback)."""
    messages = [case.get("feedback") or {} for case in test.get("predefined") or ()]
    feedback: dict[str, Any] = {}
    succeeded = 0
    for index, call in enumerate(calls):
        answer = given[index] if index < len(given) else "exception:it ended too early"
        kind, _, actual = answer.partition(":")
        wanted = expected[index].partition(":")[2]
        if kind != "checked":
            feedback.setdefault("message", f"An error occurred with your code: {actual}")
        elif actual == wanted:
            succeeded += 1
        elif "example" not in feedback:
            inputs = "(" + ",".join(call) + ")"
            feedback["example"] = {"input": inputs, "expected": wanted, "actual": actual}
            own = messages[index] if index < len(messages) else {}
            if actual in own or "*" in own:
                feedback["message"] = own.get(actual, own.get("*"))
    feedback["stats"] = {"succeeded": succeeded, "total": len(calls)}
    feedback["score"] = grading.score(succeeded, len(calls))
    return "success" if succeeded == len(calls) else "failed", feedback


grading.main(grade)
