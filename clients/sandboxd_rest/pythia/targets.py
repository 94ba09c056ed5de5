"""Where a result may be posted to.

A callback is an address that anybody may name, and the gateway stands where others do not: so only
hosts that were configured are taken, their names are resolved once, every address is checked, and
only to a checked one is connected.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from sandboxd_rest.http import Refusal

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from sandboxd_rest.pythia.settings import Settings

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS: Final = {"http": 80, "https": 443}
_MAX_URL: Final = 2048
_RESOLVE_S: Final = 5.0
# 6to4, Teredo and NAT64 carry an IPv4 address that would have to be checked, too.
_TUNNELS: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48")
)


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL, and the addresses that its host has."""

    tls: bool
    host: str
    port: int
    path: str
    """With the query."""
    addresses: tuple[str, ...]

    @property
    def authority(self) -> str:
        """For the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = _PORTS["https" if self.tls else "http"]
        return host if self.port == usual else f"{host}:{self.port}"


async def check(url: str, settings: Settings) -> Target:
    """The target that a URL names. Raises Refusal (400), saying what is wrong with it."""
    parts = _split(url)
    host, port = (parts.hostname or "").lower().rstrip("."), _port(parts)
    if not _allowed(host, port, settings):
        raise Refusal(400, f"callback: {host[:80]!r} is not among pythia.callback_hosts")
    addresses = await _resolve(host, port)
    for address in addresses:
        if not settings.callback_private and not is_public(address):
            raise Refusal(
                400, f"callback: {host[:80]!r} has the address {address}, which is not public"
            )
    path = parts.path or "/"
    return Target(
        tls=parts.scheme == "https",
        host=host,
        port=port,
        path=f"{path}?{parts.query}" if parts.query else path,
        addresses=tuple(str(address) for address in addresses),
    )


def is_public(address: Address) -> bool:
    """Whether everybody on the Internet reaches the same host by it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.is_site_local or any(address in network for network in _TUNNELS):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _split(url: str) -> SplitResult:
    if (
        len(url) > _MAX_URL
        or not url.isascii()
        or any(char <= " " or char == "\x7f" for char in url)
    ):
        raise Refusal(400, "callback must be a URL of printable ASCII characters")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Refusal(400, "callback is no URL") from None
    if parts.scheme not in _PORTS:
        raise Refusal(400, "callback must begin with http:// or https://")
    if parts.username is not None or parts.password is not None or "\\" in parts.netloc:
        raise Refusal(400, "callback must name a host, and no user")
    return parts


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise Refusal(400, "callback has no such port") from None


def _allowed(host: str, port: int, settings: Settings) -> bool:
    if not host:
        return False
    for text in settings.callback_hosts:
        name = text.lower()
        if name in ("*", host, f"{host}:{port}", f"[{host}]", f"[{host}]:{port}"):
            return True
        if name.startswith("*.") and host.endswith(name[1:]):
            return True
    return False


async def _resolve(host: str, port: int) -> list[Address]:
    """All its addresses, asked for once. Raises Refusal."""
    with trio.move_on_after(_RESOLVE_S):
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Refusal(400, f"callback: {host[:80]!r} has no address") from None
        texts = dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found)
        return [ipaddress.ip_address(text) for text in texts]
    raise Refusal(503, f"callback: the address of {host[:80]!r} could not be found out in time")
