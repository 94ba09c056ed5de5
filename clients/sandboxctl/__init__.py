"""sandboxctl: the command line of sandboxd.

Theory of operation. `commands` is the one table of what can be typed; parser, help and shell
completion are made from it. Each command is one module with `run(command, stdio) -> exit status`,
imported only when it is typed, and talks to the world through a `Stdio`. The modules avoid what is
slow to import (argparse, signal, socket, typing): a start takes less than twice as long as that of
the interpreter alone, and tests/integration/test_sandboxctl.py measures it.
"""
