"""FaaSpot's own clients, unmodified from their registry, against a running gateway.

Both are of 2017. Their library runs on every Python. Their command `fas` runs as it is on Python
2.7 and, without its tables, up to 3.6: it calls `namedtuple(..., verbose=False)`, which Python 3.7
took away, and `basestring`, which Python 3 never had. On later ones it runs here with these two put
back into Python; nothing of the client is changed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compat.faaspot import Faaspot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compat.gateway import Gateway
    from sandboxd_client import Client

INSTALL_TIMEOUT_S = 240
# The versions that its setup.py names do not work on Python 3.10 and later.
MODERN = ("PyYAML==5.3.1", "requests<3", "retrying<1.4", "future>=1", "six", "prettytable<1",
          "argcomplete<4", "setuptools<81")  # fmt: skip
TAKEN_AWAY = """
import builtins, collections
builtins.basestring = str
_namedtuple = collections.namedtuple
def namedtuple(*args, verbose=False, **options):
    return _namedtuple(*args, **options)
collections.namedtuple = namedtuple
"""
HELLO = """
# -*- coding: utf-8 -*-
def main(args, context):
    return 'Hello {0}'.format(args['name']) + context.get('mark', '')
"""
SCRIPT = """
from __future__ import print_function
import json, sys
from faaspot import Faaspot

faaspot = Faaspot()
name, path, context_path = sys.argv[1:]
found = {}
found["create"] = faaspot.functions.create(name, file=path, context_file=context_path, wait=True)
found["list"] = faaspot.functions.list()
found["get"] = faaspot.functions.get(name)
found["run"] = faaspot.functions.run(name, {'name': 'user1'}, wait=True)
execution_id = faaspot.functions.run(name, {'name': 'user2'})
found["status"] = faaspot.executions.get(execution_id)['status']
found["waited"] = faaspot.executions.get(execution_id, wait=True)
args_list = [{'name': 'v1', 'k2': 'v2'}, {'name': 'v3', 'k4': 'v4'}]
id_list = faaspot.functions.run_bulk(name, args_list)
for execution_id in id_list:
    faaspot.executions.get(execution_id, wait=True)
found["bulk"] = [execution['output'] for execution in faaspot.executions.get_bulk(id_list)]
found["running"] = faaspot.executions.list()
found["executions"] = len(faaspot.executions.list(include_completed=True))
found["cancelled"] = faaspot.executions.cancel(execution_id)
found["spots"] = faaspot.spots.list()
found["update"] = faaspot.functions.update(name, new_name='new.py', wait=True)
for what, call in {
    "missing": lambda: faaspot.functions.get('no.py'),
    "failed": lambda: faaspot.functions.run('new.py', {}, wait=True),
    "taken": lambda: faaspot.functions.create('new.py', file=path),
    "add": lambda: faaspot.spots.add(),
}.items():
    try:
        found[what] = repr(call())
    except Exception as error:  # Its `str` needs Python 2.
        found[what] = "{0}: {1}".format(error.status_code, error.args[0])
        found[what + "_traceback"] = getattr(error, "server_traceback", None)
found["delete"] = faaspot.functions.delete('new.py', wait=True)
found["profile"] = list(faaspot.profiles.current())
print()
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Installed:
    """A client for one Python."""

    python: str
    directory: Path
    old: bool
    """The Python is one of those that it was written for."""


