"""Why a job ended: the words of `result.status`. Imports nothing, so that clients may."""

OK = "ok"
NONZERO_EXIT = "nonzero_exit"
SIGNALED = "signaled"
CPU_TIME_LIMIT = "cpu_time_limit"
WALL_TIME_LIMIT = "wall_time_limit"
MEMORY_LIMIT = "memory_limit"
OUTPUT_LIMIT = "output_limit"
CANCELLED = "cancelled"
INTERNAL_ERROR = "internal_error"

STATUSES = (
    OK,
    NONZERO_EXIT,
    SIGNALED,
    CPU_TIME_LIMIT,
    WALL_TIME_LIMIT,
    MEMORY_LIMIT,
    OUTPUT_LIMIT,
    CANCELLED,
    INTERNAL_ERROR,
)

# The program was stopped because it used more than it was given.
LIMIT_STATUSES = frozenset({CPU_TIME_LIMIT, WALL_TIME_LIMIT, MEMORY_LIMIT, OUTPUT_LIMIT})
