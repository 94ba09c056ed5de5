"""Which addresses are public, and which hosts are allowed."""

import ipaddress

import pytest

from sandboxd_rest.http import Refusal
from sandboxd_rest.pythia import targets
from sandboxd_rest.pythia.settings import Settings


@pytest.mark.parametrize(
    "text", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8"]
)
def test_public(text: str) -> None:
    assert targets.is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.31.0.1", "192.168.0.1",  # noqa: S104
        "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::",
        "2001:0:1::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_not_public(text: str) -> None:
    assert not targets.is_public(ipaddress.ip_address(text))


ANY = Settings(callback_hosts=("good.example", "*.wide.example", "port.example:8080", "8.8.8.8"))


@pytest.mark.parametrize(
    "url",
    [
        "http://bad.example/", "http://good.example.bad.example/", "http://wide.example/",
        "http://awide.example/", "http://port.example/", "http://port.example:80/",
        "http://good.example@bad.example/", "https://8.8.4.4/",
    ],
)  # fmt: skip
async def test_hosts_that_are_not_allowed(url: str) -> None:
    with pytest.raises(Refusal) as refusal:
        await targets.check(url, ANY)
    assert refusal.value.status == 400


async def test_what_is_allowed() -> None:
    found = await targets.check("https://8.8.8.8/a/b?c=d#e", ANY)
    assert (found.tls, found.port, found.path) == (True, 443, "/a/b?c=d")
    assert (found.authority, found.addresses) == ("8.8.8.8", ("8.8.8.8",))
    found = await targets.check("http://8.8.8.8:8080", ANY)
    assert (found.tls, found.authority, found.path) == (False, "8.8.8.8:8080", "/")
