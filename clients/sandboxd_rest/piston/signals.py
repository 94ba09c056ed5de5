"""Names of signals as Piston has them: Linux's 1 to 31, and the real-time ones on both sides."""

from __future__ import annotations

import signal
from typing import Final

_FIRST_RT: Final = 34
_MIDDLE_RT: Final = 49
_LAST_RT: Final = 64


def _name_rt(number: int) -> str:
    if number <= _MIDDLE_RT:
        offset = number - _FIRST_RT
        return f"SIGRTMIN+{offset}" if offset else "SIGRTMIN"
    offset = _LAST_RT - number
    return f"SIGRTMAX-{offset}" if offset else "SIGRTMAX"


NAMES: Final = {
    **{number: signal.Signals(number).name for number in range(1, 32)},
    **{number: _name_rt(number) for number in range(_FIRST_RT, _LAST_RT + 1)},
}
NUMBERS: Final = {
    **{name: number for number, name in NAMES.items()},
    "SIGIOT": 6,
    "SIGPOLL": 29,
    "SIGUNUSED": 31,
}
