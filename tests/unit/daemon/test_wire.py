"""Packing and unpacking against the compiler's own view of the structs."""

import os
import struct

import pytest
from engine_peer import helper_result

from sandboxd.engine import wire
from sandboxd.engine.memfd import sealed_memfd
from sandboxd.protocol.jobs import InputFile
from sandboxd.protocol.limits import JobLimits


def test_every_field_of_a_job_lands_where_c_reads_it() -> None:
    values = tuple(range(1, 25))
    raw = wire.ffi.new("struct sbx_job *")
    wire.ffi.memmove(raw, wire.JOB.pack(*values), wire.JOB.size)
    names = (
        "type", "flags", "job_id", "after", "tenant", "partition", "mode", "mounts", "fd_mask",
        "blob_len", "root", "umask", "next_memory",
    )  # fmt: skip
    assert tuple(getattr(raw, name) for name in names) == values[:13]
    assert tuple(getattr(raw.limits, name) for name in wire.LIMIT_NAMES) == values[13:23]


def test_a_result_as_c_writes_it() -> None:
    raw = wire.ffi.new("struct sbx_result *")
    for number, name in enumerate(wire.HelperResult._fields, 1):
        setattr(raw, name, -number if name in ("exit_code", "signal", "error") else number)
    seen = wire.unpack_result(memoryview(wire.ffi.buffer(raw)[:]))
    for number, name in enumerate(wire.HelperResult._fields, 1):
        assert abs(getattr(seen, name)) == number


def test_limits_come_in_the_order_of_the_protocol() -> None:
    assert JobLimits.__struct_fields__ == wire.LIMIT_NAMES


@pytest.mark.parametrize("name", ["sbx_hello", "sbx_stats", "sbx_slot_error", "sbx_control"])
def test_small_structs_have_the_compilers_size(name: str) -> None:
    layouts = {
        "sbx_hello": wire.HELLO,
        "sbx_stats": wire.STATS,
        "sbx_slot_error": wire.SLOT_ERROR,
        "sbx_control": wire.CONTROL,
    }
    assert layouts[name].size == wire.ffi.sizeof(f"struct {name}")


def test_a_layout_that_differs_is_refused_at_import() -> None:
    with pytest.raises(ImportError, match=r"another layout of sbx_control\.job_id"):
        wire._layout("sbx_control", (("type", "I"), ("job_id", "Q")))
    with pytest.raises(ImportError, match="another size of sbx_control"):
        wire._layout("sbx_control", (("type", "I"), ("value", "I")))


def test_blob() -> None:
    file = InputFile(b"dir/name", 0o755, b"data")
    blob = b"".join(wire.blob_parts((b"a", b""), (b"K=V",), b"/tmp", (file,), b"in\0put"))
    assert blob == (
        struct.pack("=IIII", 2, 1, 1, 6)
        + b"a\0\0K=V\0/tmp\0"
        + struct.pack("=QII", 4, 9, 0o755)
        + b"dir/name\0data"
        + b"in\0put"
    )


def test_the_smallest_blob() -> None:
    assert b"".join(wire.blob_parts((b"true",))) == struct.pack("=IIII", 1, 0, 0, 0) + b"true\0\0"


def test_segments() -> None:
    data = struct.pack("=III", 3, 0x80000000 | 5, 1)
    assert wire.unpack_segments(data) == [(False, 3), (True, 5), (False, 1)]


def test_steps_have_text() -> None:
    assert wire.step_name(wire.STEP_EXEC) == "executing the program"
    assert wire.step_name(10_000) == "an unknown step"
    assert "interp" not in wire.step_hint(wire.STEP_EXEC)


def test_the_largest_message_fits_the_buffer() -> None:
    assert wire.RESULT.size + wire.INLINE_OUTPUT == wire.MAX_MESSAGE
    assert len(wire.RESULT.pack(*helper_result(1))) == wire.RESULT.size


def test_sealed_memory_of_many_parts() -> None:
    parts = [bytes([n % 251]) * (n % 7) for n in range(3000)]
    fd = sealed_memfd("x", *parts)
    try:
        assert os.read(fd, 1 << 20) == b"".join(parts)
        with pytest.raises(PermissionError):
            os.write(fd, b"x")
    finally:
        os.close(fd)
