"""Exit statuses of sandboxctl. For `run` they are those of timeout(1) and docker-run(1)."""

OK = 0
# Only for commands other than `run`, where 1 and 2 belong to the program.
FAILED = 1
USAGE = 2
# A limit stopped the program.
LIMIT = 124
# sandboxd failed, could not be reached, or did not understand what was typed.
SANDBOXD_FAILED = 125
# A signal ended the program: this plus its number.
SIGNALED = 128
INTERRUPTED = SIGNALED + 2  # SIGINT
BROKEN_PIPE = SIGNALED + 13  # SIGPIPE: nobody reads our output any more.
