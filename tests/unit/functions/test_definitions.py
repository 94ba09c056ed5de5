"""What is taken as JSON and as a name; how limits go together."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.functions import definitions
from sandboxd.functions.model import Key
from sandboxd.functions.places import Places
from sandboxd.functions.prepared import lowered
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.limits import LIMIT_NAMES
from sandboxd.protocol.models import Limits

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_taken_is_json_and_the_same(value: Any) -> None:
    try:
        text = definitions.to_json(value, "args")
    except RequestError:
        return
    msgspec.json.decode(text)
    if type(value) is bytes:
        assert text is value
    else:
        assert json.loads(text) == value


@given(st.text())
def test_names(name: str) -> None:
    plain = name.isascii() and name.replace("-", "a").replace(".", "a").replace("_", "a").isalnum()
    try:
        definitions.check_name(name, "name")
    except RequestError:
        assert not plain or len(name) > 64 or name[0] in ".-"
    else:
        assert plain
        assert len(name) <= 64
        assert name[0] not in ".-"


LIMITS = st.builds(Limits, **{name: st.none() | st.integers(0, 9) for name in LIMIT_NAMES})


@given(LIMITS, LIMITS)
def test_limits_are_only_lowered(one: Limits, other: Limits) -> None:
    both = lowered(one, other)
    for name in LIMIT_NAMES:
        mine, theirs, found = getattr(one, name), getattr(other, name), getattr(both, name)
        assert (found or 10) == min(mine or 10, theirs or 10)
    assert lowered(one, None) is one


def test_places() -> None:
    places = Places(8)
    places.enter(1, 6)
    with pytest.raises(RequestError, match="6 executions of yours"):
        places.enter(1)
    places.enter(2, 2)
    with pytest.raises(RequestError, match="8 executions that have not ended"):
        places.enter(3)
    places.leave(1, 6)
    places.enter(3, 6)


def test_places_of_a_key() -> None:
    places = Places(8)
    key = Key(tenant=1, name="k", role="run", max_executions=2, id=7)
    free = Key(tenant=1, name="l", role="run", id=8)
    places.enter_key(None, 5)
    places.enter_key(free, 5)
    places.enter_key(key, 2)
    with pytest.raises(RequestError) as caught:
        places.enter_key(key)
    assert caught.value.code == "busy"
    places.leave_key(7)
    places.enter_key(key)
    places.leave_key(0, 5)


def test_large_json_text_is_not_made_into_values() -> None:
    """It would be some dozen times as much, and keep everybody waiting."""
    text = b"[" + b"[]," * 1_000_000 + b"1]"
    tracemalloc.start()
    try:
        assert definitions.to_json(text, "args") is text
        # What it is as text, for a moment, and not the 60 MB of a million lists.
        assert tracemalloc.get_traced_memory()[1] < 2 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "end",
    [
        b"",
        b"]]",
        b"],1",
        b"01]",
        b"nan]",
        b'"\\x"]',
        b'"\x01"]',
        b'"\xff"]',
        b'"\\ud800"]',
        b"[" * 99_999,
    ],
)
def test_large_json_text_is_checked_all_the_same(end: bytes) -> None:
    with pytest.raises(RequestError, match="args: is no JSON text"):
        definitions.to_json(b"[" + b"[]," * 50_000 + end, "args")
