"""The commands about functions, as one table."""

from __future__ import annotations

from sandboxctl.options import CommandSpec, Option
from sandboxctl.shared_options import ENV, HELP, LIMITS, PLAIN, SOCKET
from sandboxctl.units import parse_count, parse_size, parse_time

_NAME = "[SPACE/]NAME"
_WHICH = "which function?"
_WAIT = Option("--wait", "", "wait for the end, and print the result", short="-w")
_PARAMETERS = Option("--parameters", "K=V,...", "arguments, all texts: \"name=a, other=b\"",
                     repeat=True, short="-p")  # fmt: skip
_CODE = (
    Option("--file", "FILE", "its code; - for stdin", files=True, short="-f"),
    Option("--context-file", "FILE", 'what it knows besides its arguments: lines KEY = "value"',
           files=True, short="-c"),
    Option("--config", "FILE", "a file that says what it is: command, inputs, outputs, limits",
           files=True),
    Option("--language", "LANGUAGE[=VERSION]", "of its code, when that is no Python main"),
    Option("--environment", "NAME", "root file system, see sandboxctl environments"),
    ENV,
    *LIMITS,
)  # fmt: skip

FUNCTIONS = CommandSpec(
    "functions",
    "stored code: make, change, run",
    (SOCKET, HELP),
    "COMMAND",
    commands=(
        CommandSpec(
            "functions create",
            "store code by a name",
            (
                *_CODE,
                Option("--wait", "", "wait until it is there, which is always done", short="-w"),
                *PLAIN,
            ),
            _NAME,
            least=1,
            most=1,
            missing=_WHICH,
            examples=(
                "sandboxctl functions create hello --file hello.py --context-file secrets",
                "sandboxctl functions create sort --language ruby --file sort.rb",
                "sandboxctl functions create ada/solve --config function.toml",
            ),
        ),
        CommandSpec(
            "functions update",
            "change a function; what is not given stays",
            (
                *_CODE,
                Option("--new-name", "NAME", "give it another name", short="-n"),
                Option("--wait", "", "wait until it is changed, which is always done", short="-w"),
                *PLAIN,
            ),
            _NAME,
            least=1,
            most=1,
            missing=_WHICH,
            examples=("sandboxctl functions update hello --file hello.py",),
        ),
        CommandSpec("functions get", "show a function, with its code", PLAIN, _NAME,
                    least=1, most=1, missing=_WHICH),
        CommandSpec(
            "functions list",
            "functions that are there",
            (Option("--space", "SPACE", "only those of a space"), *PLAIN),
        ),
        CommandSpec(
            "functions delete",
            "delete functions; what runs of them goes on",
            (
                Option("--wait", "", "wait until they are deleted, which is always done",
                       short="-w"),
                *PLAIN,
            ),
            f"{_NAME} ...",
            least=1,
            most=1000,
            missing=_WHICH,
        ),
        CommandSpec(
            "functions run",
            "run a function, and print the id of the execution",
            (
                _PARAMETERS,
                Option("--args", "JSON", "arguments as JSON; - for stdin"),
                Option("--stdin", "FILE", "read the program's stdin from FILE", files=True),
                Option("--input", "ID=FILE", "give it an input", repeat=True, files=True),
                _WAIT,
                *LIMITS,
                *PLAIN,
            ),
            _NAME,
            least=1,
            most=1,
            missing=_WHICH,
            examples=(
                'sandboxctl functions run hello --parameters "name=user1" --wait',
                'sandboxctl functions run hello -p "param_1=value_1, param_2=value_2" --wait',
                "sandboxctl functions run sum --args '[1, 2, 3]' --wait",
                'ID=$(sandboxctl functions run hello -p "name=user1")',
            ),
        ),
        CommandSpec(
            "functions run_bulk",
            "run a function once for each -p, and print the ids of the executions",
            (_PARAMETERS, *PLAIN),
            _NAME,
            least=1,
            most=1,
            missing=_WHICH,
            examples=('sandboxctl functions run_bulk hello -p "k1=v1, k2=v2" -p "k3=v3, k4=v4"',),
        ),
    ),
)  # fmt: skip
EXECUTIONS = CommandSpec(
    "executions",
    "runs of functions: how they are, what they gave",
    (SOCKET, HELP),
    "COMMAND",
    commands=(
        CommandSpec("executions get", "show executions", (_WAIT, *PLAIN), "ID ...",
                    least=1, most=1000, missing="which execution?",
                    examples=("sandboxctl executions get $ID",)),
        CommandSpec(
            "executions list",
            "executions, the newest first",
            (
                Option("--function", _NAME, "only those of a function", short="-d"),
                Option("--space", "SPACE", "only those of a space"),
                Option("--status", "pending|running|ended", "only those in this state",
                       choices=("pending", "running", "ended")),
                Option("--limit", "N", "how many at most, 100 unless told", parse_count),
                *PLAIN,
            ),
        ),
        CommandSpec("executions wait", "wait for the end, and print the result", PLAIN, "ID ...",
                    least=1, most=1000, missing="which execution?"),
        CommandSpec("executions log", "print what it has printed so far", PLAIN, "ID",
                    least=1, most=1, missing="which execution?"),
        CommandSpec(
            "executions output",
            "print a file that it left",
            (
                Option("--output", "FILE", "write to FILE instead of stdout", files=True,
                       short="-o"),
                *PLAIN,
            ),
            "ID OUTPUT",
            least=2,
            most=2,
            missing="which execution, and which of its outputs?",
        ),
        CommandSpec("executions stop", "end executions; what they gave so far stays", PLAIN,
                    "ID ...", least=1, most=1000, missing="which execution?"),
        CommandSpec("executions delete", "end executions and forget them", PLAIN, "ID ...",
                    least=1, most=1000, missing="which execution?"),
    ),
)  # fmt: skip
KEYS = CommandSpec(
    "keys",
    "who else may use functions",
    (SOCKET, HELP),
    "COMMAND",
    commands=(
        CommandSpec(
            "keys create",
            "make a key, and print its secret, which nobody can see again",
            (
                Option("--role", "ROLE", "admin, manage (functions), master (one function and its"
                       " keys), run",
                       choices=("admin", "manage", "master", "run")),
                Option("--function", _NAME, "the function it is for (master and run)"),
                Option("--space", "SPACE", "the only space it reaches (manage)"),
                Option("--max-memory", "SIZE", "memory of an execution", parse_size),
                Option("--max-time", "TIME", "time of an execution", parse_time),
                Option("--max-executions", "N", "executions that run at once", parse_count),
                *PLAIN,
            ),
            "NAME",
            least=1,
            most=1,
            missing="which name?",
            examples=(
                "TOKEN=$(sandboxctl keys create laptop --role manage)",
                "sandboxctl keys create shop --role run --function hello --max-executions 2",
            ),
        ),
        CommandSpec("keys list", "keys that are there, without their secrets", PLAIN),
        CommandSpec("keys delete", "delete keys; what runs with them is cancelled", PLAIN,
                    "NAME ...", least=1, most=1000, missing="which key?"),
    ),
)  # fmt: skip
