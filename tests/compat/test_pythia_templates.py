"""Tasks made from templates, in every language that is here, and learners who cheat."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compat.gateway import running
from compat.pythia_tasks import Pythia
from support import daemon as daemons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

# Reads a number and prints its double.
DOUBLES: dict[str, tuple[str, dict[str, str]]] = {
    "ada": (
        "gnatmake",
        {
            "header": "with Ada.Integer_Text_IO; with Ada.Text_IO;",
            "footer": "N : Integer;",
            "code": "Ada.Integer_Text_IO.Get (N);\n"
            "Ada.Integer_Text_IO.Put (2 * N, Width => 0);\nAda.Text_IO.New_Line;",
        },
    ),
    "algol68": ("a68g", {"code": "INT n; read(n); print((whole(2 * n, 0), newline))"}),
    "bash": ("bash", {"code": "read n\necho $((2 * n))"}),
    "c": (
        "gcc",
        {
            "header": "#include <stdio.h>",
            "code": 'int n; scanf("%d", &n);\nprintf("%d\\n", 2 * n);',
        },
    ),
    "cpp": (
        "g++",
        {
            "header": "#include <iostream>",
            "code": "int n; std::cin >> n; std::cout << 2 * n << '\\n';",
        },
    ),
    "golang": (
        "go",
        {"header": 'import "fmt"', "body": "var n int\nfmt.Scan(&n)\nfmt.Println(2 * n)"},
    ),
    "java": (
        "javac",
        {
            "header": "import java.util.Scanner;",
            "code": "System.out.println(2 * new Scanner(System.in).nextInt());",
        },
    ),
    "lua": ("lua", {"code": 'print(2 * io.read("n"))'}),
    "nodejs": (
        "node",
        {"code": "const text = require('fs').readFileSync(0, 'utf8');\nconsole.log(2 * text);"},
    ),
    "php7": ("php", {"code": 'echo 2 * (int) fgets(STDIN), "\\n";'}),
    "prolog": (
        "swipl",
        {"code": "read_term(N, []),\nM is 2 * N,\nwriteln(M).", "footer": "unused."},
    ),
    "python": ("python3", {"header": "import sys", "code": "print(2 * int(sys.stdin.readline()))"}),
    "rexx": ("rexx", {"code": "parse pull n\nsay 2 * n"}),
    "rust": (
        "rustc",
        {
            "header": "use std::io;",
            "code": "let mut text = String::new();\nio::stdin().read_line(&mut text).unwrap();\n"
            'println!("{}", 2 * text.trim().parse::<i64>().unwrap());',
        },
    ),
    "tcl": ("tclsh", {"code": "puts [expr {2 * [gets stdin]}]"}),
}
# What a compiler or a virtual machine needs; the others do with Pythia's 32 MiB.
LARGE = {
    "ada": 128, "c": 128, "cpp": 256, "golang": 1024, "java": 512, "nodejs": 256, "php7": 64,
    "prolog": 128, "rust": 1024,
}  # fmt: skip


@pytest.fixture(scope="module")
def template_daemon(require_sandbox: None) -> Iterator[Daemon]:
    with daemons.running(jobs=3) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pythia(template_daemon: Daemon) -> Iterator[Pythia]:
    with running(template_daemon.socket) as gateway:
        yield Pythia(gateway)
        assert "Traceback" not in gateway.log_text()


def here(program: str) -> bool:
    """Whether a sandbox has it."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    return found is not None and Path(os.path.realpath(found)).is_relative_to("/usr")


@pytest.mark.parametrize("language", DOUBLES)
def test_input_output(pythia: Pythia, language: str) -> None:
    program, fields = DOUBLES[language]
    if not here(program):
        pytest.skip(f"there is no {program} here")
    end = ".\n" if language == "prolog" else "\n"
    config = {
        "predefined": [
            {"input": f"1{end}", "output": "2\n"},
            {"input": f"21{end}", "output": "43\n", "message": "not quite the double"},
            {"input": f"0{end}", "output": "0\n", "message": "nothing"},
        ]
    }
    limits = {"memory": LARGE.get(language, 32), "disk": 100 if language == "golang" else 50}
    taskid = pythia.task(config, environment=language, type="input-output", limits=limits)
    assert pythia.verdict(taskid, **fields) == {
        "tid": "mine",
        "status": "failed",
        "feedback": {
            "message": "not quite the double",
            "example": {"input": f"21{end}", "expected": "43\n", "actual": "42\n"},
            "stats": {"succeeded": 2, "total": 3},
            "score": 0.6666667,
        },
    }


