"""What a function answers, as hostile as it may be: a result that is JSON, or an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.functions import python_call
from sandboxd.protocol.functions import CALL_ERRORS

if TYPE_CHECKING:
    from pathlib import Path

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def check(result: str | None, error: object) -> None:
    assert (result is None) != (error is None)
    if result is not None:
        msgspec.json.decode(result)
        json.loads(result)
    else:
        assert error.kind in CALL_ERRORS  # type: ignore[attr-defined]
        assert len(msgspec.json.encode(error)) < 1_000_000


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    check(*python_call.read_answer(data, truncated=False))
    check(*python_call.read_value(data, truncated=False))


@given(st.dictionaries(st.sampled_from(["result", "error", "x"]), JSON))
def test_any_object(answer: dict[str, object]) -> None:
    check(*python_call.read_answer(json.dumps(answer).encode(), truncated=False))


@given(JSON)
def test_values_come_back(value: object) -> None:
    text = json.dumps(value).encode()
    for result, error in (
        python_call.read_answer(b'{"result": ' + text + b"}", truncated=False),
        python_call.read_value(b" " + text + b"\n", truncated=False),
    ):
        assert error is None
        assert json.loads(result or "") == value


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "no_result"),
        (b"{}", "not_json"),
        (b'{"result": 1, "more": 2}', "not_json"),
        (b'{"result": NaN}', "not_json"),
        (b'{"result": "\xff"}', "not_json"),
        (b'{"result": "\\ud800"}', "not_json"),
        (b'{"result": ' + b"[" * 100_000, "not_json"),
        (b'{"result": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not_json"),
        (b'{"result": 1}{"result": 2}', "not_json"),
        (b'{"error": 1}', "not_json"),
        (b'{"error": {"kind": "root"}}', "exception"),
        (b'{"error": {"kind": "too_large", "message": 1}}', "not_json"),
    ],
)
def test_what_is_no_answer(data: bytes, kind: str) -> None:
    result, error = python_call.read_answer(data, truncated=False)
    assert result is None
    assert error is not None
    assert error.kind == kind


def test_a_long_error_is_cut() -> None:
    error = {"kind": "exception", "type": "T" * 10**6, "message": "m" * 10**6,
             "traceback": "t" * 10**6}  # fmt: skip
    _, found = python_call.read_answer(json.dumps({"error": error}).encode(), truncated=False)
    assert found is not None
    assert (len(found.type), len(found.message), len(found.traceback)) == (200, 8192, 65536)


def test_a_cut_answer_is_none() -> None:
    for read in (python_call.read_answer, python_call.read_value):
        result, error = read(b'{"result": 1}', truncated=True)
        assert result is None
        assert error is not None
        assert error.kind == "too_large"


def run(directory: Path, program: str, code: str) -> bytes:
    """The program outside of a sandbox, with its directory instead of /work."""
    (directory / "function.py").write_bytes(code.encode("utf-8", "surrogatepass"))
    read, write = os.pipe()
    with os.fdopen(read, "rb") as answer:
        text = program.replace("/work/", f"{directory}/").replace("os.write(3", f"os.write({write}")
        subprocess.run(
            [sys.executable, "-s", "-B", "-c", text],
            input=b'{"args": [1], "context": {"k": 2}}',
            pass_fds=(write,),
            check=False,
            timeout=60,
        )
        os.close(write)
        return answer.read()


def test_the_caller(tmp_path: Path) -> None:
    code = "def main(args, context):\n    return [args, context, __name__, __file__]\n"
    result, error = python_call.read_answer(
        run(tmp_path, python_call.CALLER, code), truncated=False
    )
    assert error is None
    assert json.loads(result or "") == [[1], {"k": 2}, "function", f"{tmp_path}/function.py"]


def test_a_child_that_comes_back_does_not_answer(tmp_path: Path) -> None:
    code = "import os\ndef main(a, c):\n    if os.fork():\n        os.wait()\n    return 1\n"
    assert run(tmp_path, python_call.CALLER, code) == b'{"result": 1}'


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def main(a, c): pass", None),
        ("def main(*all): pass", None),
        ("def main(a, c, *, more=1): pass", None),
        ("main = print", None),
        ("from os import *", None),
        ("from os import stat as main", None),
        ("import main", None),
        ("if True:\n    def main(a, c): pass", None),
        ("@property\ndef main(): pass", None),
        ("class main: pass", None),
        ("", "no_main"),
        ("def f():\n    main = 1", "no_main"),
        ("print(main)", "no_main"),
        ("def main(): pass", "signature"),
        ("def main(a, b, c): pass", "signature"),
        ("def main(a, b, *, c): pass", "signature"),
        ("async def main(a, c): pass", "signature"),
        ("def main(a, c:", "syntax"),
        ("\0", "syntax"),
        ("\udc80", "syntax"),
        ("# coding: no-such\n", "syntax"),
        ("(" * 1000, "syntax"),
        ("-" * 100_000 + "1", "syntax"),
    ],
)
def test_the_checker(tmp_path: Path, code: str, kind: str | None) -> None:
    _, error = python_call.read_answer(run(tmp_path, python_call.CHECKER, code), truncated=False)
    assert (error.kind if error else None) == kind
