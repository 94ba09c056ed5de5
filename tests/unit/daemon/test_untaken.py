"""What clients do not take: each user has a share, and a large message or outcome besides."""

import os

import pytest
import trio.testing
from engine_peer import PATIENT_NS, Peer, helper_result
from rpc_client import Client, Connect

from sandboxd.config import Config
from sandboxd.connection import Connection
from sandboxd.engine import wire
from sandboxd.protocol.models import Result
from sandboxd.server import Server
from sandboxd.untaken import Share, Untaken

RUN = {"argv": ["prog"]}
MOST = 100
LARGE = 10 * MOST


class Held:
    """A connection or an outcome."""

    def __init__(self, share: Share, *sizes: int) -> None:
        self.given_up = False
        self._share = share
        for size in sizes:
            share.unread(self, size)

    def give_up(self) -> None:
        self.given_up = True
        self._share.left(self)

    def forget(self) -> None:
        self.given_up = True
        self._share.forget(self)


def keep(share: Share, size: int) -> Held:
    held = Held(share)
    share.keep(held, size)
    return held


@pytest.fixture
def all_() -> Untaken:
    return Untaken(MOST)


def gone(*held: Held) -> list[bool]:
    return [each.given_up for each in held]


def test_the_oldest_outcomes_go_first(all_: Untaken) -> None:
    share = all_.share(1)
    outcomes = [keep(share, 90) for _ in range(5)]
    assert gone(*outcomes) == [True, True, False, False, False]
    assert all_.bytes == share.bytes == 3 * 90


def test_one_of_any_size_is_kept(all_: Untaken) -> None:
    share = all_.share(1)
    small = keep(share, 50), Held(share, 50)
    outcome = keep(share, LARGE)
    reader = Held(share, LARGE)
    assert gone(*small, outcome, reader) == [False] * 4
    second = Held(share, LARGE)
    assert gone(small[1], outcome, second) == [False] * 3
    assert reader.given_up


def test_outcomes_go_before_connections(all_: Untaken) -> None:
    share = all_.share(1)
    first, last = keep(share, 50), keep(share, 50)
    readers = [Held(share, 90) for _ in range(3)]
    assert gone(first, last, *readers) == [True, False, False, False, False]


def test_the_connection_with_most_goes(all_: Untaken) -> None:
    share = all_.share(1)
    small = [Held(share, 20) for _ in range(5)]
    large = [Held(share, 90, 30), Held(share, 110)]
    assert gone(*small, *large) == [False] * 5 + [True, False]


def test_users_have_a_share_each(all_: Untaken) -> None:
    greedy, modest = all_.share(1), all_.share(2)
    held = Held(modest, 90), keep(modest, 90)
    for _ in range(20):
        Held(greedy, 90)
        keep(greedy, 90)
    assert gone(*held) == [False, False]
    assert greedy.bytes <= 2 * MOST + 2 * 90


def test_where_all_have_too_much_who_has_most_gives_up(all_: Untaken) -> None:
    first, second = Held(all_.share(1), 3 * MOST), Held(share := all_.share(2), LARGE)
    assert gone(first, second) == [False, False]
    third = Held(all_.share(3), 2 * MOST)
    assert gone(first, second, third) == [False, True, False]
    assert share.bytes == 0


def test_what_is_taken_counts_no_more(all_: Untaken) -> None:
    share = all_.share(1)
    reader = Held(share, 60, 70)
    share.read(reader, 60)
    assert share.bytes == 70
    share.read(reader, 70)
    keep(share, 80).forget()
    Held(share, 90).give_up()
    assert all_.bytes == share.bytes == share.spared == 0


def test_a_user_is_known_while_somebody_is_there(all_: Untaken) -> None:
    share = all_.share(1)
    assert all_.share(1) is share
    assert all_.share(2) is not share


# -- with connections -------------------------------------------------------------------------


@pytest.fixture
def config() -> Config:
    return Config(
        jobs=6, queue_length=40, queue_per_tenant=40, max_write_buffer_bytes=65536,
        helper_timeout_ns=PATIENT_NS,
    )  # fmt: skip


