"""The kinds of load that go through the daemon's socket. Each runs once and checks its answer."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import trio

from sandboxd_client.aio import TrioClient
from soak.kinds import Kind, expect
from soak.world import WORD
from support.images import memfd
from support.programs import executable

if TYPE_CHECKING:
    from soak.world import World

MS = 1_000_000
MIB = 1024 * 1024
# Longer than anything here lasts.
FOREVER = ["sleep", "60"]
MANY = 20
HELLO_C = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
TALK = "while read line; do echo got $line; done"


class Native:
    """All of them share one connection, but for those that lose theirs."""

    def __init__(self, world: World, client: TrioClient) -> None:
        self._world = world
        self._client = client
        self._imports = 0

    def kinds(self) -> list[Kind]:
        return [
            Kind("recycled", 3.0, self.recycled),
            Kind("fresh", 1.0, self.fresh),
            Kind("files", 1.0, self.files),
            Kind("streamed", 1.0, self.streamed),
            Kind("terminal", 0.5, self.terminal),
            Kind("python", 1.0, self.python),
            Kind("compiled", 0.2, self.compiled),
            Kind("cpu limit", 0.1, self.cpu_limit),
            Kind("wall limit", 0.2, self.wall_limit),
            Kind("memory limit", 0.2, self.memory_limit),
            Kind("output limit", 0.2, self.output_limit),
            Kind("process limit", 0.1, self.process_limit),
            Kind("cancelled", 0.5, self.cancelled),
            Kind("disconnected", 0.5, self.disconnected),
            Kind("called", 3.0, self.called),
            Kind("stored", 1.0, self.stored),
            Kind("run_many", 0.1, self.run_many),
            Kind("stopped", 0.2, self.stopped),
            Kind("inputs and outputs", 0.5, self.inputs_and_outputs),
            Kind("environment", 0.5, self.environment),
            Kind("import", 0.02, self.import_and_remove),
        ]

    # -- jobs

    async def recycled(self) -> None:
        result = await self._client.run(["cat"], stdin=b"given")
        expect((result.status, result.stdout), ("ok", b"given"))

    async def fresh(self) -> None:
        result = await self._client.run(["true"], mode="fresh")
        expect(result.status, "ok")

    async def files(self) -> None:
        result = await self._client.run(
            ["sh", "-c", "cat in.txt in.txt > out.txt"],
            files={"in.txt": "twice\n"},
            collect=["*.txt"],
        )
        expect((result.files or {}).get("out.txt"), b"twice\ntwice\n")

    async def streamed(self) -> None:
        argv = ["sh", "-c", TALK]
        async with await self._client.start(argv, stream=True, stdin_stream=True) as job:
            await job.write(b"one\n")
            expect(await job.next_event(), ("stage", b"run"))
            expect(await job.next_event(), ("stdout", b"got one\n"))
            await job.close_stdin()
            expect((await job.wait()).status, "ok")

    async def terminal(self) -> None:
        argv = ["sh", "-c", "stty size"]
        window = {"rows": 11, "columns": 77}
        async with await self._client.start(argv, stream=True, tty=window) as job:  # type: ignore[arg-type]
            output = b"".join([data async for _, data in job])
            expect((output, (await job.wait()).status), (b"11 77\r\n", "ok"))

    async def python(self) -> None:
        result = await self._client.execute("python", ["print(6 * 7)"])
        run = result.run
        expect(run and (run.status, run.stdout), ("ok", b"42\n"))

    async def compiled(self) -> None:
        result = await self._client.execute("c", [HELLO_C])
        run = result.run
        expect(run and (run.status, run.stdout), ("ok", b"hello\n"))

    # -- limits that are hit

    async def cpu_limit(self) -> None:
        await self._limited(
            "cpu_time_limit", ["sh", "-c", "while :; do :; done"], cpu_time_ns=50 * MS
        )

    async def wall_limit(self) -> None:
        await self._limited("wall_time_limit", FOREVER, wall_time_ns=50 * MS)

    async def memory_limit(self) -> None:
        argv = ["./touch_memory", str(64 * MIB)]
        files = executable("touch_memory")
        await self._limited("memory_limit", argv, files=files, memory_bytes=16 * MIB)

    async def output_limit(self) -> None:
        await self._limited("output_limit", ["yes"], output_bytes=65536)

    async def process_limit(self) -> None:
        script = "for i in 1 2 3 4 5 6; do sleep 0.01 & done; wait"
        result = await self._client.run(["sh", "-c", script], limits={"processes": 4})
        expect(result.status, "nonzero_exit")

    async def _limited(self, status: str, argv: list[str], **options: Any) -> None:
        files = options.pop("files", {})
        result = await self._client.run(argv, files=files, limits=options)  # type: ignore[arg-type]
        expect(result.status, status)

    # -- clients that do not wait

    async def cancelled(self) -> None:
        async with await self._client.start(FOREVER) as job:
            await trio.sleep(0.02)
            await job.cancel()
            expect((await job.wait()).status, "cancelled")

    async def disconnected(self) -> None:
        async with await TrioClient.connect(self._world.daemon.socket) as client:
            await client.start(FOREVER, stream=True)

    # -- functions

    async def called(self) -> None:
        answer = await self._client.call_function("echo", {"n": 1})
        expect(json.loads(answer["result"] or "null"), [{"n": 1}, WORD])

    async def stored(self) -> None:
        row = await self._client.run_function("echo", {"n": 2}, wait=True)
        expect(json.loads(row["result"] or "null"), [{"n": 2}, WORD])

    async def run_many(self) -> None:
        calls = list(range(MANY))
        ids = (await self._client.run_function_many("echo", calls))["ids"]
        for id in ids:
            await self._client.wait_execution(id)
        rows = (await self._client.executions_by_id(ids))["executions"]
        expect([json.loads(row["result"])[0] for row in rows], calls)

    async def stopped(self) -> None:
        row = await self._client.run_function("sleeper")
        await trio.sleep(0.05)
        row = await self._client.stop_execution(row["id"])
        expect((row["status"], row["end_reason"]), ("ended", "stopped"))

    async def inputs_and_outputs(self) -> None:
        client = self._client
        # Each has a content of its own, which has to go with it.
        data = os.urandom(512)
        id = (await client.create_execution("copy"))["id"]
        await client.upload_input(id, "in", data)
        await client.start_execution(id)
        row = await client.wait_execution(id, log=True)
        expect((row["end_reason"], row["log"]), ("normal", b"copied\n"))
        expect((await client.execution_output(id, "out"))["data"], data)
        await client.delete_execution(id)

    # -- environments

    async def environment(self) -> None:
        result = await self._client.run(
            ["/bin/exit_code", "7"], environment=self._world.environment
        )  # type: ignore[call-arg]
        expect(result.exit_code, 7)

    async def import_and_remove(self) -> None:
        self._imports += 1
        name = f"soak-{self._imports}"
        fd = memfd(self._world.archive)
        try:
            await self._client.import_environment(name, fd)
        finally:
            os.close(fd)
        result = await self._client.run(["/bin/exit_code", "3"], environment=name)  # type: ignore[call-arg]
        await self._client.remove_environment(name)
        expect(result.exit_code, 3)
