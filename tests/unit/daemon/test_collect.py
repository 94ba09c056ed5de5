"""The collected stream is hostile until proved otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_results import LIMITS

from sandboxd.engine import collect, wire
from sandboxd.engine.collect import Collected, parse


def entry(path: bytes, data: bytes, mode: int = 0o644) -> bytes:
    return wire.COLLECTED.pack(len(data), len(path), mode) + path + data


END = wire.COLLECTED.pack(0, 0, 0)


def test_files_and_the_end() -> None:
    stream = entry(b"a", b"1") + entry(b"d/b", b"") + END
    assert parse(stream, 100) == Collected({"a": b"1", "d/b": b""}, truncated=False)


def test_nothing_matched() -> None:
    assert parse(END, 100) == Collected({}, truncated=False)


def test_a_name_that_is_not_utf8_stays_bytes() -> None:
    assert parse(entry(b"\xff\n", b"x") + END, 100).files == {b"\xff\n": b"x"}


def test_an_error_at_the_end_means_that_something_is_missing() -> None:
    stream = entry(b"a", b"1") + wire.COLLECTED.pack(0, 0, 27)
    assert parse(stream, 100) == Collected({"a": b"1"}, truncated=True)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_stream_without_its_end(cut: int) -> None:
    stream = entry(b"a", b"1") + entry(b"b", b"22") + END
    found = parse(stream[:-cut], 100)
    assert found.truncated
    assert set(found.files) <= {"a", "b"}


def test_files_beyond_the_limit_are_left_out() -> None:
    stream = entry(b"a", b"x" * 60) + entry(b"b", b"y" * 60) + entry(b"c", b"z" * 40) + END
    assert set(parse(stream, 100).files) == {"a", "c"}
    assert parse(stream, 100).truncated


@pytest.mark.parametrize(
    "path", [b"/etc/passwd", b"../x", b"a/../b", b"a//b", b".", b"a/", b"a\0b", b"x" * 4097]
)
def test_a_name_no_collector_of_ours_would_write(path: bytes) -> None:
    assert parse(entry(path, b"x") + END, 100) == Collected({}, truncated=True)


@pytest.mark.parametrize("data_len", [2**63, 2**64 - 1, 5])
def test_a_declared_length_is_never_believed(data_len: int) -> None:
    stream = wire.COLLECTED.pack(data_len, 1, 0) + b"a" + b"1234"
    assert parse(stream, 2**62) == Collected({}, truncated=True)


@given(st.binary(max_size=200))
def test_garbage_is_parsed_or_truncated(data: bytes) -> None:
    found = parse(data, 1000)
    assert sum(map(len, found.files.values())) <= len(data)


def test_limits_leave_room_for_the_stream_itself() -> None:
    limits = collect.limits(LIMITS, 1000)
    assert limits.file_size_bytes == 1000 + collect.OVERHEAD_BYTES
    assert limits.memory_bytes > LIMITS.memory_bytes + 1000
    assert limits.disk_bytes == LIMITS.disk_bytes
