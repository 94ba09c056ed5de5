"""What is expected of the programs of one language."""

from dataclasses import dataclass

ARGS = ("one", "two words")
LINE = b"a line\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """The programs, and how they end where they do not end as most do."""

    name: str
    packages: str
    """What Debian calls the tool."""
    runtime: str = ""
    """What is behind the language, as the runtime's file has it."""

    hello: str | bytes
    stdout: bytes = b"hello one|two words\na line\n"
    exit_code: int = 3

    error: str
    says: str
    """What stderr holds then."""
    signaled: bool = False
    """Whether it ends by a signal."""

    broken: str = ""
    """Empty where nothing is compiled."""
    complains: str = ""
    """What stdout or stderr of the compiler holds then; any text will do where it is empty."""

    loop: str
    looping: str = "looping"
    """What stderr holds then; empty where the language cannot write there."""
    cpu_ms: int = 300
    """The limit for it: enough to start on a fast machine."""

    hog: str
    memory_mib: int = 64
    """The limit for it."""
    gives_up: str = ""
    """What stderr holds when the tool itself finds that there is no memory. Otherwise the limit
    ends it."""

    slow: bool = False
    """Whether one program takes seconds to compile."""

    @property
    def id(self) -> str:
        return f"{self.name}-{self.runtime}" if self.runtime else self.name
