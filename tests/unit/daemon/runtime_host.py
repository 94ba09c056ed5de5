"""A host with tools, for the catalog of runtimes; what the tools say is said by the test."""

from pathlib import Path

from engine_peer import Message, Peer

from sandboxd.config import Config
from sandboxd.engine import wire
from sandboxd.engine.jobs import Engine
from sandboxd.runtimes import inside
from sandboxd.runtimes.cache import Cache
from sandboxd.runtimes.catalog import Catalog
from sandboxd.runtimes.loader import Sources


class Host:
    """A host with runtime files and tools in directories of the test's."""

    def __init__(self, directory: Path, config: Config, engine: Engine, peer: Peer) -> None:
        self.directory = directory / "runtimes"
        self.directory.mkdir()
        self.builtin = directory / "builtin"
        self.builtin.mkdir()
        self.tools = directory / "tools"
        self.tools.mkdir()
        self.state = directory
        self.config = config
        self.engine = engine
        self.peer = peer

    def catalog(self) -> Catalog:
        sources = Sources(str(self.directory), self.builtin)
        return Catalog(self.config, self.engine, sources, Cache(str(self.state), writable=True))

    def install(self, name: str, content: str = "1") -> Path:
        """A tool is there from now on, or is another one."""
        new = self.tools / f"{name}.new"
        new.write_text(content)
        new.rename(self.tools / name)
        return self.tools / name

    def describe(self, name: str, tool: str = "", more: str = "", top: str = "") -> Path:
        path = self.directory / f"{name}.toml"
        path.write_text(
            f'language = "{name}"\n{top}\n[version]\nprograms = ["{self.tools / (tool or name)}"]\n'
            f'command = ["{tool or name}", "-V"]\npattern = "version ([0-9.]+)"\n{more}\n'
            f'[run]\ncommand = ["{tool or name}", "{{main}}"]\n'
        )
        return path

    async def asked(self) -> Message:
        """The job that finds out a version."""
        message = await self.peer.receive()
        assert message.kind == wire.MSG_JOB
        assert message.fields["tenant"] == inside.TENANT
        return message

    async def say(self, text: str) -> None:
        """A tool says this when it is asked."""
        message = await self.asked()
        self.peer.result(message.fields["job_id"], text.encode())
