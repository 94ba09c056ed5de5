"""Control files: what is taken, what is refused, and what a real shell makes of it."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.functions import control
from sandboxd.functions.control import BadControl, Command


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


def run(*commands: Command, stdin: bytes = b"") -> tuple[int, bytes]:
    """By a real shell, which is in a pid namespace of its own: it kills all it can."""
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "sh", "-c",
         b"exec 3<&0; sh -c \"$0\" <&3 & wait $!", control.script(commands)],
        input=stdin, capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.stderr == b""
    return done.returncode, done.stdout


def shell(text: str, *, untrusted: bool = False) -> Command:
    return Command((b"sh", b"-c", text.encode()), untrusted)


def test_nothing_of_a_command_means_something_to_the_shell() -> None:
    arguments = (b"a'b", b"$(id)", b"`id`", b"\\", b"\n", b"*", b"-n", b"", b"'\\''")
    status, output = run(Command((b"printf", b"[%s]", *arguments)))
    assert (status, output) == (0, b"".join(b"[%s]" % argument for argument in arguments))


@given(st.lists(st.binary(max_size=8).map(lambda data: data.replace(b"\0", b"")), max_size=5))
def test_quoting_gives_back_what_went_in(arguments: list[bytes]) -> None:
    line = b"printf " + b" ".join(
        b'"' + argument.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        for argument in arguments
    )
    if b"\n" not in line:
        assert control.split(line) == (b"printf", *arguments)


def test_a_failure_ends_it_only_where_it_is_trusted() -> None:
    status, output = run(
        shell("exit 7", untrusted=True), shell("echo on; exit 3"), shell("echo no")
    )
    assert (status, output) == (3, b"on\n")
    assert run(shell("echo a"), shell("exit 4", untrusted=True)) == (0, b"a\n")
    assert run(shell("echo a"), shell("exit 4")) == (4, b"a\n")


def test_streams() -> None:
    status, output = run(
        shell("read line; echo 1 $line; echo 2 >&2"),
        shell("cat; echo hidden; echo hidden >&2", untrusted=True),
        shell("read line; echo 3 $line"),
        stdin=b"x\ny\n",
    )
    assert (status, output) == (0, b"1 x\n2\n3 y\n")


def test_what_still_runs_is_killed_in_between(tmp_path: Path) -> None:
    left = (
        f"(trap '' TERM HUP; while :; do sleep 0.05; echo x >>{tmp_path}/alive; done) & sleep 0.2"
    )
    status, output = run(
        shell(left, untrusted=True),
        shell(
            f"cd {tmp_path}; a=$(wc -c <alive); sleep 0.3; test $a = $(wc -c <alive) && echo dead"
        ),
    )
    assert (status, output) == (0, b"dead\n")


def test_a_missing_program_and_a_killed_one_say_no_more_than_they_must() -> None:
    status, output = run(Command((b"/no/such/program",)))
    assert status in (126, 127)
    assert b"/no/such/program" in output
    assert run(shell("kill -SEGV $$"), shell("echo no")) == (139, b"")


def test_no_builtin_takes_the_place_of_a_program() -> None:
    status, _ = run(Command((b"exit", b"0")), Command((b"echo", b"on")))
    assert status == 127
