"""FrameDecoder: where messages end, and what is refused before anything is built from it."""

import itertools
import time
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.protocol.errors import RemoteProtocolError
from sandboxd.protocol.framing import NEED_DATA, FrameDecoder

MIB = 1024 * 1024

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.binary(max_size=20).map(lambda data: msgpack.ExtType(5, data))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


def frames(decoder: FrameDecoder) -> list[bytes]:
    found = []
    while (frame := decoder.next_frame()) is not NEED_DATA:
        found.append(bytes(frame))  # type: ignore[arg-type]
    return found


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(point % (len(data) + 1) for point in points), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(values, max_size=5), st.lists(st.integers(0, 10**6), max_size=8))
def test_finds_the_same_frames_however_the_bytes_are_cut(
    messages: list[object], points: list[int]
) -> None:
    encoded = [msgpack.packb(message) for message in messages]
    decoder = FrameDecoder()
    found = []
    for chunk in cut(b"".join(encoded), points):
        decoder.receive_data(chunk)
        found += frames(decoder)
    assert found == encoded
    assert not decoder.partial


@given(st.lists(values, min_size=1, max_size=3))
def test_finds_the_same_frames_byte_by_byte(messages: list[object]) -> None:
    encoded = [msgpack.packb(message) for message in messages]
    decoder = FrameDecoder()
    found = []
    for byte in b"".join(encoded):
        decoder.receive_data(bytes([byte]))
        found += frames(decoder)
    assert found == encoded


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_are_frames_or_a_remote_protocol_error(data: bytes, points: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[bytes], str | None]:
        decoder = FrameDecoder(max_message_bytes=200, max_depth=8, max_values=64)
        found = []
        for chunk in chunks:
            decoder.receive_data(chunk)
            try:
                while (frame := decoder.next_frame()) is not NEED_DATA:
                    found.append(bytes(frame))  # type: ignore[arg-type]
            except RemoteProtocolError:
                return found, "refused"
        return found, None

    assert outcome([data]) == outcome(cut(data, points))


# One value with each kind of head, at the edges of its length field.
HEADS = [
    *(msgpack.packb(n) for n in (0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1)),
    *(msgpack.packb(-n) for n in (1, 32, 33, 128, 129, 32768, 32769, 2**31, 2**31 + 1, 2**63)),
    *(msgpack.packb(value) for value in (None, True, False, 1.5)),
    msgpack.packb(1.5, use_single_float=True),
    *(msgpack.packb("x" * n) for n in (0, 31, 32, 255, 256, 65535, 65536)),
    *(msgpack.packb(b"x" * n) for n in (0, 255, 256, 65535, 65536)),
    *(msgpack.packb([0] * n) for n in (0, 15, 16, 65535, 65536)),
    *(msgpack.packb(dict.fromkeys(range(n), 0)) for n in (0, 15, 16, 65535, 65536)),
    *(msgpack.packb(msgpack.ExtType(1, b"x" * n)) for n in (0, 1, 2, 3, 4, 8, 16, 255, 256, 65536)),
]


@pytest.mark.parametrize("value", HEADS, ids=lambda value: f"0x{value[0]:02x}-{len(value)}")
def test_every_head_is_measured_right(value: bytes) -> None:
    message = b"\x92" + value + b"\xc0"
    decoder = FrameDecoder()
    decoder.receive_data(message + message[:-1])
    assert frames(decoder) == [message]
    assert decoder.partial
    decoder.receive_data(message[-1:])
    assert frames(decoder) == [message]


