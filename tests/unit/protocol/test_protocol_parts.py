"""Messages in parts say the same, and large values are not copied."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from sandboxd.protocol import parts, rpc
from sandboxd.protocol.functions import CallResult, ExecutionInfo, OutputResult
from sandboxd.protocol.models import BatchResult, Result, StagesResult
from sandboxd.protocol.runtimes import ExecuteResult

LARGE = bytes(parts.LARGE_BYTES + 1)
SMALL = bytes(parts.LARGE_BYTES - 10)
WITH = Result("ok", stdout=LARGE, stderr=b"some", output=UNSET)
WITHOUT = Result("ok", stdout=SMALL, files={"a": b"", b"\xff": b"x"})
ANSWERS = [
    WITH,
    Result("ok", stderr=LARGE, files_truncated=False),
    Result("ok", output=LARGE),
    Result("ok", files={"a": b"x", b"\xff": LARGE}),
    Result("ok", result=LARGE, result_truncated=True),
    StagesResult(WITHOUT, WITH),
    ExecuteResult("c", "1", WITH),
    ExecuteResult("c", "1", WITHOUT, WITH),
    BatchResult([WITHOUT, {"error": {"code": "busy", "data": {}}}, WITH, *[WITHOUT] * 20]),
    CallResult("ended", "ok", log=LARGE),
    OutputResult("f", "out.txt", LARGE),
    ExecutionInfo("e", "s", "f", 1, "ended", 5, log=LARGE),
]
# None of it is large, but all together is.
MANY = [
    Result("ok", files={f"f{n}": bytes(20_000 if n % 2 else 900) for n in range(100)}),
    Result("ok", files={f"f{n}": bytes(20_000) for n in range(30)}),
    BatchResult([Result("ok", stdout=bytes(70_000), output=bytes(10_000))] * 8),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_the_same_in_parts(answer: object) -> None:
    assert parts.is_large(answer)
    made = rpc.response_parts(7, answer)
    decode = msgspec.msgpack.decode  # Of some maps, msgspec writes longer heads than need be.
    assert decode(b"".join(made)) == decode(rpc.encode_response(7, answer))
    assert any(part is LARGE for part in made)


@pytest.mark.parametrize("answer", MANY)
def test_much_that_is_small_is_not_put_together(answer: object) -> None:
    assert parts.is_large(answer)
    made = rpc.notification_parts("job.exit", answer)
    decode = msgspec.msgpack.decode
    assert decode(b"".join(made)) == decode(rpc.encode_notification("job.exit", answer))
    assert max(map(len, made)) < 200_000
    assert sum(1 for part in made if len(part) > 16_384) >= 8


@pytest.mark.parametrize("few", [1, 15, 16, 65_536])
def test_many_small_files_are_encoded_in_one_go(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, 65,000 would take the loop some 20 ms."""
    files: dict[str | bytes, bytes] = {f"f{n}": b"x" for n in range(few)}
    files |= {b"\xff%d" % n: LARGE for n in range(70)}
    encoded = 0

    def encode(value: object) -> bytes:
        nonlocal encoded
        encoded += 1
        return msgspec.msgpack.encode(value)

    monkeypatch.setattr(parts, "_encode", encode)
    made = parts.encode(Result("ok", files=files))
    decode = msgspec.msgpack.decode
    assert decode(b"".join(made)) == decode(msgspec.msgpack.encode(Result("ok", files=files)))
    assert encoded < 200


@pytest.mark.parametrize(
    "answer", [WITHOUT, StagesResult(WITHOUT), BatchResult([WITHOUT]), {"data": LARGE}, None]
)
def test_other_answers_are_not_large(answer: object) -> None:
    assert not parts.is_large(answer)


_leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
_values = st.recursive(
    _leaves | st.sampled_from([LARGE, bytes(16_385), bytes(65_535), bytes(65_536)]),
    lambda inner: (
        st.lists(inner, max_size=40) | st.dictionaries(st.text() | st.binary(), inner, max_size=40)
    ),
    max_leaves=60,
)


@given(_values)
def test_any_message_is_the_same_in_parts(value: Any) -> None:
    assert b"".join(parts.encode(value)) == msgspec.msgpack.encode(value)


@pytest.mark.parametrize("count", [15, 16, 65535, 65536])
def test_heads_of_long_arrays_and_maps(count: int) -> None:
    files = {**dict.fromkeys(range(count - 1), b""), "x": LARGE}
    for value in ([LARGE, *[0] * (count - 1)], files):
        assert b"".join(parts.encode(value)) == msgspec.msgpack.encode(value)