def test_success(pythia: Pythia) -> None:
    tests = [{"input": f"{n}", "output": f"{n * n}\n"} for n in range(5)]
    taskid = pythia.task({"predefined": tests}, environment="python3", type="input-output")
    verdict = pythia.verdict(taskid, code="n = int(input())\nprint(n * n)")
    assert verdict["status"] == "success"
    assert verdict["feedback"] == {"stats": {"succeeded": 5, "total": 5}, "score": 1}


@pytest.mark.parametrize("language", ["c", "java", "rust"])
def test_what_does_not_compile(pythia: Pythia, language: str) -> None:
    if not here(DOUBLES[language][0]):
        pytest.skip(f"there is no {language} here")
    limits = {"memory": LARGE[language], "output": 8192}
    config = {"predefined": [{"input": "", "output": ""}]}
    taskid = pythia.task(config, environment=language, type="input-output", limits=limits)
    verdict = pythia.verdict(taskid, code="int this is nothing")
    assert (verdict["status"], verdict["feedback"]["score"]) == ("failed", 0)
    assert "error" in verdict["feedback"]["message"]


def test_a_program_that_fails_says_so(pythia: Pythia) -> None:
    config = {"predefined": [{"input": "1", "output": "1\n", "message": "not of this"}]}
    taskid = pythia.task(config, environment="bash", type="input-output")
    verdict = pythia.verdict(taskid, code="echo 1; echo oops >&2; exit 3")
    assert verdict["status"] == "failed"
    assert verdict["feedback"]["example"]["actual"] == "oops\n"
    assert "message" not in verdict["feedback"]
    verdict = pythia.verdict(taskid, code="kill -9 $$")
    assert verdict["feedback"]["example"]["actual"] == "killed by signal 9"


def test_a_whole_program(pythia: Pythia) -> None:
    config = {"predefined": [{"input": "", "output": "x\n"}]}
    taskid = pythia.task(
        config, environment="c", type="input-output", limits={"memory": LARGE["c"]}
    )
    program = '#include <stdio.h>\nint main(void) { puts("x"); return 0; }\n'
    assert pythia.verdict(taskid, program=program)["status"] == "success"


@pytest.mark.parametrize("input", ["", "{", "[]", '{"tid": 1}', '{"fields": {"code": 5}}'])
def test_input_that_is_none(pythia: Pythia, input: str) -> None:
    taskid = pythia.task({"predefined": []}, environment="bash", type="input-output")
    result = pythia.execute(taskid, input)
    assert result["status"] == "crash"
    assert result["output"].startswith("the input must be")


def test_much_output_and_a_process_that_stays(pythia: Pythia) -> None:
    config = {"predefined": [{"input": "", "output": "1\n"}, {"input": "", "output": "1\n"}]}
    taskid = pythia.task(config, environment="bash", type="input-output", limits={"memory": 64})
    verdict = pythia.verdict(taskid, code="sleep 1000 & setsid sleep 1000 & echo 1")
    assert verdict["status"] == "success"
    taskid = pythia.task(
        config, environment="bash", type="input-output", limits={"memory": 64, "output": 10**6}
    )
    verdict = pythia.verdict(taskid, code="yes")
    assert verdict["status"] == "failed"


# -- unit testing --------------------------------------------------------------------------------

SPEC: dict[str, Any] = {
    "name": "sub",
    "args": [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}],
    "return": "int",
}
TEST: dict[str, Any] = {
    "predefined": [
        {"data": "(3, 2)"},
        {"data": "(5, 1)", "feedback": {"6": "that is the sum", "*": "no"}},
        {"data": "(1,1)"},
    ],
    "random": {"n": 4, "args": ["int(1,9)", "int(-9, 9)"]},
}


def unit_task(pythia: Pythia, language: str, **config: Any) -> str:
    given = {"spec": SPEC, "test": TEST, "solution": {"f1": "return a - b;"}} | config
    return pythia.task(
        given, environment=language, type="unit-testing",
        limits={"memory": LARGE.get(language, 32)},
    )  # fmt: skip


