"""The table `[pythia]` of the gateway's file."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

_MIB: Final = 1024 * 1024
_SECOND: Final = 1_000_000_000
# A message to the daemon has at most 64 MiB, with what is around the input.
_MOST_BODY: Final = 63 * _MIB

Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an administrator decides about Pythia's API."""

    enabled: bool = True
    max_request_bytes: Annotated[int, Meta(ge=1024, le=_MOST_BODY)] = 16 * _MIB
    """The largest request that makes a task, whose files come as base64."""
    max_input_bytes: Annotated[int, Meta(ge=1024, le=_MOST_BODY)] = _MIB
    """The largest request that executes one."""
    max_uploads: Annotated[int, Meta(ge=1, le=1024)] = 8
    """Tasks that are made at once, half of them from one address; more are answered with 503."""
    upload_timeout_ns: Positive = 60 * _SECOND
    """For a whole request to come."""

    callback_hosts: tuple[str, ...] = ()
    """Where results may be posted to: `host`, `host:port` or `*.domain`; `*`: anywhere."""
    callback_private: bool = False
    """Also to addresses that are not of the Internet: loopback, private, link-local."""
    callback_timeout_ns: Positive = 10 * _SECOND
    """For one attempt."""
    callback_attempts: Annotated[int, Meta(ge=1, le=20)] = 3
    max_callbacks: Annotated[int, Meta(ge=1, le=2**16)] = 256
    """Asynchronous executions whose callback was not made yet; more are answered with 503."""
