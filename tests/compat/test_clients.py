"""Clients of Piston that others wrote, as their registries have them, against a running gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from compat.gateway import Gateway

INSTALL_TIMEOUT_S = 90

NPM = """
import piston from "piston-client";
const client = piston({ server: process.argv[2] });
const found = {};
found.runtimes = await client.runtimes();
found.simple = await client.execute("python", "import sys; print('hello', sys.argv[1:])");
found.full = await client.execute({
  language: "c",
  files: [{ name: "m.c", content: '#include <stdio.h>\\nint main(int n, char **a)'
    + '{ char b[9]; scanf("%8s", b); printf("%s %s", a[1], b); return 3; }' }],
  stdin: "in", args: ["arg"], compileTimeout: 9000, runTimeout: 2000,
});
found.refused = await client.execute("python", "", { version: "1.x" });
console.log(JSON.stringify(found));
"""

PYPI = """
import asyncio, json, sys, warnings
from pyston import File, PystonClient
from pyston.exceptions import ExecutionError

async def main():
    client = PystonClient(base_url=sys.argv[1])
    found = {"languages": sorted(await client.languages())}
    output = await client.execute("python", [File("print(input(), *__import__('sys').argv[1:])")],
                                  stdin="in", args=["a", "b"])
    found["output"] = str(output)
    found["version"] = output.version
    found["code"] = output.run_stage.code
    output = await client.execute("c", [File("int main(void) { return 4; }", "m.c")])
    found["compiled"] = [output.compile_stage.code, output.run_stage.code]
    try:
        await client.execute("python", [File("")], version="1.x")
    except ExecutionError as error:
        found["refused"] = str(error)
    await client.close_session()
    print(json.dumps(found))

asyncio.run(main())
"""


def _installed(argv: list[str], **options: Any) -> None:
    """Skip, with the reason, where the registry cannot be reached."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False, **options
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{argv[0]} took longer than {INSTALL_TIMEOUT_S} s")
    if done.returncode != 0:
        pytest.skip(f"{argv[0]}: {(done.stderr.strip() or done.stdout.strip())[-300:]}")


def test_piston_client_of_npm(gateway: Gateway, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(tmp_path)]
    _installed([npm, "install", *options, "piston-client@1.0.2"], env=_home(tmp_path))
    script = tmp_path / "script.mjs"
    script.write_text(NPM)
    done = subprocess.run(
        ["node", str(script), gateway.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=_home(tmp_path),
    )
    found = json.loads(done.stdout)
    assert found["runtimes"] == gateway.get("/api/v2/runtimes").json
    assert found["simple"]["run"]["stdout"] == "hello ['1', '2', '3']\n"
    assert found["full"]["compile"]["code"] == 0
    assert (found["full"]["run"]["stdout"], found["full"]["run"]["code"]) == ("arg in", 3)
    assert found["refused"] == {"message": "python-1.x runtime is unknown"}


@pytest.mark.parametrize("base", ["/api/v2/", "/api/v2/piston/"])
def test_aiopyston_of_pypi(gateway: Gateway, pypi: Path, base: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PYPI, gateway.url + base],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(pypi)},
    )
    found = json.loads(done.stdout)
    runtimes = gateway.get("/api/v2/runtimes").json
    assert found["languages"] == sorted({runtime["language"] for runtime in runtimes})
    version = next(r["version"] for r in runtimes if r["language"] == "python")
    assert (found["output"], found["version"], found["code"]) == ("in a b\n", version, 0)
    assert found["compiled"] == [0, 4]
    assert found["refused"] == "python-1.x runtime is unknown"


@pytest.fixture(scope="module")
def pypi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with aiopyston and what it needs."""
    target = tmp_path_factory.mktemp("pypi")
    options = ["--quiet", "--disable-pip-version-check", "--use-pep517", "--target", str(target)]
    _installed([sys.executable, "-m", "pip", "install", *options, "aiopyston==1.2.1"])
    return target


def _home(directory: Path) -> dict[str, str]:
    """npm keeps its cache and logs below HOME."""
    return {**os.environ, "npm_config_cache": str(directory / "cache")}