async def test_outcomes_of_many_connections_that_nobody_fetches(
    server: Server, peer: Peer, connect: Connect
) -> None:
    """They are one user's, also where each has one alone."""
    asking = [connect(uid)[1] for uid in [1001] + [1000] * 12]
    tokens = []
    for client in asking:
        tokens.append((client, (await client.call("job.start", RUN))["job"]))
        peer.result((await peer.receive()).fields["job_id"], bytes(60_000))
        await trio.testing.wait_all_tasks_blocked()
    found = []
    for client, token in tokens:
        client.send("job.wait", {"job": token})
        _, _, error, _ = await client.message()
        found.append(error is None)
    assert found == [True] + [False] * 9 + [True] * 3
    assert server.untaken.bytes == 0


async def test_outcomes_go_with_their_connection(
    connection: Connection, client: Client, server: Server, peer: Peer
) -> None:
    await client.call("job.start", RUN)
    peer.result((await peer.receive()).fields["job_id"], bytes(60_000))
    await trio.testing.wait_all_tasks_blocked()
    assert server.untaken.bytes > 60_000
    client.sock.close()
    await trio.testing.wait_all_tasks_blocked()
    assert connection.closed
    assert server.untaken.bytes == 0


async def test_results_of_batches_that_have_not_ended(
    server: Server, peer: Peer, connect: Connect
) -> None:
    """Whose last job keeps the answer waiting: of the oldest, what there is is forgotten."""
    _, client = connect(1000)
    size = 70_000
    batches = [client.send("job.batch", {"jobs": [RUN, RUN]}) for _ in range(6)]
    sent = [(await peer.receive()).fields["job_id"] for _ in range(12)]
    for job_id in sent[::2]:
        _send_large(peer, job_id, size)
        await trio.testing.wait_all_tasks_blocked()
    assert size < server.untaken.bytes < 2 * 65536 + 2 * size
    for job_id in sent[1::2]:
        peer.result(job_id)
    found = {}
    for _ in batches:
        _, msgid, _, answer = await client.message()
        first, second = answer["results"]
        assert second["status"] == "ok"
        found[msgid] = first.get("status") or first["error"]["code"]
    assert [found[msgid] for msgid in batches] == ["limit_exceeded"] * 4 + ["ok"] * 2
    assert server.untaken.bytes == 0


def _send_large(peer: Peer, job_id: int, size: int) -> None:
    memory = os.memfd_create("output")
    os.truncate(memory, size)
    values = {"stdout_len": size, "flags": wire.RESULT_MEMFD}
    peer.send(wire.RESULT.pack(*helper_result(job_id, **values)), (memory,))
    os.close(memory)


async def test_a_batch_goes_with_its_connection(
    server: Server, peer: Peer, connect: Connect
) -> None:
    connection, client = connect(1000)
    client.send("job.batch", {"jobs": [RUN, RUN]})
    first, _ = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    _send_large(peer, first, 70_000)
    await trio.testing.wait_all_tasks_blocked()
    assert server.untaken.bytes == 70_000
    connection.drop()
    assert server.untaken.bytes == 0
    assert connection.jobs.batches == set()


async def test_a_large_message_is_counted_once_and_whole(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between, the user who has most would not be the one."""
    connection, client = connect(1000)
    counted: list[int] = []
    unread = connection.share.unread
    monkeypatch.setattr(
        connection.share, "unread", lambda *args: (counted.append(args[1]), unread(*args))
    )
    files: dict[str | bytes, bytes] = {f"f{n}": os.urandom(17_000) for n in range(200)}
    connection.notify_exit("j1", Result("ok", files=files))
    (large,) = counted
    assert server.untaken.bytes == large > 200 * 17_000
    kind, method, (params,) = await client.message()
    assert (kind, method, params["job"]) == (2, "job.exit", "j1")
    assert params["result"]["files"] == files
    await trio.testing.wait_all_tasks_blocked()
    assert server.untaken.bytes == 0
