"""Names of input files: one meaning each, or refused."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.protocol.names import BadName, check_name, file_and_directory

GOOD = [
    "a",
    "main.py",
    "d/e/f",
    "...",
    "..a",
    "a..",
    ".hidden",
    "-rf",
    "con",
    "\\",
    "a b",
    "é",
    "a" * 255,
    "/".join("a" * 64),
    "/".join(["a" * 200] * 20),
]
BAD = {
    "": "empty",
    "/etc/passwd": "absolute",
    "/": "absolute",
    ".": "'.'",
    "..": "'..'",
    "../x": "'..'",
    "a/../../x": "'..'",
    "a/./b": "'.'",
    "a//b": "nothing between",
    "a/": "nothing between",
    "a/..": "'..'",
    "a\0b": r"'\x00'",
    "a\nb": r"'\n'",
    "a\x1b[31m": r"'\x1b'",
    "a\x7f": r"'\x7f'",
    "a" * 256: "255 bytes",
    "é" * 128: "255 bytes",
    "d/" + "a" * 256 + "/f": "255 bytes",
    "/".join(["a" * 200] * 25): "shorter than 4096",
    "a" * 5000: "shorter than 4096",
    "/".join("a" * 65): "64 levels",
    "/".join("a" * 300): "64 levels",
}


@pytest.mark.parametrize("name", GOOD, ids=lambda name: name[:20])
def test_taken(name: str) -> None:
    assert check_name(name) == name.encode()


@pytest.mark.parametrize(("name", "why"), BAD.items(), ids=lambda text: ascii(text)[:20])
def test_refused(name: str, why: str) -> None:
    with pytest.raises(BadName) as caught:
        check_name(name)
    assert why in str(caught.value)


@given(st.text(st.sampled_from("a./\0\n\\é"), max_size=12))
def test_what_is_taken_stays_below_and_is_canonical(name: str) -> None:
    try:
        encoded = check_name(name)
    except BadName:
        return
    assert posixpath.normpath(name) == name
    assert not name.startswith(("/", "../"))
    assert encoded == name.encode()


@pytest.mark.parametrize(
    ("names", "both"),
    [
        ([], None),
        (["a", "b"], None),
        (["a/b", "a/c", "ab"], None),
        (["a", "a/b"], "a"),
        (["a/b/c/d", "a/b"], "a/b"),
        (["x/y", "x/y/z", "a"], "x/y"),
        (["a-b", "a", "a/b"], "a"),
    ],
)
def test_file_and_directory(names: list[str], both: str | None) -> None:
    assert file_and_directory(names) == both


def test_deep_names_are_cheap() -> None:
    deep = "/".join("d" * 63)
    assert file_and_directory([f"{deep}/{n}" for n in range(10_000)]) is None
