"""Function configuration files: what they stand for, and which key is wrong."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from sandboxctl.function_file import BadFunctionFile, read_function_file

if TYPE_CHECKING:
    from pathlib import Path

TSP = """
id = "tsp"
author = "joe"
title = "Shortest tour"
command = "python3 tsp.py 'coords.txt'"
files = "src"

[env]
TZ = "UTC"

[[input]]
id = "coords"
path = "coords.txt"
name = "Coordinates"

[[input]]
id = "options"
path = "options.json"
required = false

[[output]]
id = "result"
path = "out/result.json"

[limits]
memory = "256M"
wall_time = "1.5s"
cpu_time_ns = 1_000_000_000
processes = 4

[metadata]
version = 3
"""


def of(tmp_path: Path, text: str, name: str = "function.toml") -> dict[str, Any]:
    path = tmp_path / name
    path.write_text(text)
    return read_function_file(str(path))


def test_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "src" / "lib" / "__pycache__").mkdir(parents=True)
    (tmp_path / "src" / "tsp.py").write_text("print()")
    (tmp_path / "src" / "lib" / "a.so").write_bytes(b"\x00\xff")
    (tmp_path / "src" / "lib" / "a.so").chmod(0o700)
    (tmp_path / "src" / "lib" / "__pycache__" / "x.pyc").write_bytes(b"")
    assert of(tmp_path, TSP) == {
        "name": "tsp",
        "space": "joe",
        "kind": "program",
        "command": ["python3", "tsp.py", "coords.txt"],
        "env": {"TZ": "UTC"},
        "inputs": [
            {"id": "coords", "path": "coords.txt", "name": "Coordinates"},
            {"id": "options", "path": "options.json", "required": False},
        ],
        "outputs": [{"id": "result", "path": "out/result.json"}],
        "limits": {
            "memory_bytes": 256 * 1024**2,
            "wall_time_ns": 1_500_000_000,
            "cpu_time_ns": 1_000_000_000,
            "processes": 4,
        },
        "metadata": {"version": 3, "title": "Shortest tour"},
        "files": [
            {"path": "lib/a.so", "data": b"\x00\xff", "mode": 0o755},
            {"path": "tsp.py", "data": b"print()", "mode": 0o644},
        ],
    }


def test_json_says_the_same(tmp_path: Path) -> None:
    text = json.dumps({"id": "f", "command": ["./run"], "output": {"result": "r.txt"}})
    assert of(tmp_path, text, "function.json") == {
        "name": "f",
        "kind": "program",
        "command": ["./run"],
        "outputs": [{"id": "result", "path": "r.txt"}],
    }


@pytest.mark.parametrize(("language", "kind"), [("", "python"), ('language = "ruby"\n', "json")])
def test_code_in_a_file_beside_it(tmp_path: Path, language: str, kind: str) -> None:
    (tmp_path / "code").write_text("def main(args, context): pass")
    text = f'{language}code = "code"\n[context]\ntoken = "x"\nlimits = [1, 2]\n'
    found = of(tmp_path, text)
    assert (found["kind"], found["code"]) == (kind, "def main(args, context): pass")
    assert found["context"] == {"token": "x", "limits": [1, 2]}


def test_listed_files_and_not_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("b")
    (tmp_path / "c").write_text("c")
    assert [f["path"] for f in of(tmp_path, 'command="x"\nfiles=["a/b.txt"]')["files"]] == [
        "a/b.txt"
    ]
    found = of(tmp_path, 'command="x"\nfiles="."')
    assert [f["path"] for f in found["files"]] == ["a/b.txt", "c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "command: is missing"),
        ("command = ", "neither TOML nor JSON"),
        ('{"command": ["a"], }', "neither TOML nor JSON"),
        ("[" * 100_000, "neither TOML nor JSON"),
        ('{"a":' * 100_000, "neither TOML nor JSON"),
        ("command = []", "command: must not be empty"),
        ("command = [1]", "command[0]: must be text, not 1"),
        ('command = "python3 \'x"', "command: No closing quotation"),
        ('command = "x"\ncode = "y"', "code: there is a command already"),
        ('code = "nosuch.py"', "nosuch.py: No such file"),
        ('code = "."', "Is a directory"),
        ('command = "x"\nid = "a"\nname = "b"', "id: means the same as name"),
        ('command = "x"\nname = 7', "name: must be text, not 7"),
        ('command = "x"\ninputs = 1', "inputs: must be a list"),
        ('command = "x"\n[[input]]\nid = "a"', "inputs[0].path: is missing"),
        ('command = "x"\n[[input]]\nid="a"\npath="b"\nsize=1', "inputs[0].size: is not known"),
        ('command = "x"\n[[input]]\nid="a"\npath="b"\nrequired="no"', "inputs[0].required"),
        ('command = "x"\n[[output]]\nid="a"\npath="b"\nrequired=true', "outputs[0].required"),
        ('command="x"\n[[input]]\nid="a"\npath="b"\n[[input]]\nid="a"\npath="c"', "inputs: there"),
        ('command = "x"\n[limits]\nmemory = "lots"', "limits.memory: 'lots' is not a size"),
        ('command = "x"\n[limits]\nmemory = -1', "limits.memory_bytes: must be a whole number"),
        ('command = "x"\n[limits]\nmemory="1M"\nmemory_bytes=1', "limits.memory: means the same"),
        ('command = "x"\n[limits]\ntime = 1', "limits.time: is not known"),
        ('command = "x"\n[env]\nA = 1', "env.A: must be text"),
        ('command = "x"\n[metadata]\nday = 2026-01-31', "metadata.day: must be what JSON has"),
        ('command = "x"\n[context]\nx = nan', "context.x: must be what JSON has"),
        ('command = "x"\nfiles = "nosuch"', "files: "),
        ('command = "x"\nfiles = ["nosuch"]', "files: nosuch: "),
        ('command = "x"\ncomand = "y"', "comand: is not known; there are author, "),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadFunctionFile) as caught:
        of(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/function.toml: ")
    assert words in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadFunctionFile, match="No such file"):
        read_function_file(str(tmp_path / "nothing"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFunctionFile, match="neither TOML nor JSON"):
        read_function_file(str(tmp_path / "binary"))


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    os.symlink("/etc/passwd", source / "link")
    with pytest.raises(BadFunctionFile, match="link is a symbolic link"):
        of(tmp_path, 'command = "x"\nfiles = "src"')
    (source / "link").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(BadFunctionFile, match="not a regular file"):
        of(tmp_path, 'command = "x"\nfiles = "src"')
    (source / "pipe").unlink()
    os.close(os.open(os.fsencode(source) + b"/\xff", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(BadFunctionFile, match="cannot be used"):
        of(tmp_path, 'command = "x"\nfiles = "src"')


def test_more_than_a_message_takes(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(60 * 1024**2 + 1)
    with pytest.raises(BadFunctionFile, match="files: large: too large"):
        of(tmp_path, 'command = "x"\nfiles = ["large"]')