def _interpreter(version: str) -> str:
    """An old Python, from the path or from pyenv. Skips where there is none."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path) for path in sorted(root.glob(f"{version}.*/bin/python{version}"))]
    usual = shutil.which(f"python{version}")
    for python in (*found, *([usual] if usual else [])):
        if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"there is no Python {version} with pip")


def _install(python: str, target: Path, *packages: str) -> None:
    """Skip, with the reason, where the registry cannot be reached."""
    argv = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*argv, "--target", str(target), *packages],
            capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip(f"pip took longer than {INSTALL_TIMEOUT_S} s")
    if done.returncode != 0:
        pytest.skip(f"pip: {done.stderr.strip()[-300:]}")


@pytest.fixture(
    scope="module", params=["fas==0.1.5", "faaspot==0.1.6"], ids=["fas-0.1.5", "faaspot-0.1.6"]
)
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["2.7", "3.6", "this"], ids="python-{}".format)
def installed(request: pytest.FixtureRequest, package: str, pytestconfig: Any) -> Installed:
    """The client and what it needs, kept from one run of the tests to the next."""
    old = request.param != "this"
    version = request.param if old else "{}.{}".format(*sys.version_info[:2])
    python = _interpreter(version) if old else sys.executable
    directory = Path(pytestconfig.cache.mkdir("faaspot")) / f"{package}-{version}"
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        if old:
            _install(python, directory, package)
        else:
            _install(python, directory, "--no-deps", "--use-pep517", package)
            _install(python, directory, "--use-pep517", *MODERN)
        (directory / "complete").touch()
    return Installed(python, directory, old)


@pytest.fixture
def faaspot(gateway: Gateway, client: Client) -> Iterator[Faaspot]:
    faaspot = Faaspot(gateway, client)
    yield faaspot
    faaspot.clean()
    faaspot.close()


@pytest.fixture
def environment(faaspot: Faaspot, installed: Installed, tmp_path: Path) -> dict[str, str]:
    """With a profile that leads to the gateway."""
    profile = {"host": "127.0.0.1", "port": faaspot.gateway.port, "protocol": "http",
               "application": "shop", "token": faaspot.key}  # fmt: skip
    settings = {"faaspot": {"profile": "here", "profiles": {"here": profile}}}
    (tmp_path / "fasconf.yaml").write_text(json.dumps(settings))
    (tmp_path / "hello.py").write_text(HELLO)
    (tmp_path / "context").write_text('mark = "!"\n')
    return {
        "FAASPOT_DIR": str(tmp_path),
        "PATH": f"{installed.directory}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(installed.directory),
        "PYTHONWARNINGS": "ignore",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }


def _run(argv: list[str], environment: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=100, env=environment, cwd=cwd, check=False
    )
    assert done.returncode == 0, done
    return done.stdout


def test_the_library(
    installed: Installed, environment: dict[str, str], package: str, tmp_path: Path
) -> None:
    argv = [installed.python, "-c", SCRIPT, "hello.py", "hello.py", "context"]
    found = json.loads(_run(argv, environment, tmp_path).splitlines()[-1])
    application = "shop" if package.startswith("faaspot") else "main"
    assert found["create"] == "function hello.py created"
    assert [(f["name"], f["application"]) for f in found["list"]] == [("hello.py", application)]
    assert found["get"]["code"] == HELLO
    assert found["run"] == "Hello user1!"
    assert found["status"] in ("Pending", "Started", "Success")
    assert found["waited"] == "Hello user2!"
    assert found["bulk"] == ["Hello v1!", "Hello v3!"]
    assert found["running"] == []
    assert found["executions"] == 3
    assert found["cancelled"]["status"] == "Success"
    assert [spot["ip"] for spot in found["spots"]] == ["127.0.0.1"]
    assert found["update"] == "function hello.py updated"
    assert found["missing"].startswith("404: ")
    assert re.match(r"422: KeyError: 'name'", found["failed"])
    assert "args['name']" in found["failed_traceback"]
    assert found["taken"].startswith("409: ")
    assert found["add"].startswith("403: all functions run on this host")
    assert found["delete"] == "function hello.py deleted".replace("hello", "new")
    assert found["profile"] == ["here"]


def test_a_profile_with_a_password(
    installed: Installed, environment: dict[str, str], faaspot: Faaspot, tmp_path: Path
) -> None:
    """Python 3 makes `Basic b'…'` of it."""
    config = tmp_path / "fasconf.yaml"
    text = config.read_text()
    assert f'"token": "{faaspot.key}"' in text
    password = f'"username": "somebody", "password": "{faaspot.key}"'
    config.write_text(text.replace(f'"token": "{faaspot.key}"', password))
    script = "from faaspot import Faaspot; print(Faaspot().functions.list())"
    assert _run([installed.python, "-c", script], environment, tmp_path) == "[]\n"


def test_the_command(
    installed: Installed, environment: dict[str, str], faaspot: Faaspot, tmp_path: Path
) -> None:
    python = shlex.quote(installed.python)
    if not installed.old:
        argv = [installed.python, "-c", "from fas.main import main; main()", "functions", "list"]
        alone = subprocess.run(argv, capture_output=True, env=environment, check=False)
        assert b"TypeError: namedtuple() got an unexpected keyword" in alone.stderr
        (tmp_path / "put_back").mkdir()
        (tmp_path / "put_back" / "sitecustomize.py").write_text(TAKEN_AWAY)
        environment["PYTHONPATH"] += f":{tmp_path / 'put_back'}"
    (tmp_path / "fas").write_text(
        f'#!/bin/sh\nexec {python} -c "from fas.main import main; main()" "$@"\n'
    )
    (tmp_path / "fas").chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    typed = """
        fas functions create hello.py --file hello.py --context-file context --wait
        fas functions run hello.py --parameters "name=user1" --wait
        UUID=`fas functions run hello.py --parameters "name=user1"`
        fas executions get $UUID --wait
        fas executions get $UUID
        fas functions get hello.py
        fas functions run_bulk hello.py -p "name=v1, k2=v2" -p "name=v3, k4=v4"
        fas functions update hello.py --new-name other.py --wait
        fas functions delete other.py
    """
    out = _run(["bash", "-c", typed], environment, tmp_path)
    assert "function hello.py created\n" in out
    assert out.count("Hello user1!\n") == 2
    assert re.search(r"'status': u?'Success'", out)
    assert HELLO in out
    assert re.search(r"\[\s*u?'[0-9a-f-]{36}',\s+u?'[0-9a-f-]{36}'\]", out)
    assert "function hello.py updated\n" in out
    assert "function other.py deleted" in out
    if not installed.python.endswith("3.6"):  # Its tables need `basestring`.
        typed = "fas nodes list; fas executions list --include_completed; fas functions list"
        done = subprocess.run(
            ["bash", "-c", typed], capture_output=True, text=True, env=environment, check=True
        )
        assert "127.0.0.1" in done.stderr
        assert "Hello v3!" in done.stderr, done.stderr
