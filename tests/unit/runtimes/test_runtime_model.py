"""Runtime files: what is taken, and that an error names file and key."""

import pytest

from sandboxd.errors import ConfigError
from sandboxd.protocol.models import Limits
from sandboxd.runtimes.model import parse

GOOD = """
language = "c"
aliases = ["gcc"]
extensions = [".c"]
[version]
programs = ["gcc"]
command = ["gcc", "-dumpversion"]
pattern = '(\\d+)'
[compile]
command = ["gcc", "{sources}"]
env = { TMPDIR = "/tmp" }
[compile.limits]
memory_bytes = "64M"
cpu_time_ns = "10s"
processes = 64
[run]
command = ["./a.out", "{args}"]
[rename]
extension = ".c"
"""


def test_a_good_file() -> None:
    file = parse(GOOD.encode(), "c.toml")
    assert (file.language, file.aliases, file.extensions) == ("c", ("gcc",), (".c",))
    assert file.compile is not None
    assert file.compile.limits == Limits(
        memory_bytes=64 * 2**20, cpu_time_ns=10_000_000_000, processes=64
    )
    assert file.compile.env == {"TMPDIR": "/tmp"}
    assert file.run.command == ("./a.out", "{args}")
    assert file.rename.extension == ".c"


def test_the_smallest_file() -> None:
    file = parse(
        b'language="x"\n[version]\nprograms=["x"]\nfixed="1"\n[run]\ncommand=["x"]', "x.toml"
    )
    assert file.compile is None
    assert file.run.limits == Limits()


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('language = "c"', "", "language is missing"),
        ('language = "c"', 'language = "a b"', "language: "),
        ('language = "c"', 'language = "a=b"', "language: "),
        ('language = "c"', "language = 3", "language: "),
        ('language = "c"', 'langauge = "c"', "langauge is not a setting"),
        ('aliases = ["gcc"]', 'aliases = "gcc"', "aliases: "),
        ('aliases = ["gcc"]', 'aliases = ["a/b"]', "aliases"),
        ('extensions = [".c"]', 'extensions = ["c"]', "extensions"),
        ('programs = ["gcc"]', "programs = []", "version.programs"),
        ('programs = ["gcc"]', 'programs = ["a/b"]', "version.programs: 'a/b'"),
        ("pattern = '(\\d+)'", "pattern = '('", "version.pattern: "),
        ("pattern = '(\\d+)'", "pattern = 'x'", "version.pattern: needs a group"),
        ("pattern = '(\\d+)'", "", "version.pattern is missing"),
        ('command = ["gcc", "-dumpversion"]', "", "version.command is missing"),
        ("pattern = '(\\d+)'", "fixed = 'x'\npattern = '(\\d+)'", "version.fixed: 'x'"),
        ('command = ["gcc", "{sources}"]', "command = []", "compile.command"),
        ('"{sources}"]', '"{args}"]', "compile.command: {args}"),
        ('"{sources}"]', '"{sauces}"]', "compile.command: {sauces} is no placeholder"),
        ('memory_bytes = "64M"', 'memory_bytes = "64Q"', "compile.limits: memory_bytes"),
        ('memory_bytes = "64M"', "memory_bytes = -1", "compile.limits.memory_bytes"),
        ('memory_bytes = "64M"', 'memory = "64M"', "compile.limits.memory is not a setting"),
        ('{ TMPDIR = "/tmp" }', '{ "A=B" = "x" }', "compile.env: 'A=B'"),
        ('[rename]\nextension = ".c"', '[rename]\nextension = "c"', "rename.extension"),
        ('[rename]\nextension = ".c"', '[rename]\nmain = "../x.c"', "rename.main: "),
        ("[rename]", "[renames]", "renames is not a setting"),
        ('language = "c"', 'language = "c"\nenvironment = "../x"', "environment: "),
        ('language = "c"', 'language = "c"\nfile_name = "/x"', "file_name: "),
        ('language = "c"', "language = ", "c.toml: "),
    ],
)
def test_a_bad_file(before: str, after: str, problem: str) -> None:
    assert before in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(before, after, 1).encode(), "/etc/x/c.toml")
    assert str(caught.value).startswith("/etc/x/c.toml: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"x" * 100_000, b"a = [" * 2000, b"compile = 3"])
def test_what_is_no_runtime_file_at_all(text: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^c\.toml: "):
        parse(text, "c.toml")