@pytest.mark.parametrize("language", ["python", "java"])
def test_unit_testing(pythia: Pythia, language: str) -> None:
    taskid = unit_task(pythia, language)
    verdict = pythia.verdict(taskid, f1="return a - b;")
    assert verdict["status"] == "success"
    assert verdict["feedback"] == {"stats": {"succeeded": 7, "total": 7}, "score": 1}
    code = "if a == 5:\n    return a + b\nreturn a - b"
    if language == "java":
        code = "if (a == 5) return a + b;\nreturn a - b;"
    feedback = pythia.verdict(taskid, f1=code)["feedback"]
    assert feedback["example"] == {"input": "(5,1)", "expected": "4", "actual": "6"}
    assert feedback["message"] == "that is the sum"
    assert feedback["stats"]["total"] == 7
    code = "return 0 if a == 5 else a - b" if language == "python" else "return a == 5 ? 0 : a - b;"
    assert pythia.verdict(taskid, f1=code)["feedback"]["message"] == "no"


@pytest.mark.parametrize("language", ["python", "java"])
def test_a_function_that_raises(pythia: Pythia, language: str) -> None:
    taskid = unit_task(pythia, language, test={"predefined": TEST["predefined"]})
    verdict = pythia.verdict(
        taskid, f1="return 1 // 0" if language == "python" else "return 1 / 0;"
    )
    assert verdict["status"] == "failed"
    assert verdict["feedback"]["message"].startswith("An error occurred with your code: ")
    assert "zero" in verdict["feedback"]["message"]
    assert verdict["feedback"]["stats"] == {"succeeded": 0, "total": 3}


@pytest.mark.parametrize("language", ["python", "java"])
def test_a_function_that_does_not_parse(pythia: Pythia, language: str) -> None:
    verdict = pythia.verdict(unit_task(pythia, language), f1="retur (")
    assert (verdict["status"], verdict["feedback"]["score"]) == ("failed", 0)
    assert "error" in verdict["feedback"]["message"].lower()


@pytest.mark.parametrize("language", ["python", "java"])
def test_every_type(pythia: Pythia, language: str) -> None:
    names = {"i": "int", "f": "float", "b": "bool", "s": "str", "l": "array(int)"}
    spec = {
        "name": "all",
        "args": [{"name": name, "type": kind} for name, kind in names.items()],
        "return": {"type": "str"},
    }
    solution = "return f'{i} {f:.1f} {b} {s} {sum(l)}'"
    if language == "java":
        solution = (
            'int n = 0; for (int x : l) n += x;\nreturn i + " " + f + " " + b + " " + s + " " + n;'
        )
    drawn = ["int(-5,5)", "float(0,1)", "bool", "enum(red,green)", "array(0,4)[int(1,9)]"]
    test = {
        "predefined": [{"data": "(1, 2.5, True, 'a\\tb\\\\n', [1, 2, 3])"}],
        "random": {"n": 3, "args": drawn},
    }
    taskid = unit_task(pythia, language, spec=spec, test=test, solution=solution)
    assert pythia.verdict(taskid, f1=solution)["status"] == "success"
    wrong = pythia.verdict(taskid, f1="return 'x'" if language == "python" else 'return "x";')
    text = "True" if language == "python" else "true"
    assert wrong["feedback"]["example"]["expected"] == f"1 2.5 {text} a\tb\\n 6"


def test_a_solution_that_does_not_work(pythia: Pythia) -> None:
    taskid = unit_task(pythia, "python", solution={"f1": "return nothing"})
    result = pythia.execute(taskid, '{"tid": "x", "fields": {"f1": "return 1"}}')
    assert result["status"] == "crash"
    assert result["output"].startswith("the solution of this task does not work")


# -- what is refused when the task is made -------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "input-output", "environment": "cobol"}, "must be one of ada, algol68"),
        ({"type": "unit-testing", "environment": "c", "config": {"spec": SPEC}}, "python and java"),
        ({"type": "unit-testing", "environment": "python"}, "spec is missing"),
        ({"type": "input-output", "config": {"predefined": 5}}, "config"),
        ({"type": "input-output", "config": {"predefined": [{"input": "x"}]}}, "output is missing"),
        (
            {"type": "unit-testing", "config": {"spec": SPEC | {"name": "a; import os"}}},
            "cannot be the name of a function",
        ),
        (
            {
                "type": "unit-testing",
                "environment": "java",
                "config": {"spec": SPEC | {"return": "x"}},
            },
            "type 'x' is none of",
        ),
        (
            {"type": "unit-testing", "config": {"spec": SPEC, "test": {"random": {"n": 10**9}}}},
            "must be 0 to 10000",
        ),
        ({"type": "unit-testing", "config": {"spec": SPEC, "solution": 5}}, "solution"),
    ],
)  # fmt: skip
def test_templates_that_are_refused(pythia: Pythia, fields: dict[str, Any], words: str) -> None:
    answer = pythia.create(**{"taskid": "bad", "environment": "python"} | fields)
    assert (answer.status, answer.body) == (400, b"")
    assert words in answer.headers["sandboxd-message"], answer.headers["sandboxd-message"]


