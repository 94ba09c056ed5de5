"""The table `[pifop]` of the gateway's file."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

_MIB: Final = 1024 * 1024
# A message to the daemon has at most 64 MiB, with what is around the input.
_MOST_INPUT: Final = 63 * _MIB


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an administrator decides about PIFOP's API."""

    enabled: bool = True
    plain_http: bool = False
    """Serve it without HTTPS, too: keys then travel for everybody on the way to read."""
    max_input_bytes: Annotated[int, Meta(ge=1, le=_MOST_INPUT)] = 16 * _MIB
    """The largest input file."""
    max_transfer_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 128 * _MIB
    """Inputs and outputs in memory at once, all together; more are answered with 503."""
    input_timeout_ns: Annotated[int, Meta(ge=1, le=2**63 - 1)] = 60 * 1_000_000_000
    """For a whole input to come."""
