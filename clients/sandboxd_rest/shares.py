"""Places for what takes long, of which one client has half at most."""

from __future__ import annotations

from collections import Counter


class Shares:
    """So many places. Clients are told apart by their label; see `safety.client_label`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_one = max(1, most // 2)
        self._taken: Counter[str] = Counter()
        self._all = 0

    def take(self, client: str) -> bool:
        """Whether there was a place left for this client; it has to be given back then."""
        if self._all >= self._most or self._taken[client] >= self._most_of_one:
            return False
        self._all += 1
        self._taken[client] += 1
        return True

    def give_back(self, client: str) -> None:
        self._all -= 1
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
