"""docs/functions.md: what it tells people who come from elsewhere to type, typed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compat.gateway import running
from compat.pifop import serving
from support.daemon import running as running_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

PAGE = Path(__file__).resolve().parents[2] / "docs" / "functions.md"


class Shell:
    """Runs lines of the page, one after the other, with what the earlier ones have set."""

    def __init__(self, directory: Path, socket: str) -> None:
        self.directory = directory
        self.variables: dict[str, str] = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "SANDBOXD_SOCKET": socket,
        }

    def __call__(self, line: str) -> str:
        name, equals, _ = line.partition("=")
        if not (equals and name.isupper()):
            return self._run(line)
        self.variables[name] = self._run(f'{line}; printf %s "${name}"')
        return ""

    def _run(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.directory, env=self.variables, text=True, check=False,
            capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def json(self, line: str) -> Any:
        return json.loads(self(line))


def blocks(section: str, kind: str) -> list[str]:
    """Blocks of code of a section."""
    text = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    assert found, (section, kind)
    return found


@pytest.fixture(scope="module")
def daemon(require_sandbox: None) -> Iterator[Daemon]:
    with running_daemon(jobs=2) as daemon:
        yield daemon


def test_coming_from_pifop(daemon: Daemon, tmp_path: Path) -> None:
    section = "Coming from PIFOP"
    (tmp_path / "tsp").mkdir()
    (tmp_path / "tsp" / "function.toml").write_text(blocks(section, "toml")[0])
    (tmp_path / "tsp" / "tsp.py").write_text(blocks(section, "python")[0])
    shell = Shell(tmp_path, daemon.socket)
    store, use = blocks(section, "sh")
    create, master, serve = store.splitlines()
    assert shell(create) == "joe/tsp created\n"
    shell(master)
    assert shell.variables["MASTER"].startswith("master_")
    assert serve == "sandboxd-rest --dev-tls --bind localhost:3445 &"
    with serving(daemon.socket, tmp_path, bind=["localhost:0"]) as gateway:
        url, key, new, upload, start, info, output, end = (
            line.replace("localhost:3445", f"localhost:{gateway.port}") for line in use.splitlines()
        )
        shell(url)
        shell.variables["KEY"] = shell.json(key)["key"]
        shell.variables["ID"] = shell.json(new)["id"]
        assert shell.json(upload)["id"] == "coords"
        shell.json(start)
        while (state := shell.json(info))["status"] != "ended":
            assert state["status"] == "running"
        assert (state["end_reason"], state["log"]) == ("normal", "3 numbers\n")
        assert shell.json(output) == {"tour": [145, 150, 254]}
        assert shell.json(end)["id"] == shell.variables["ID"]


def test_coming_from_faaspot(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("def main(args, context):\n    return [args, context]\n")
    (tmp_path / "secrets").write_text('access_key_is = "XYZ"\n')
    shell = Shell(tmp_path, daemon.socket)
    create, run, begin, get, bulk = blocks("Coming from FaaSpot", "sh")[0].splitlines()
    assert shell(create) == "hello created\n"
    assert json.loads(shell(run)) == [{"name": "user1"}, {"access_key_is": "XYZ"}]
    shell(begin)
    assert shell.variables["UUID"]
    assert shell.variables["UUID"].strip() in shell(get)
    assert len(shell(bulk).split()) == 2


def test_coming_from_pythia(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "hello-world" / "task").mkdir(parents=True)
    (tmp_path / "hello-world" / "task" / "control").write_text("/bin/echo hello\n")
    (tmp_path / "hello-world" / "function.toml").write_text(blocks("Coming from Pythia", "toml")[0])
    shell = Shell(tmp_path, daemon.socket)
    create, execute = blocks("Coming from Pythia", "sh")[0].splitlines()
    assert shell(create) == "tasks/hello-world created\n"
    with running(daemon.socket) as gateway:
        found = shell.json(execute.replace("127.0.0.1:2000", f"127.0.0.1:{gateway.port}"))
        assert (found["status"], found["output"]) == ("success", "hello\n")
