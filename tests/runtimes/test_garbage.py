"""Programs that make much more garbage than they may have memory, and little of anything else.

A tool that goes by the memory of the host lets it grow until the limit ends the program.
"""

from collections.abc import Iterator

import pytest

from sandboxd_client import Client
from support.daemon import running

MIB = 1024 * 1024

PROGRAMS = {
    "java": """
class Garbage {
    static byte[] last;
    public static void main(String[] args) {
        for (int i = 0; i < 3000; i++) last = new byte[1 << 20];
        System.out.println(last.length);
    }
}
""",
    "javascript": """
let last;
for (let i = 0; i < 3000; i++) last = new Array(1 << 17).fill(i + 0.5);
console.log(last.length * 8);
""",
    "csharp": """
class Garbage {
    static byte[] last;
    static void Main() {
        for (int i = 0; i < 3000; i++) last = new byte[1 << 20];
        System.Console.WriteLine(last.Length);
    }
}
""",
    "lisp": """
(defvar *last*)
(dotimes (i 3000)
  (setf *last* (make-array 1048576 :element-type '(unsigned-byte 8) :initial-element 1)))
(format t "~a~%" (length *last*))
""",
}


@pytest.fixture(scope="module")
def client(require_sandbox: None) -> Iterator[Client]:
    with running(jobs=2) as daemon, Client(daemon.socket) as client:
        yield client


@pytest.mark.parametrize("language", PROGRAMS)
def test_garbage_is_collected_before_it_reaches_the_limit(client: Client, language: str) -> None:
    if not any(info["language"] == language for info in client.runtimes()):
        pytest.skip(f"{language} is not here")
    program = PROGRAMS[language]
    result = client.execute(language, [program], run={"limits": {"memory_bytes": 192 * MIB}})
    assert result.run is not None, result.compile
    assert result.run.status == "ok", result.run
    assert result.run.stdout == b"1048576\n"