REFUSED = {
    "4 GiB of bin declared": (b"\x91\xc6\xff\xff\xff\xff", "bytes or more"),
    "4 GiB of str declared": (b"\x91\xdb\xff\xff\xff\xff", "bytes or more"),
    "4 GiB of ext declared": (b"\x91\xc9\xff\xff\xff\xff\x01", "bytes or more"),
    "4 Gi array declared": (b"\xdd\xff\xff\xff\xff", "values or more"),
    "4 Gi map declared": (b"\xdf\xff\xff\xff\xff", "values or more"),
    "10^5 nested arrays": (b"\x91" * 100_000, "deeper than 32"),
    "10^5 nested maps": (b"\x81\x00" * 100_000, "deeper than 32"),
    "10^6 nested arrays of 2^16": (b"\xdc\xff\xff" * 1_000_000, "values or more"),
    "0xc1": (b"\x94\x00\x01\xc1", "0xc1"),
}


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_by_what_is_declared(data: bytes, why: str) -> None:
    decoder = FrameDecoder()
    decoder.receive_data(data)
    with pytest.raises(RemoteProtocolError, match=why):
        decoder.next_frame()
    decoder.receive_data(b"\xc0")
    with pytest.raises(RemoteProtocolError, match=why):
        decoder.next_frame()


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_allocates_nothing_by_what_is_declared(data: bytes, why: str) -> None:
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        decoder.receive_data(data)
        with pytest.raises(RemoteProtocolError, match=why):
            decoder.next_frame()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(data) + 64 * 1024


def test_half_a_message_costs_what_has_come() -> None:
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        decoder.receive_data(b"\x91\xc6" + (60 * MIB).to_bytes(4, "big"))  # Within the limit.
        assert decoder.next_frame() is NEED_DATA
        for _ in range(16):
            decoder.receive_data(bytes(65536))
            assert decoder.next_frame() is NEED_DATA
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB


def test_depth_is_exact() -> None:
    decoder = FrameDecoder(max_depth=32)
    deepest = b"\x91" * 32 + b"\xc0"
    decoder.receive_data(deepest)
    assert decoder.next_frame() == deepest
    decoder.receive_data(b"\x91" * 33 + b"\xc0")
    with pytest.raises(RemoteProtocolError, match="deeper than 32"):
        decoder.next_frame()


def test_message_size_is_exact() -> None:
    largest = msgpack.packb(b"x" * 998)
    assert len(largest) == 1001
    FrameDecoder(max_message_bytes=1001).receive_data(largest)
    decoder = FrameDecoder(max_message_bytes=1001)
    decoder.receive_data(largest * 3)
    assert frames(decoder) == [largest] * 3
    decoder.receive_data(msgpack.packb(b"x" * 999))
    with pytest.raises(RemoteProtocolError, match="at most 1001 are taken"):
        decoder.next_frame()


def test_number_of_values_is_exact_and_counted_for_each_message() -> None:
    decoder = FrameDecoder(max_values=11)
    most = msgpack.packb([0] * 10)
    decoder.receive_data(most * 2)
    assert frames(decoder) == [most, most]
    decoder.receive_data(msgpack.packb({n: [] for n in range(6)}))
    with pytest.raises(RemoteProtocolError, match="at most 11 are taken"):
        decoder.next_frame()


def test_frames_before_a_mistake_are_still_given_out() -> None:
    decoder = FrameDecoder()
    decoder.receive_data(b"\x91\x01\xc1")
    assert decoder.next_frame() == b"\x91\x01"
    with pytest.raises(RemoteProtocolError):
        decoder.next_frame()


def seconds_byte_by_byte(data: bytes) -> float:
    decoder = FrameDecoder()
    started = time.process_time()
    for n in range(len(data)):
        decoder.receive_data(data[n : n + 1])
        decoder.next_frame()
    return time.process_time() - started


def test_time_is_linear_when_fed_byte_by_byte() -> None:
    message = msgpack.packb([b"x", "y", {"z": 1}] * 2000)
    small, large = (message[: len(message) // 8], message)
    ratio = min(seconds_byte_by_byte(large) for _ in range(3)) / min(
        seconds_byte_by_byte(small) for _ in range(3)
    )
    assert ratio < 24, "8 times the bytes must take about 8 times as long, not 64"


def test_need_data_says_its_name() -> None:
    assert repr(NEED_DATA) == "NEED_DATA"
