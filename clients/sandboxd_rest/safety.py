"""Who may talk to the gateway through a browser, and who a client is.

A web page can make its visitor's browser send requests to a gateway on the visitor's machine. Two
things give such a page away: the Host it thinks it talks to (a name of the attacker's, when DNS
rebinding is used), and the Origin that the browser adds to whatever may change something.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sandboxd_rest.http import Headers, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import Scope

    from sandboxd_rest.config import Config

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - looked for, not bound to
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/@\s]+))(?::([0-9]{1,5}))?")
_PREFLIGHT_MAX_AGE: Final = b"600"
MAX_LABEL: Final = 64


class Guard:
    """Checks Host and Origin of every request."""

    def __init__(self, config: Config) -> None:
        binds = (*config.bind, *config.plain_bind)
        bound = {host_of(bind) for bind in binds if not bind.startswith("unix:")}
        self._any_address = not bound.isdisjoint(_WILDCARDS)
        self._hosts = _LOOPBACK | (bound - _WILDCARDS) | {h.lower() for h in config.allowed_hosts}
        self._origins = frozenset(origin.lower() for origin in config.allowed_origins)
        self._proxies = [ipaddress.ip_network(text) for text in config.trusted_proxies]

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises Refusal for what a web page of somebody else's sent."""
        host = headers.get(b"host", b"").decode("latin-1")
        if scope.get("server") is not None and not self._host_allowed(host):
            text = f"Host {host[:100]!r} is not served here; see allowed_hosts"
            raise Refusal(421, text)
        if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
            return
        origin = headers.get(b"origin")
        if origin is None:
            # Browsers too old to send this send an Origin; programs send neither.
            cross = headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
        else:
            cross = not self._origin_allowed(origin, host)
        if cross:
            raise Refusal(403, "requests from this web page are refused; see allowed_origins")

    def _host_allowed(self, host: str) -> bool:
        if not host or "*" in self._hosts:
            return True  # Every browser sends one.
        name = host_of(host)
        if name in self._hosts:
            return True
        address = _address(name)
        # Rebinding needs a name: an address says itself where it leads.
        return address is not None and (address.is_loopback or self._any_address)

    def _origin_allowed(self, origin: bytes, host: str) -> bool:
        text = origin.decode("latin-1").lower()
        if text in self._origins or "*" in self._origins:
            return True
        scheme, _, rest = text.partition("://")
        return scheme in ("http", "https") and bool(rest) and rest == host.lower()

    def cors(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Headers:
        """Headers of an answer that let a web page of a listed origin read it."""
        origin = headers.get(b"origin")
        if origin is None or not self._origins:
            return ()
        text = origin.decode("latin-1").lower()
        if text not in self._origins and "*" not in self._origins:
            return ((b"vary", b"origin"),)
        found = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            found += [
                (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
                (b"access-control-allow-headers", b"authorization, content-type"),
                (b"access-control-max-age", _PREFLIGHT_MAX_AGE),
            ]
            if b"access-control-request-private-network" in headers:
                found.append((b"access-control-allow-private-network", b"true"))
        return tuple(found)

    def peer(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
        """The client's address; behind a trusted proxy the last one that is not trusted."""
        client = scope.get("client")
        peer = str(client[0]) if client else "local"
        if not self._proxies or not self._trusted(peer):
            return peer
        forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
        for text in reversed(forwarded):
            name = text.strip()
            if _address(name) is None:
                return peer
            peer = name
            if not self._trusted(peer):
                break
        return peer

    def secure(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether nobody on the way could read it: of a trusted proxy, what that says."""
        if scope["scheme"] in ("https", "wss"):
            return True
        client = scope.get("client")
        if client is None:
            return True  # Over a Unix socket.
        if not self._proxies or not self._trusted(str(client[0])):
            return False
        said = headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2]
        return said.strip().lower() in (b"https", b"wss")

    def _trusted(self, peer: str) -> bool:
        address = _address(peer)
        if address is None:
            return peer == "local"  # Over a Unix socket: whoever may open it.
        return any(address in network for network in self._proxies)


def host_of(text: str) -> str:
    """The host in `host`, `host:port` or `[address]:port`, in lower case; "?" when it is none."""
    match = _HOST.fullmatch(text)
    if match is None:
        return "?"
    return (match[1] or match[2] or "").lower().rstrip(".")


def by_name(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name. Of one that came twice the values are joined, as HTTP has it."""
    found: dict[bytes, bytes] = {}
    for name, value in raw:
        found[name] = found[name] + b", " + value if name in found else value
    return found


@lru_cache(maxsize=4096)
def client_label(peer: str) -> str:
    """What the queue is fair between: an IPv4 address, or the network an IPv6 client has."""
    address = _address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return peer[:MAX_LABEL]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
