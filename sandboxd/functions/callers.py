"""Who asks for something: a local user, or whoever has the secret of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxd.functions.authorise import Principal
from sandboxd.protocol.errors import PERMISSION_DENIED, RequestError
from sandboxd.protocol.models import Limits

if TYPE_CHECKING:
    from sandboxd.connection import Connection
    from sandboxd.functions.model import Key
    from sandboxd.protocol.functions import Caller

_NO_LIMITS = Limits()


def principal(connection: Connection, params: Caller) -> Principal:
    """Raises RequestError `permission_denied` for a key that is not known, or another's tenant."""
    peer = connection.peer
    peer.require_run()
    opened = connection.server.functions.opened
    if params.key is None:
        if params.tenant is None or params.tenant == peer.uid:
            return Principal(peer.uid)
        if not peer.can_admin:
            raise RequestError(
                PERMISSION_DENIED,
                f"tenant: uid {peer.uid} may not act for uid {params.tenant}; leave it out, or add"
                " this uid to admin_uids in sandboxd.toml",
            )
        return Principal(params.tenant)
    key = opened.store.key_by_secret(params.key)
    if key is None or params.tenant not in (None, key.tenant):
        raise RequestError(PERMISSION_DENIED, "key: the key is not known", {"field": "key"})
    return Principal(key.tenant, key)


def limits(key: Key | None) -> Limits:
    """What a key allows; nothing is set where it says nothing."""
    if key is None or not (key.max_memory_bytes or key.max_time_ns):
        return _NO_LIMITS
    return Limits(
        memory_bytes=key.max_memory_bytes or None,
        wall_time_ns=key.max_time_ns or None,
    )
