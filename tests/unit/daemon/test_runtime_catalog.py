"""The catalog of runtimes, with a helper that the test plays: what is run to find out a version,
and when."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
import trio.testing
from engine_peer import DEADLINE_S, Peer, spec
from runtime_host import Host

from sandboxd.config import Config
from sandboxd.engine import wire
from sandboxd.engine.job import Job
from sandboxd.engine.jobs import Engine
from sandboxd.protocol.errors import RequestError
from sandboxd.runtimes import catalog as catalog_module
from sandboxd.runtimes.catalog import Catalog
from sandboxd.runtimes.plan import Plan
from sandboxd.runtimes.runtime import Runtime, from_package


@pytest.fixture
def host(tmp_path: Path, config: Config, engine: Engine, peer: Peer) -> Host:
    return Host(tmp_path, config, engine, peer)


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "_LOOK_AGAIN_NS", 0)


async def ask(catalog: Catalog, language: str, version: str = "*") -> Plan:
    """As a request does."""
    plan = catalog.find(language, version)
    if plan is None:
        with trio.fail_after(DEADLINE_S):
            await catalog.settle(language)
        plan = catalog.choose(language, version)
    return plan


async def unknown(catalog: Catalog, language: str, version: str = "*") -> str:
    with pytest.raises(RequestError) as caught:
        await ask(catalog, language, version)
    assert caught.value.code == "not_found"
    return str(caught.value)


async def found(host: Host, catalog: Catalog, language: str, says: str) -> Plan:
    """Ask for a language that has to be looked at."""
    assert catalog.find(language, "*") is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.say, says)
        return await ask(catalog, language)
    raise AssertionError


async def test_a_version_is_found_out_once(host: Host) -> None:
    host.install("tool")
    host.describe("tool", top='aliases = ["t"]')
    catalog = host.catalog()
    plan = await found(host, catalog, "tool", "tool, version 1.2 (x)")
    assert (plan.runtime.language, plan.runtime.version) == ("tool", "1.2.0")
    assert catalog.find("tool", "*") is plan
    assert catalog.find("t", "^1") is plan
    assert await unknown(catalog, "tool", "2") == "tool-2 runtime is unknown"
    assert await unknown(catalog, "tolo") == "tolo-* runtime is unknown"
    assert host.peer.nothing_sent()


async def test_what_is_run_to_find_out(host: Host, config: Config) -> None:
    host.install("tool")
    path = host.describe("tool")
    path.write_text(path.read_text() + "[run.limits]\nprocesses = 7\nmemory_bytes = '900G'\n")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, catalog, "tool")
        message = await host.asked()
        assert b"tool\0-V\0" in message.blob
        assert message.fields["processes"] == 7
        assert message.fields["memory_bytes"] == config.max_limits.memory_bytes
        assert message.fields["wall_time_ns"] <= 15_000_000_000
        host.peer.result(message.fields["job_id"], b"", b"version 3\n")  # On stderr, as java.
    plan = catalog.find("tool", "*")
    assert plan is not None
    assert plan.runtime.version == "3.0.0"
    assert not +host.engine.counts  # Clients' jobs only.


async def test_another_tool_is_another_version(host: Host) -> None:
    host.install("tool", "old")
    host.describe("tool")
    catalog = host.catalog()
    assert (await found(host, catalog, "tool", "version 1.0.0")).runtime.version == "1.0.0"
    host.install("tool", "new")
    assert (await found(host, catalog, "tool", "version 2.0.0")).runtime.version == "2.0.0"
    assert await unknown(catalog, "tool", "1") == "tool-1 runtime is unknown"
    (host.tools / "tool").unlink()
    assert await unknown(catalog, "tool") == "tool-* runtime is unknown"
    assert host.peer.nothing_sent()


async def test_a_tool_behind_a_link(host: Host) -> None:
    host.install("tool-1")
    host.install("tool-2")
    (host.tools / "tool").symlink_to("tool-1")
    host.describe("tool")
    catalog = host.catalog()
    await found(host, catalog, "tool", "version 1")
    (host.tools / "new").symlink_to("tool-2")
    (host.tools / "new").rename(host.tools / "tool")
    assert (await found(host, catalog, "tool", "version 2")).runtime.version == "2.0.0"


async def test_a_tool_that_is_not_there_is_not_run(host: Host) -> None:
    host.describe("tool")
    catalog = host.catalog()
    await unknown(catalog, "tool")
    assert host.peer.nothing_sent()
    host.install("tool")
    assert (await found(host, catalog, "tool", "version 1")).runtime.version == "1.0.0"


async def test_under_load_a_tool_is_looked_at_once_in_a_while(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "_LOOK_AGAIN_NS", 10**12)
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    plan = await found(host, catalog, "tool", "version 1")
    assert catalog.find("tool", "*") is plan
    host.install("tool", "new")
    assert catalog.find("tool", "*") is plan
    monkeypatch.setattr(catalog_module, "_LOOK_AGAIN_NS", 0)
    assert catalog.find("tool", "*") is None


async def test_many_askers_are_one_detection(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, catalog, "tool")
        await host.say("version 1")
    assert host.peer.nothing_sent()


async def test_an_asker_that_goes_leaves_the_detection_to_the_next(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        gone = trio.CancelScope()

        async def first() -> None:
            with gone:
                await ask(catalog, "tool")

        nursery.start_soon(first)
        message = await host.asked()
        nursery.start_soon(ask, catalog, "tool")
        await trio.testing.wait_all_tasks_blocked()
        gone.cancel()
        kill = await host.peer.receive()
        assert (kill.kind, kill.fields["job_id"]) == (wire.MSG_KILL, message.fields["job_id"])
        host.peer.result(message.fields["job_id"], reason=wire.REASON_CANCELLED)
        await host.say("version 5")
    plan = catalog.find("tool", "*")
    assert plan is not None
    assert plan.runtime.version == "5.0.0"


@pytest.mark.parametrize(
    "says", ["", "no such option", "version x", "version 99999999999999999999"]
)
async def test_a_tool_that_says_no_version(
    host: Host, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.say, says)
        await unknown(catalog, "tool")
    assert "a runtime is left out language=tool" in caplog.text
    await unknown(catalog, "tool")
    assert host.peer.nothing_sent()  # It would say the same again.
    host.install("tool", "new")
    assert (await found(host, catalog, "tool", "version 2")).runtime.version == "2.0.0"


async def test_a_tool_that_says_too_much_holds_up_nobody(host: Host) -> None:
    host.install("tool")
    path = host.describe("tool")
    path.write_text(path.read_text().replace("version ([0-9.]+)", "([0-9]+[.][0-9]+[.][0-9]+)"))
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(unknown, catalog, "tool")
        message = await host.asked()
        begun = time.process_time()
        host.peer.result(message.fields["job_id"], b"1" * 60_000)
    assert time.process_time() - begun < 1


async def test_a_version_that_is_fixed(host: Host) -> None:
    host.install("tool")
    path = host.describe("tool", more='fixed = "0.1"')
    catalog = host.catalog()
    assert (await found(host, catalog, "tool", "nothing")).runtime.version == "0.1.0"
    text = path.read_text().replace('command = ["tool", "-V"]\npattern = "version ([0-9.]+)"\n', "")
    path.write_text(text.replace("0.1", "0.2"))
    assert (await ask(catalog, "tool")).runtime.version == "0.2.0"
    assert host.peer.nothing_sent()


async def test_a_tool_that_hangs_is_tried_again_later(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(unknown, catalog, "tool")
        message = await host.asked()
        host.peer.result(message.fields["job_id"], b"version 1", reason=wire.REASON_WALL_TIME)
    await unknown(catalog, "tool")
    assert host.peer.nothing_sent()
    for tool in catalog._tools.values():
        tool._again_at = trio.current_time()
    assert (await found(host, catalog, "tool", "version 1")).runtime.version == "1.0.0"


async def test_an_attempt_that_does_not_end_is_not_the_last_one(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(unknown, catalog, "tool")
        message = await host.asked()
        host.peer.result(message.fields["job_id"], b"version 1", reason=wire.REASON_WALL_TIME)
    for tool in catalog._tools.values():
        tool._again_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.settle, "tool")
        message = await host.asked()
        nursery.cancel_scope.cancel()  # The client that made it goes away.
    assert (await host.peer.receive()).kind == wire.MSG_KILL
    host.peer.result(message.fields["job_id"], reason=wire.REASON_CANCELLED)
    assert (await found(host, catalog, "tool", "version 1")).runtime.version == "1.0.0"


def fill_queue(engine: Engine) -> list[Job]:
    """Jobs of two tenants, until no more is taken."""
    jobs = []
    for tenant in (1, 2):
        with contextlib.suppress(RequestError):
            while True:
                job = engine.admit(spec(), tenant)
                engine.submit(job)
                jobs.append(job)
    return jobs


async def test_a_full_queue_says_nothing_about_a_tool(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    jobs = fill_queue(host.engine)
    running = [(await host.peer.receive()).fields["job_id"] for _ in range(2)]
    with pytest.raises(RequestError) as caught:
        await ask(catalog, "tool")
    assert caught.value.code == "busy"
    with pytest.raises(RequestError):
        await catalog.infos()
    await catalog.detect_all()  # Which leaves it to whoever asks.
    assert host.peer.nothing_sent()
    for job in reversed(jobs):
        host.engine.abandon(job)
    for job_id in running:
        await host.peer.receive()
        host.peer.result(job_id, reason=wire.REASON_CANCELLED)
    assert (await found(host, catalog, "tool", "version 1")).runtime.version == "1.0.0"


async def test_a_helper_that_dies_says_nothing_about_a_tool(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:

        async def fails() -> None:
            with pytest.raises(RequestError, match="could not be run"):
                await ask(catalog, "tool")

        nursery.start_soon(fails)
        await host.asked()
        host.peer.die()
    host.peer.start_worker()
    assert (await found(host, catalog, "tool", "version 1")).runtime.version == "1.0.0"


async def test_what_is_known_is_known_after_a_restart(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    await found(host, host.catalog(), "tool", "version 1")
    again = host.catalog()
    assert (await ask(again, "tool")).runtime.version == "1.0.0"
    assert host.peer.nothing_sent()
    host.install("tool", "new")
    assert (await found(host, host.catalog(), "tool", "version 2")).runtime.version == "2.0.0"


async def test_everything_is_found_out_one_after_the_other(host: Host) -> None:
    for name in ("a", "b", "c"):
        host.install(name)
        host.describe(name)
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.detect_all)
        for name in ("a", "b", "c"):
            message = await host.asked()
            assert f"{name}\0-V\0".encode() in message.blob
            assert host.peer.nothing_sent()
            host.peer.result(message.fields["job_id"], b"version 1")
    assert [info.language for info in await catalog.infos()] == ["a", "b", "c"]
    assert host.peer.nothing_sent()


async def test_who_asks_meanwhile_does_not_wait_for_the_rest(host: Host) -> None:
    for name in ("a", "b", "c"):
        host.install(name)
        host.describe(name)
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.detect_all)
        first = await host.asked()
        nursery.start_soon(ask, catalog, "c")
        await host.say("version 3")
        assert (await ask(catalog, "c")).runtime.version == "3.0.0"
        host.peer.result(first.fields["job_id"], b"version 1")
        await host.say("version 2")
    assert [info.version for info in await catalog.infos()] == ["1.0.0", "2.0.0", "3.0.0"]
    assert host.peer.nothing_sent()


async def test_detection_that_is_cancelled_keeps_what_it_knows(host: Host) -> None:
    for name in ("a", "b"):
        host.install(name)
        host.describe(name)
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.detect_all)
        await host.say("version 1")
        message = await host.asked()
        nursery.cancel_scope.cancel()
    kill = await host.peer.receive()
    assert (kill.kind, kill.fields["job_id"]) == (wire.MSG_KILL, message.fields["job_id"])
    assert (await ask(host.catalog(), "a")).runtime.version == "1.0.0"


async def test_a_list_looks_at_everything(host: Host) -> None:
    host.install("a")
    host.install("b")
    host.describe("a")
    host.describe("b")
    host.describe("gone")
    catalog = host.catalog()
    async with trio.open_nursery() as nursery:

        async def say() -> None:
            await host.say("version 1")
            await host.say("version 1")

        nursery.start_soon(say)
        infos = await catalog.infos()
    assert [(info.language, info.version) for info in infos] == [("a", "1.0.0"), ("b", "1.0.0")]
    host.install("a", "new")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.say, "version 2")
        infos = await catalog.infos()
    assert [info.version for info in infos] == ["2.0.0", "1.0.0"]


async def test_files_come_and_go(host: Host) -> None:
    host.install("tool")
    catalog = host.catalog()
    await unknown(catalog, "tool")
    path = host.describe("tool")
    await found(host, catalog, "tool", "version 1")
    await unknown(catalog, "t")
    host.describe("tool", top='aliases = ["t"]')
    assert (await found(host, catalog, "t", "version 1")).runtime.aliases == ("t",)
    path.write_text("language = ")
    await unknown(catalog, "tool")
    host.describe("tool")
    await found(host, catalog, "tool", "version 1")
    path.unlink()
    await unknown(catalog, "tool")


async def test_several_files_of_one_language(host: Host) -> None:
    for number in ("1.9.0", "1.10.0", "2.0.0"):
        host.install(number)
        path = host.describe(f"tool-{number}", tool=number)
        path.write_text(path.read_text().replace(f'"tool-{number}"', '"tool"'))
    catalog = host.catalog()

    async def say_own_name() -> None:
        for _ in range(3):
            message = await host.asked()
            name = message.blob.split(b"\0-V\0")[0].rsplit(b"\0", 1)[-1].decode()[-6:]
            number = next(n for n in ("1.9.0", "1.10.0", "2.0.0") if name.endswith(n))
            host.peer.result(message.fields["job_id"], f"version {number}".encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_own_name)
        assert (await ask(catalog, "tool")).runtime.version == "2.0.0"
    for range_, version in (("1.x", "1.10.0"), ("~1.9", "1.9.0"), ("<2", "1.10.0"), ("2", "2.0.0")):
        assert (await ask(catalog, "tool", range_)).runtime.version == version
    await unknown(catalog, "tool", "3")


class Packages:
    """Some installed packages."""

    def __init__(self, *versions: str) -> None:
        self.versions = versions

    def runtimes(self) -> Iterable[Runtime]:
        for version in self.versions:
            yield from_package(
                language="tool", version=version, directory=f"/p/{version}", compiled=True, env={},
                aliases=("pkg",),
            )  # fmt: skip


async def test_packages_beside_files(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    packages = Packages("1.0.0", "3.0.0")
    catalog.add_provider(packages)
    assert (await found(host, catalog, "tool", "version 1")).runtime.version == "3.0.0"
    same = await ask(catalog, "tool", "1")
    assert same.runtime.package  # Who installed one wants it.
    assert (await ask(catalog, "pkg", "*")).runtime.version == "3.0.0"
    packages.versions = ()
    catalog.provided()
    assert not (await ask(catalog, "tool")).runtime.package
    await unknown(catalog, "pkg")
    infos = await catalog.infos()
    assert [(info.version, info.package) for info in infos] == [("1.0.0", False)]


async def test_an_environment(host: Host, tmp_path: Path) -> None:
    """Its tools are looked at by running them: what it holds never changes."""
    host.describe("tool", top='environment = "debian"')
    catalog = host.catalog()
    await unknown(catalog, "tool")
    assert host.peer.nothing_sent()
    root = tmp_path / "root"
    root.mkdir()
    host.engine.roots.add("debian", os.open(root, os.O_PATH), (b"PATH=/opt/bin",))
    assert (await host.peer.receive()).kind == wire.MSG_ROOT
    plan = await found(host, catalog, "tool", "version 4")
    assert plan.runtime.environment == "debian"
    assert plan.run.variables["PATH"] == b"PATH=/opt/bin"
    host.engine.roots.remove("debian")
    await unknown(catalog, "tool")
    assert (await host.peer.receive()).kind == wire.MSG_UNROOT


async def test_hostile_choices_take_no_memory(host: Host) -> None:
    host.install("tool")
    host.describe("tool")
    catalog = host.catalog()
    await found(host, catalog, "tool", "version 1")
    for n in range(3000):
        assert catalog.find("tool", f"<{n + 2}") is not None
        with pytest.raises(RequestError):
            catalog.find(f"tool{n}", "*")
    assert len(catalog._chosen) <= 1024
    assert len(catalog._looked) <= 1024
