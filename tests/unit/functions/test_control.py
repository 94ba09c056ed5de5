"""Control files: what is taken, what is refused, and what programs they name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.functions import control
from sandboxd.functions.control import BadControl, Command
from sandboxd.protocol.jobs import Step


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"/task/hello.sh", [b"/task/hello.sh"]),
        (b"  a\tb  c \r", [b"a", b"b", b"c"]),
        (b"a 'b c' \"d e\"", [b"a", b"b c", b"d e"]),
        (b"a x'y z'w", [b"a", b"xy zw"]),
        (b"a '' \"\"", [b"a", b"", b""]),
        (rb"a \"x\' '\n' \n \t \q", [b"a", b"\"x'", b"\\n", b"\n", b"\t", b"\\q"]),
        (rb'a "\"" "\\"', [b"a", b'"', b"\\"]),
        (b'a "it\'s" \'say "x"\'', [b"a", b"it's", b'say "x"']),
        (b"a $HOME `id` ; | & > *", [b"a", b"$HOME", b"`id`", b";", b"|", b"&", b">", b"*"]),
        (b"a \\", [b"a", b"\\"]),
        ("a é".encode(), [b"a", "é".encode()]),
        (b"", []),
        (b" \t", []),
    ],
)
def test_splitting(line: bytes, arguments: list[bytes]) -> None:
    assert list(control.split(line)) == arguments


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no command"),
        (b"\n \n", "no command"),
        (b"ok\na 'b", "line 2: a ' is not closed"),
        (b'a "b', 'line 1: a " is not closed'),
        (b"a b\0c", "line 1: has a NUL"),
        (b"a " + b"b" * 4095, "line 1: has 4097 characters; at most 4096"),
        (b" ".join([b"a"] * 101), "has 101 arguments; at most 100"),
        (b"-c x", "must name a program"),
        (b"'' x", "must name a program"),
        (b"a\n" * 20_000, "at most 24576"),
    ],
)
def test_refusals(data: bytes, words: str) -> None:
    with pytest.raises(BadControl, match="control") as error:
        control.parse(data)
    assert words in str(error.value)


def test_the_most_that_is_taken() -> None:
    assert len(control.parse(b" ".join([b"a"] * 100))[0].argv) == 100
    assert len(control.parse(b"a " + b"b" * 4094)[0].argv[1]) == 4094


def test_lines() -> None:
    assert control.parse(b"one\n\n!two x\n! three") == (
        Command((b"one",)),
        Command((b"two", b"x"), untrusted=True),
        Command((b"three",), untrusted=True),
    )


def test_steps() -> None:
    commands = control.parse(b"one x\n!two\n")
    assert control.steps(commands) == (
        Step((b"one", b"x"), 0o077, guest=False),
        Step((b"two",), 0o000, guest=True),
    )


@given(st.lists(st.binary(max_size=8).map(lambda data: data.replace(b"\0", b"")), max_size=5))
def test_quoting_gives_back_what_went_in(arguments: list[bytes]) -> None:
    line = b"printf " + b" ".join(
        b'"' + argument.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        for argument in arguments
    )
    if b"\n" not in line:
        assert control.split(line) == (b"printf", *arguments)
