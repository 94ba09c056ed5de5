"""The floor of a warm call: an interpreter that has everything forks, and the child reads a call,
loads the function, calls it, answers on a pipe and ends. Prints what `floor` prints.

    python3 fork_call.py COUNT [cold]

`cold` starts an interpreter for each call instead.
"""

import json
import os
import sys
import time

SOURCE = "def main(args, context):\n    return args\n"
CALL = b'{"args":{"n":1},"context":{}}'
COLD = (
    "import json, os, sys\n"
    "call = json.loads(sys.stdin.buffer.read())\n"
    "module = {}\n"
    "exec(compile(sys.argv[1], 'function.py', 'exec'), module)\n"
    "value = module['main'](call['args'], call['context'])\n"
    "os.write(1, json.dumps({'result': value}).encode())\n"
    "os._exit(0)\n"
)


def answer(source: int, target: int) -> None:
    call = json.loads(os.read(source, 65536))
    module = type(sys)("function")
    exec(compile(SOURCE, "function.py", "exec"), module.__dict__)  # noqa: S102
    value = module.main(call["args"], call["context"])
    os.write(target, json.dumps({"result": value}).encode())


def start_cold(source: int, target: int) -> None:
    os.dup2(source, 0)
    os.dup2(target, 1)
    os.execv(sys.executable, [sys.executable, "-s", "-B", "-c", COLD, SOURCE])


def call_once(child: object) -> int:
    began = time.monotonic_ns()
    call_read, call_write = os.pipe()
    answer_read, answer_write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(call_write)
            child(call_read, answer_write)  # type: ignore[operator]
        finally:
            os._exit(0)
    os.close(call_read)
    os.close(answer_write)
    os.write(call_write, CALL)
    os.close(call_write)
    data = b""
    while part := os.read(answer_read, 65536):
        data += part
    os.close(answer_read)
    os.waitpid(pid, 0)
    took = time.monotonic_ns() - began
    if json.loads(data) != {"result": {"n": 1}}:
        sys.exit(f"a wrong answer: {data!r}")
    return took


def main() -> None:
    child = start_cold if sys.argv[2:] == ["cold"] else answer
    call_once(child)
    began = time.monotonic_ns()
    each = [call_once(child) for _ in range(int(sys.argv[1]))]
    print(f"elapsed_ns {time.monotonic_ns() - began}")
    print("\n".join(map(str, each)))


main()