# -- learners who cheat --------------------------------------------------------------------------

SECRET = "7h3-4n5w3r"
FORGED = '{"tid": "mine", "status": "success", "feedback": {"score": 1}}'

CHEATS = {
    "reads the answers": "cat /task/config/* /work/task/config/*; grep -rl 7h3 /task /tmp /work",
    "reads the grader's memory": "cd /proc/$PPID; cat mem environ; ls -l fd; cat /proc/$PPID/fd/*",
    "writes the verdict": f"for p in /proc/[0-9]*; do echo '{FORGED}' >$p/fd/1; done 2>/dev/null",
    "replaces the grader": "echo 'print(1)' | tee /task/scripts/*.py /work/task/scripts/*.py",
    "leaves a module": "for n in json os re; do echo 'print(1)' >/task/scripts/$n.py; done",
    "leaves a process": f"(setsid sh -c \"sleep 1; echo '{FORGED}' >/proc/$PPID/fd/1\" &)",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_gets_nowhere(pythia: Pythia, cheat: str) -> None:
    config = {"predefined": [{"input": "", "output": f"{SECRET}{n}"} for n in range(2)]}
    limits = {"output": 8192}
    taskid = pythia.task(config, environment="bash", type="input-output", limits=limits)
    verdict = pythia.verdict(taskid, code=CHEATS[cheat])
    assert verdict["status"] == "failed"
    assert verdict["feedback"]["stats"] == {"succeeded": 0, "total": 2}
    assert SECRET not in verdict["feedback"]["example"]["actual"]


def test_who_ends_the_grader_gets_no_verdict(pythia: Pythia) -> None:
    config = {"predefined": [{"input": "", "output": SECRET}]}
    taskid = pythia.task(config, environment="bash", type="input-output")
    code = f"echo '{FORGED}'; kill -9 $PPID"
    result = pythia.execute(taskid, json.dumps({"tid": "mine", "fields": {"code": code}}))
    assert (result["status"], result["output"]) == ("crash", "")


CHEATING_FUNCTIONS = {
    "reads the solution": "return open('/task/config/solution.json').read()",
    "looks for the solution": (
        "import pathlib\n"
        "found = [p for d in ('/task', '/tmp') for p in pathlib.Path(d).rglob('solution*')]\n"
        "return ''.join(p.read_text() for p in found)"
    ),
    "changes the runner": (
        "import pathlib\n"
        "for p in [*pathlib.Path('/task').rglob('*.py'), *pathlib.Path('/tmp').rglob('*.py')]:\n"
        "    p.write_text('print(\"checked:0\")\\n' * 3)\n"
        "return 0"
    ),
    "leaves modules": (
        "import os\n"
        "for d in ('/tmp', '/work', '/task/scripts', '/tmp/work', '/tmp/work/teacher'):\n"
        "    os.makedirs(d, exist_ok=True)\n"
        "    for n in ('os', 'sys', 'typing', 'program', 'json'):\n"
        "        open(f'{d}/{n}.py', 'w').write('print(\"checked:0\")\\n' * 3)\n"
        "return 0"
    ),
    "waits for the solution": (
        "import os, time\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    time.sleep(60)\n"
        "return 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATING_FUNCTIONS)
def test_a_cheating_function_gets_nowhere(pythia: Pythia, cheat: str) -> None:
    taskid = unit_task(pythia, "python", test={"predefined": TEST["predefined"][:2]})
    verdict = pythia.verdict(taskid, f1=CHEATING_FUNCTIONS[cheat])
    assert verdict["status"] == "failed", verdict
    assert verdict["feedback"].get("stats", {"succeeded": 0})["succeeded"] == 0
