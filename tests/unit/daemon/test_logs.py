"""A client's words in a log line can neither forge a line nor a field."""

import logging
import re

import pytest

from sandboxd import logs


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, "7"),
        ("job-1", "job-1"),
        ("/run/x.sock", "/run/x.sock"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("status=ok", '"status=ok"'),
        (b"\xff\n", '"\\\\xff\\n"'),
        ("ünï", '"\\xfcn\\xef"'),
    ],
)
def test_field(value: object, shown: str) -> None:
    assert logs.field(value) == shown


def test_long_values_are_cut() -> None:
    assert len(logs.field("x" * 100_000)) < 300


def test_fields_keep_their_order() -> None:
    assert logs.fields(job=3, why="too slow") == 'job=3 why="too slow"'


def test_priorities_for_the_journal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", {"JOURNAL_STREAM": "8:1"})
    log = logging.getLogger("sandboxd.test")
    log.error("bad %s", logs.fields(x=1))
    log.warning("odd")
    log.info("fine")
    log.debug("not shown")
    assert capsys.readouterr().err == "<3>bad x=1\n<4>odd\n<6>fine\n"


def test_every_line_of_a_traceback_has_its_priority(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", {"JOURNAL_STREAM": "8:1"})
    try:
        raise ValueError("what happened")
    except ValueError:
        logging.getLogger("sandboxd.test").exception("failed")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2
    assert all(line.startswith("<3>") for line in lines)


def test_plain_lines_carry_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", {})
    logging.getLogger("sandboxd.test").debug("seen")
    assert " DEBUG seen" in capsys.readouterr().err


@pytest.mark.parametrize("journal", [{}, {"JOURNAL_STREAM": "8:1"}])
def test_what_is_logged_often_looks_like_the_rest(
    capsys: pytest.CaptureFixture[str], journal: dict[str, str]
) -> None:
    logs.configure("info", journal)
    often = logs.OftenLog("sandboxd.test")
    log = logging.getLogger("sandboxd.test")
    pairs = []
    for _ in range(2):  # Once they may fall into different seconds.
        log.info("x=1")
        often.write("x=1")
        text = re.sub(r",[0-9]{3} ", ",000 ", capsys.readouterr().err)
        pairs.append(text.splitlines())
    assert any(one == two for one, two in pairs), pairs
    logs.configure("warning", journal)
    often.write("x=2")
    assert capsys.readouterr().err == ""
