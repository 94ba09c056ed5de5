"""What can be typed, in tables; help and completions are made from the same options."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandboxctl import completion, units
from sandboxctl.__main__ import main
from sandboxctl.commands import TOP, leaves, parse
from sandboxctl.help import help_text
from sandboxctl.options import CommandSpec, UsageError
from sandboxctl.run import job_params
from support.world import World

MIB = 1024 * 1024

PARSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "program": ("run true", {}, ["true"]),
    "dashes": ("run -- true", {}, ["true"]),
    "program's options": ("run ls -l --memory", {}, ["ls", "-l", "--memory"]),
    "program after dashes": ("run -- --odd-name -x", {}, ["--odd-name", "-x"]),
    "second dashes are the program's": ("run -- sh -- x", {}, ["sh", "--", "x"]),
    "size": ("run --memory 64M x", {"--memory": 64 * MIB}, ["x"]),
    "equals": ("run --memory=64M x", {"--memory": 64 * MIB}, ["x"]),
    "value with equals": ("run --file=a=b x", {"--file": ["a=b"]}, ["x"]),
    "empty value": ("run --cwd= x", {"--cwd": ""}, ["x"]),
    "time": ("run --wall-time 250ms x", {"--wall-time": 250_000_000}, ["x"]),
    "count": ("run --processes 16 x", {"--processes": 16}, ["x"]),
    "repeated": ("run --env A=1 --env B=2 x", {"--env": ["A=1", "B=2"]}, ["x"]),
    "value like an option": ("run --env --json x", {"--env": ["--json"]}, ["x"]),
    "choice": ("run --network loopback x", {"--network": "loopback"}, ["x"]),
    "switch": ("run --json --tty x", {"--json": True, "--tty": True}, ["x"]),
    "lone dash": ("run - x", {}, ["-", "x"]),
    "global": ("--socket /s run x", {"--socket": "/s"}, ["x"]),
    "own wins": ("--socket /s run --socket /t x", {"--socket": "/t"}, ["x"]),
    "status": ("status --json", {"--json": True}, []),
    "check": ("check --socket /s", {"--socket": "/s"}, []),
    "completion": ("completion zsh", {}, ["zsh"]),
    "help": ("run --help", {"--help": True}, []),
    "short help": ("run -h", {"--help": True}, []),
    "execute": ("execute c a.c", {}, ["c", "a.c"]),
    "source from stdin": ("execute c -", {}, ["c", "-"]),
    "what follows the file is the program's": (
        "execute --json c a.c -- --memory --json x",
        {"--json": True},
        ["c", "a.c", "--", "--memory", "--json", "x"],
    ),
    "options of ours stand before the file": (
        "execute c --memory 64M a.c --memory 1",
        {"--memory": 64 * MIB},
        ["c", "a.c", "--memory", "1"],
    ),
    "a file with an odd name": ("execute --json -- c -a.c", {"--json": True}, ["c", "-a.c"]),
    "interactive": ("execute -i c a.c", {"--interactive": True}, ["c", "a.c"]),
    "compile": (
        "execute --compile-time 2s --compile-memory 1G c a.c",
        {"--compile-time": 2 * 10**9, "--compile-memory": 2**30},
        ["c", "a.c"],
    ),
    "options between words": (
        "packages install lua --index http://x dash -q",
        {"--index": "http://x", "--quiet": True},
        ["lua", "dash"],
    ),
    "option of a group": ("packages --socket /s list", {"--socket": "/s"}, []),
    "short with value": ("packages build d -o f", {"--output": "f"}, ["d"]),
    "two words": ("environments import a -", {}, ["a", "-"]),
    "help of a group": ("packages --help", {"--help": True}, []),
    "a group alone": ("packages", {}, []),
}


@pytest.mark.parametrize(("line", "values", "args"), PARSED.values(), ids=PARSED.keys())
def test_parsed(line: str, values: dict[str, Any], args: list[str]) -> None:
    command = parse(line.split(" "))
    assert command.values == values
    assert list(command.args) == args


REFUSED = {
    "run": "which program?",
    "run --": "which program?",
    "run --memory 64M": "which program?",
    "run --memroy 64M x": "unknown option '--memroy'; did you mean --memory?",
    "run --xyzzy x": "unknown option '--xyzzy'; see sandboxctl --help",
    "run -m 64M x": "unknown option '-m'",
    "run --memory": "--memory needs a value: --memory SIZE",
    "run --memory 64Q x": "--memory: '64Q' is not a size such as 64M",
    "run --memory 64M --memory 65M x": "--memory was given twice",
    "run --wall-time soon x": "--wall-time: 'soon' is not a time such as 1s, 250ms or 2m",
    "run --processes 0 x": "--processes: '0' is not a whole number such as 16, at least 1",
    "run --processes 1.5 x": "--processes: '1.5' is not a whole number such as 16",
    "run --processes -1 x": "--processes: '-1' is not a whole number such as 16",
    "run --network host x": "--network: 'host' is not none or loopback",
    "run --json=1 x": "--json takes no value",
    "rnu x": "unknown command 'rnu'; did you mean run?",
    "status now": "status takes no argument, not 'now'",
    "completion": "completion needs one of: bash, zsh, fish",
    "completion tcsh": "completion needs one of: bash, zsh, fish",
    "execute c": "which language, and which file? sandboxctl execute [OPTIONS] LANGUAGE[=VERSION]",
    "execute --compile-time soon c a.c": "--compile-time: 'soon' is not a time such as 1s",
    "packages isntall lua": "unknown command 'isntall'; did you mean install?",
    "packages xyzzy": "unknown command 'xyzzy'; see sandboxctl packages --help",
    "packages install": "which package? sandboxctl packages install [OPTIONS] LANGUAGE[=RANGE] ...",
    "packages install run --memory 1": "unknown option '--memory'",
    "packages spec a b": "'b' is too much: sandboxctl packages spec [OPTIONS] FILE",
    "packages list lua": "packages list takes no argument, not 'lua'",
    "environments import a": "which name, and from where?",
    "environments remove": "which environment?",
    "--sokcet /s run x": "unknown option '--sokcet'; did you mean --socket?",
}


@pytest.mark.parametrize(("line", "why"), REFUSED.items(), ids=REFUSED.keys())
def test_refused(line: str, why: str, world: World) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line.split(" "))
    assert str(caught.value).startswith(why)
    code = main(line.split(" "), world)
    program = line.split(" ")[0] in ("run", "execute") or line.startswith("--sokcet /s run")
    assert code == (125 if program else 2)
    assert world.stderr_text == f"sandboxctl: {caught.value}\n"
    assert world.stdout_text == ""


SIZES = {
    "1": 1,
    "1048576": MIB,
    "64M": 64 * MIB,
    "64m": 64 * MIB,
    "64MB": 64 * MIB,
    "64MiB": 64 * MIB,
    "512K": 512 * 1024,
    "1.5G": 3 * 512 * MIB,
    "2t": 2 * 1024**4,
    "0.5K": 512,
    "100b": 100,
}
NO_SIZES = ["", "M", "-1", "+1", "1e3", "0", "0M", "0.3", "1.2.3", "1 M", ".", "1.", "64X", "inf",
            "nan", "٣", "9" * 40, "9000000T", "0x10", "1_000"]  # fmt: skip
TIMES = {
    "1s": 10**9,
    "250ms": 250 * 10**6,
    "1.5s": 15 * 10**8,
    "0.25": 25 * 10**7,
    "2": 2 * 10**9,
    "10us": 10_000,
    "5ns": 5,
    "2m": 120 * 10**9,
    "2min": 120 * 10**9,
    "1h": 3600 * 10**9,
}
NO_TIMES = ["", "s", "-1s", "0", "0s", "1d", "1e3s", "1:30", "0.0000000001s", "nan", "inf", "5µs"]


@pytest.mark.parametrize(("text", "value"), SIZES.items())
def test_size(text: str, value: int) -> None:
    assert units.parse_size(text) == value


@pytest.mark.parametrize("text", NO_SIZES)
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as 64M"):
        units.parse_size(text)


@pytest.mark.parametrize(("text", "value"), TIMES.items())
def test_time(text: str, value: int) -> None:
    assert units.parse_time(text) == value


@pytest.mark.parametrize("text", NO_TIMES)
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="a time such as 1s"):
        units.parse_time(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 * MIB, "64.0 MiB"), (2**41, "2.0 TiB")],
)
def test_size_for_people(size: int, text: str) -> None:
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (1500, "1.5 us"),
        (250_000_000, "250 ms"),
        (10**10, "10 s"),
        (59_400_000_000, "59.4 s"),
        (200 * 10**9, "3 min 20 s"),
        (7500 * 10**9, "2 h 5 min"),
        (200_000 * 10**9, "2 d 7 h"),
    ],
)
def test_time_for_people(ns: int, text: str) -> None:
    assert units.format_time(ns) == text


def params(line: str, world: World) -> dict[str, Any]:
    return job_params(parse(["run", *line.split(" ")]), world)


STREAMED = {"stdin_stream": True, "stream": True, "limits": {}}


def test_every_limit_has_its_option(world: World) -> None:
    typed = "--cpu-time 1s --wall-time 2s --memory 3 --output 4 --file-size 5 --disk 6 --stack 7"
    typed += " --processes 8 --open-files 9"
    assert params(f"{typed} x", world)["limits"] == {
        "cpu_time_ns": 10**9,
        "wall_time_ns": 2 * 10**9,
        "memory_bytes": 3,
        "output_bytes": 4,
        "file_size_bytes": 5,
        "disk_bytes": 6,
        "stack_bytes": 7,
        "processes": 8,
        "open_files": 9,
    }


def test_what_is_asked_of_the_daemon(world: World) -> None:
    assert params("cat -n", world) == {"argv": ["cat", "-n"], **STREAMED}
    assert params("--cwd d --collect *.o --collect a --network none --mode fresh x", world) == {
        "argv": ["x"],
        "cwd": "d",
        "collect": ["*.o", "a"],
        "network": "none",
        "mode": "fresh",
        **STREAMED,
    }
    assert "stream" not in params("--json x", world)


def test_variables(world: World) -> None:
    env = params("--env A=1 --env B=x=y --env PATH=/p x", world)["env"]
    assert env == {"PATH": "/p", "A": "1", "B": "x=y"}
    for wrong in ("A", "=1"):
        with pytest.raises(UsageError, match="is not K=V"):
            params(f"--env {wrong} x", world)


def test_words_need_not_be_utf8(world: World) -> None:
    command = parse(["run", "--env", "A=\udcff", "--", "\udcfe", "é"])
    asked = job_params(command, world)
    assert asked["argv"] == [b"\xfe", "é"]
    assert asked["env"]["A"] == b"\xff"


def test_files_are_copied_with_their_mode(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"1")
    (tmp_path / "tool").write_bytes(b"2")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "a.py").chmod(0o600)
    assert params(f"--file {tmp_path}/a.py --file {tmp_path}/tool=bin/t x", world)["files"] == {
        "a.py": {"data": b"1", "mode": 0o600},
        "bin/t": {"data": b"2", "mode": 0o755},
    }
    with pytest.raises(UsageError, match=r"'a\.py' was given twice"):
        params(f"--file {tmp_path}/a.py --file {tmp_path}/tool=a.py x", world)


@pytest.mark.parametrize(
    ("path", "why"), [("/nowhere/x", "No such file or directory"), ("/tmp", "Is a directory")]
)
def test_a_file_that_cannot_be_read(world: World, path: str, why: str) -> None:
    for option in ("--file", "--stdin"):
        if (option, path) != ("--stdin", "/tmp"):
            assert main(["run", "--socket", "/nowhere", option, path, "x"], world) == 125
    assert f"sandboxctl: {path}: {why}\n" in world.stderr_text


def test_a_terminal_goes_with_neither_json_nor_stdin(world: World) -> None:
    for other in ("--json", "--stdin /dev/null"):
        with pytest.raises(UsageError, match="--tty cannot go with"):
            params(f"--tty {other} x", world)
    assert params("--tty x", world) == {
        "argv": ["x"],
        "tty": {"rows": 24, "columns": 80},
        "stream": True,
        "limits": {},
    }


ALL = {spec.name: spec for spec in (*leaves(), *TOP.commands.values())}


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL.keys())
def test_help_names_every_option(spec: CommandSpec, world: World) -> None:
    assert main([*spec.name.split(" "), "--help"], world) == 0
    text = world.stdout_text
    assert text == help_text(spec)
    assert text.startswith(f"Usage: sandboxctl {spec.name} ")
    for option in spec.options:
        assert f" {option.name}" in text
    for inner in spec.commands:
        assert f"\n  {inner} " in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("argv", "code"), [(["--help"], 0), (["-h"], 0), ([], 2), (["--socket", "/s"], 2)]
)
def test_help_names_every_command(argv: list[str], code: int, world: World) -> None:
    assert main(argv, world) == code
    for name in TOP.commands:
        assert f"\n  {name} " in world.stdout_text


def test_a_group_without_its_command_is_helped(world: World) -> None:
    assert main(["environments"], world) == 2
    assert world.stdout_text == help_text(TOP.commands["environments"])


def test_help_before_a_command_is_that_of_the_command(world: World) -> None:
    assert main(["--help", "packages", "install"], world) == 0
    assert world.stdout_text == help_text(TOP.commands["packages"])


def test_version(world: World) -> None:
    assert main(["--version"], world) == 0
    assert world.stdout_text.startswith("sandboxctl ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_everything(shell: str, world: World) -> None:
    assert main(["completion", shell], world) == 0
    text = world.stdout_text
    for spec in leaves():
        assert spec.word in text
        for option in spec.options:
            assert (option.name if shell != "fish" else f"-l {option.name[2:]} ") in text
    assert "loopback" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_what_the_shell_reads(shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    script = getattr(completion, shell)()
    subprocess.run([path, "-n"], input=script, text=True, check=True, capture_output=True)


BASH = {
    "sandboxctl r": ["run", "runtimes"],
    "sandboxctl packages b": ["build"],
    "sandboxctl packages ": ["list", "install", "uninstall", "spec", "build", "--socket", "--help"],
    "sandboxctl packages install --ind": ["--index"],
    "sandboxctl environments import x /etc/pass": ["/etc/passwd"],
    "sandboxctl environments import --so": ["--socket"],
    "sandboxctl packages build -o /etc/hostn": ["/etc/hostname"],
    "sandboxctl execute c /etc/hostn": ["/etc/hostname"],
    "sandboxctl execute --compile-m": ["--compile-memory"],
    "sandboxctl --v": ["--version"],
    "sandboxctl run --mem": ["--memory"],
    "sandboxctl run --network ": ["none", "loopback"],
    "sandboxctl run --memory ": [],
    "sandboxctl completion f": ["fish"],
    "sandboxctl functions run --wai": ["--wait"],
    "sandboxctl functions run_bulk -": ["--parameters", "--json", "--socket", "--help"],
    "sandboxctl keys create --role m": ["manage", "master"],
    "sandboxctl status --": ["--json", "--socket", "--help"],
    "sandboxctl run --stdin /etc/pass": ["/etc/passwd"],
    "sandboxctl run -- bas": ["bash"],
    "sandboxctl run -- cat /etc/hostnam": ["/etc/hostname"],
}


@pytest.mark.parametrize(("line", "wanted"), BASH.items(), ids=BASH.keys())
def test_bash_completes(line: str, wanted: list[str]) -> None:
    words = line.split(" ")
    script = f"""{completion.bash()}
COMP_WORDS=({" ".join(repr(word) for word in words)}) COMP_CWORD={len(words) - 1}
_sandboxctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    bash = ["bash", "--norc"]
    done = subprocess.run(bash, input=script, text=True, check=True, capture_output=True,
                          env={"PATH": os.environ["PATH"]})  # fmt: skip
    found = [word for word in done.stdout.split("\n") if word]
    if wanted and len(wanted) == 1:
        assert wanted[0] in found
    else:
        assert found == wanted
    assert done.stderr == ""
