"""sandboxctl's own MessagePack says what the msgpack package says."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxctl.plain import Unpacker, pack
from sandboxd.protocol import models, rpc
from sandboxd_client._wire import Response, Wire

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=30,
)
SIZES = [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536]
EDGES = [
    *("x" * n for n in SIZES),
    *(b"x" * n for n in SIZES),
    *([1] * n for n in SIZES),
    *(dict.fromkeys(map(str, range(n))) for n in SIZES),
    *(sign * 2**n - d for n in (0, 5, 7, 8, 15, 16, 31, 32, 63) for d in (0, 1) for sign in (1, -1)
      if sign * 2**n - d >= -(2**63)),
    2**64 - 1,
    1.5,
]  # fmt: skip


@given(values)
def test_msgpack_reads_what_we_write(value: object) -> None:
    assert msgpack.unpackb(pack(value)) == value


@given(st.lists(values, max_size=4), st.integers(1, 50))
def test_we_read_what_msgpack_writes_in_any_pieces(written: list[object], size: int) -> None:
    data = b"".join(msgpack.packb(value) for value in written)
    unpacker = Unpacker()
    read = []
    for at in range(0, len(data), size):
        unpacker.feed(data[at : at + size])
        read += list(unpacker)
    assert read == written


@pytest.mark.parametrize("value", EDGES, ids=lambda value: repr(value)[:20])
def test_every_kind_of_head(value: object) -> None:
    unpacker = Unpacker()
    unpacker.feed(msgpack.packb(value) + b"\xc0")
    assert list(unpacker) == [value, None]
    if not isinstance(value, float):
        assert msgpack.unpackb(pack(value)) == value


def test_text_that_is_not_utf8_comes_through() -> None:
    unpacker = Unpacker()
    unpacker.feed(b"\xa2\xff\xfe")
    assert list(unpacker) == ["\udcff\udcfe"]


@pytest.mark.parametrize("data", [b"\xc1", b"\xd4\x01\x02", b"\x91\xc7\x01\x01\x01"])
def test_what_the_daemon_never_sends(data: bytes) -> None:
    unpacker = Unpacker()
    unpacker.feed(data)
    with pytest.raises(ValueError, match="is not expected"):
        list(unpacker)


@pytest.mark.parametrize("value", [object(), 1.5, {1, 2}], ids=repr)
def test_what_cannot_be_said(value: object) -> None:
    with pytest.raises(TypeError, match="cannot send a"):
        pack(value)


def test_it_can_stand_in_for_msgpack_on_a_connection() -> None:
    wire = Wire((pack, Unpacker()))
    msgid, data = wire.request("job.run", {"argv": ["a", b"\xff"], "limits": {"processes": 200}})
    request = rpc.decode_request(data)
    assert rpc.decode_params(request.method, request.params) == models.JobParams(
        argv=["a", b"\xff"], limits=models.Limits(processes=200)
    )
    (answer,) = wire.receive(rpc.encode_response(msgid, models.Result("ok", wall_time_ns=-1)))
    assert isinstance(answer, Response)
    assert (answer.msgid, answer.result["wall_time_ns"]) == (msgid, -1)
