"""Who uses an installed package: it stays on the disk for as long as a job does."""

from collections.abc import Callable


class Use:
    """Counts the jobs that use one package."""

    def __init__(self) -> None:
        self._count = 0
        self._gone: Callable[[], None] | None = None

    def hold(self) -> None:
        """A job is going to use it."""
        self._count += 1

    def release(self) -> None:
        """A job has ended."""
        self._count -= 1
        self._call_when_unused()

    def retire(self, gone: Callable[[], None]) -> None:
        """No further job will use it: call ``gone`` (perhaps at once) when none does."""
        self._gone = gone
        self._call_when_unused()

    def _call_when_unused(self) -> None:
        if not self._count and self._gone is not None:
            gone, self._gone = self._gone, None
            gone()
