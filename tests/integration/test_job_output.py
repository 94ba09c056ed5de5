"""Output: exact bytes, exact cuts, order of arrival."""

import re

import pytest

from sandboxd_client import Client
from support.jobs import KIB, MIB, run

# Around what rides in one message, what a pipe holds, what is the default.
SIZES = [0, 1, 4096, 65_535, 65_536, 65_537, 200_000, MIB]


@pytest.mark.parametrize("size", SIZES)
def test_output_of_every_size(client: Client, size: int) -> None:
    script = f"head -c {size} /dev/zero | tr '\\0' o; head -c {size} /dev/zero | tr '\\0' e >&2"
    result = client.run(argv=["sh", "-c", script], limits={"output_bytes": MIB})
    assert result.status == "ok"
    assert result.stdout == b"o" * size
    assert result.stderr == b"e" * size


@pytest.mark.parametrize("cap", [1, 100, 65_536, 300_000])
def test_cut_is_exact(client: Client, cap: int) -> None:
    for extra in (-1, 0, 1):
        argv = ["head", "-c", str(cap + extra), "/dev/zero"]
        result = client.run(argv=argv, limits={"output_bytes": cap})
        assert len(result.stdout) == min(cap, cap + extra)
        assert result.status == ("output_limit" if extra > 0 else "ok")
        assert result.stdout_truncated is (extra > 0)
        assert not result.stderr_truncated


def test_large_output(client: Client) -> None:
    result = client.run(argv=["head", "-c", str(30 * MIB), "/dev/zero"],
                        limits={"output_bytes": 32 * MIB})  # fmt: skip
    assert (result.status, len(result.stdout)) == ("ok", 30 * MIB)


def test_each_stream_has_the_limit(client: Client) -> None:
    script = "head -c 1000 /dev/zero; head -c 1000 /dev/zero >&2"
    result = client.run(argv=["sh", "-c", script], limits={"output_bytes": 1000})
    assert (result.status, len(result.stdout), len(result.stderr)) == ("ok", 1000, 1000)


def test_output_before_a_kill_is_kept(client: Client) -> None:
    script = "printf kept; printf also >&2; while :; do :; done"
    result = client.run(argv=["sh", "-c", script], limits={"cpu_time_ns": 50_000_000})
    assert result.status == "cpu_time_limit"
    assert (result.stdout, result.stderr) == (b"kept", b"also")


def test_order_of_arrival(client: Client) -> None:
    result = run(client, "interleave", "6", output=True)
    expected = b"".join(b"o%d;e%d;" % (i, i) for i in range(6))
    assert result.output == expected
    assert result.stdout == b"".join(b"o%d;" % i for i in range(6))
    assert result.stderr == b"".join(b"e%d;" % i for i in range(6))


def test_order_keeps_each_stream_whole(client: Client) -> None:
    script = "for i in $(seq 2000); do echo o$i; echo e$i >&2; done"
    result = client.run(argv=["sh", "-c", script], output=True)
    assert result.output is not None
    words = re.findall(rb"[oe]\d+\n", result.output)
    assert b"".join(word for word in words if word[:1] == b"o") == result.stdout
    assert b"".join(word for word in words if word[:1] == b"e") == result.stderr
    assert len(words) == 4000


def test_order_of_cut_output(client: Client) -> None:
    script = "printf aaaa; sleep 0.05; printf bbbb >&2; sleep 0.05; yes"
    result = client.run(argv=["sh", "-c", script], output=True, limits={"output_bytes": 4 * KIB})
    assert result.status == "output_limit"
    assert result.output == b"aaaabbbb" + result.stdout[4:]
