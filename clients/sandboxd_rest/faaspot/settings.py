"""The table `[faaspot]` of the gateway's file."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

_MIB: Final = 1024 * 1024
# A message to the daemon has at most 64 MiB, with what is around the code or the arguments.
_MOST_BODY: Final = 63 * _MIB


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an administrator decides about FaaSpot's API."""

    enabled: bool = True
    max_request_bytes: Annotated[int, Meta(ge=1024, le=_MOST_BODY)] = 16 * _MIB
    """The largest request: code comes percent-encoded, so up to three times as large."""
    max_transfers: Annotated[int, Meta(ge=1, le=1024)] = 8
    """Requests larger than usual, and answers with many executions, that are in memory at once."""
    run_time_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] = 60 * 1_000_000_000
    """What a function that is made here may take, where the daemon allows it."""
