"""Command lines with placeholders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.runtimes.template import BadTemplate, Template, extension, stem

NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name)


def argv(command: list[str], main: str = "m.c", *args: str, memory: int = 0) -> list[str]:
    sources = [main.encode(), b"b.c"]
    found = Template(command).argv(main.encode(), sources, [arg.encode() for arg in args], memory)
    return [part.decode() for part in found]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["cc", "{sources}", "-lm"], ["cc", "m.c", "b.c", "-lm"]),
        (["./a.out", "{args}"], ["./a.out", "x", "y z"]),
        (["java", "{stem}", "{args}"], ["java", "m", "x", "y z"]),
        (["cc", "-o{stem}.o", "{main}"], ["cc", "-om.o", "m.c"]),
        (["x", "-m{memory_mib}M"], ["x", "-m64M"]),
        (["awk", "{print}"], None),
        (["awk", "{print $1}"], ["awk", "{print $1}"]),
        (["sh", "-c", 'echo "${x}" {a,b}'], ["sh", "-c", 'echo "${x}" {a,b}']),
    ],
)
def test_what_is_replaced(command: list[str], expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(BadTemplate, match="is no placeholder"):
            Template(command)
        return
    assert argv(command, "m.c", "x", "y z", memory=64 * 2**20) == expected


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ([], "must name a program"),
        ([""], "must name a program"),
        (["cc", "-x{sources}"], "by itself"),
        (["cc", "{args}x"], "by itself"),
        (["cc", "{source}"], "there is: {main}"),
        (["cc", "a\0b"], "NUL"),
    ],
)
def test_what_is_refused(command: list[str], why: str) -> None:
    with pytest.raises(BadTemplate, match=why):
        Template(command)


def test_a_source_is_never_taken_for_an_option() -> None:
    command = ["cc", "{main}", "{sources}", "{stem}.x", "-o{stem}"]
    assert argv(command, "-c.c") == ["cc", "./-c.c", "./-c.c", "b.c", "./-c.x", "-o-c"]


def test_arguments_of_the_program_are_left_alone() -> None:
    assert argv(["run", "{args}"], "m.c", "-x", "{main}", "") == ["run", "-x", "{main}", ""]


def test_a_name_with_a_placeholder_in_it_is_not_replaced_again() -> None:
    assert argv(["x", "a{main}", "{stem}"], "{stem}.c") == ["x", "a{stem}.c", "{stem}"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"main.c", (b"main", b".c")),
        (b"a/b.tar.gz", (b"a/b.tar", b".gz")),
        (b"Makefile", (b"Makefile", b"")),
        (b".bashrc", (b".bashrc", b"")),
        (b"a.b/c", (b"a.b/c", b"")),
        (b"a.b/.c", (b"a.b/.c", b"")),
        (b"x.", (b"x", b".")),
    ],
)
def test_stem_and_extension(name: bytes, expected: tuple[bytes, bytes]) -> None:
    assert (stem(name), extension(name)) == expected


@given(NAMES)
def test_stem_and_extension_make_the_name(name: bytes) -> None:
    assert stem(name) + extension(name) == name
    assert b"/" not in extension(name)


@given(NAMES, st.lists(NAMES), st.lists(NAMES))
def test_every_argument_stays_one(main: bytes, others: list[bytes], args: list[bytes]) -> None:
    sources = [main, *others]
    found = Template(["x", "{sources}", "{args}", "-{main}"]).argv(main, sources, args)
    assert len(found) == 2 + len(sources) + len(args)
    assert list(found[1 + len(sources) : -1]) == args
    assert [part.removeprefix(b"./") for part in found[1 : 1 + len(sources)]] == [
        source.removeprefix(b"./") for source in sources
    ]
