"""Options that several commands have."""

from __future__ import annotations

from sandboxctl.options import Option
from sandboxctl.units import parse_count, parse_size, parse_time

SOCKET = Option(
    "--socket",
    "PATH",
    "socket of the daemon (else $SANDBOXD_SOCKET, else the usual one)",
    files=True,
)
JSON = Option("--json", "", "print one JSON object instead of text")
HELP = Option("--help", "", "show this and exit", short="-h")
VERSION = Option("--version", "", "show the version and exit")
INDEX = Option("--index", "URL", "index of packages (else $SANDBOXD_PACKAGE_INDEX, else Piston's)")
QUIET = Option("--quiet", "", "show no progress", short="-q")

PLAIN = (JSON, SOCKET, HELP)
GLOBAL = (SOCKET, HELP, VERSION)
LIMITS = (
    Option("--cpu-time", "TIME", "CPU time of all processes together", parse_time,
           limit="cpu_time_ns"),
    Option("--wall-time", "TIME", "time from start to end", parse_time, limit="wall_time_ns"),
    Option("--memory", "SIZE", "memory of all processes together", parse_size,
           limit="memory_bytes"),
    Option("--output", "SIZE", "bytes on stdout, and on stderr", parse_size, limit="output_bytes"),
    Option("--file-size", "SIZE", "size of one file", parse_size, limit="file_size_bytes"),
    Option("--disk", "SIZE", "everything written to files", parse_size, limit="disk_bytes"),
    Option("--stack", "SIZE", "stack of one process", parse_size, limit="stack_bytes"),
    Option("--processes", "N", "processes and threads at once", parse_count, limit="processes"),
    Option("--open-files", "N", "open files of one process", parse_count, limit="open_files"),
)  # fmt: skip
STDIN = Option("--stdin", "FILE", "read the program's stdin from FILE", files=True)
ENV = Option("--env", "K=V", "set a variable of the program's environment", repeat=True)
FILE = Option("--file", "PATH[=NAME]", "copy a file into the work directory", repeat=True,
              files=True)  # fmt: skip
COLLECT = Option("--collect", "GLOB", "copy files of the work directory back when it ends",
                 repeat=True)  # fmt: skip
NETWORK = Option("--network", "none|loopback", "which network there is",
                 choices=("none", "loopback"))  # fmt: skip
NO_FILE_LOCKS = Option("--no-file-locks", "", "locking files fails, see sandboxd.toml(5)")
MODE = Option("--mode", "fresh|recycled", "a sandbox never used before, or a cleaned one",
              choices=("fresh", "recycled"))  # fmt: skip
