"""Context files: what the lines mean, and what is said about those that mean nothing."""

import pytest

from sandboxd_client.contextfile import MAX_CHARS, MAX_KEY_CHARS, BadContext, parse_context


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n  \n# a = 1\n", {}),
        (
            'access_key_is = "XYZ"\nsecret_access_key = "123"\n',
            {"access_key_is": "XYZ", "secret_access_key": "123"},
        ),
        ("A=1\r\nB = two words \r\n", {"A": "1", "B": "two words"}),
        ("A='x'\nB=\"\"\nC=", {"A": "x", "B": "", "C": ""}),
        ("A = a=b # no comment", {"A": "a=b # no comment"}),
        ("A='x\nB=\"y'\nC='", {"A": "'x", "B": "\"y'", "C": "'"}),
        ("A=1\nA=2", {"A": "2"}),
        ("\ufeffa.b-c = é\u2028f", {"a.b-c": "é\u2028f"}),
    ],
)
def test_what_lines_mean(text: str, values: dict[str, str]) -> None:
    assert parse_context(text) == values


@pytest.mark.parametrize(
    "line", ["hunter2", "= hunter2", "a b = hunter2", "1a = hunter2", "é = hunter2",
             "a" * (MAX_KEY_CHARS + 1) + " = hunter2", "a%20 = hunter2"],
)  # fmt: skip
def test_a_line_that_means_nothing_is_named_and_not_shown(line: str) -> None:
    with pytest.raises(BadContext) as caught:
        parse_context(f"# first\nA=1\n{line}\n")
    assert str(caught.value) == 'line 3 is not of the form KEY = "value"'


def test_one_that_is_too_long() -> None:
    with pytest.raises(BadContext, match="longer"):
        parse_context("a=1\n" * MAX_CHARS)
