"""HTTPS for PIFOP's API: certificates, and what is refused without."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from compat.gateway import NotStarted, running
from compat.pifop import Caller, certificate, serving
from sandboxd_rest.config import Config
from sandboxd_rest.devtls import with_certificate
from support.requirements import CLEAN_ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

NO_DAEMON = "/nonexistent/socket"

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


def trusting(directory: Path) -> ssl.SSLContext:
    """A client that trusts the certificate and is as strict as one can be."""
    context = ssl.create_default_context(cafile=str(certificate(directory)))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_a_handshake_with_the_certificate_it_made(tmp_path: Path) -> None:
    with serving(NO_DAEMON, tmp_path) as gateway:
        assert f"trust={certificate(tmp_path)}" in gateway.log_text()
        call = Caller(gateway, "x", trusting(tmp_path))
        assert call("GET", "/").status == 200
        assert call.refused("GET", "/joe/tsp") == (
            503,
            "sandboxd is not running; try again later",
        )
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
            context = trusting(tmp_path)
            with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
                assert tls.version() in ("TLSv1.2", "TLSv1.3")
        offering = trusting(tmp_path)
        offering.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", gateway.port), 10) as sock,
            offering.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            assert tls.selected_alpn_protocol() == "http/1.1"
        with (
            pytest.raises(ssl.SSLCertVerificationError),
            socket.create_connection(("127.0.0.1", gateway.port), 10) as sock,
        ):
            trusting(tmp_path).wrap_socket(sock, server_hostname="example.org")
        with (
            pytest.raises(ssl.SSLCertVerificationError),
            socket.create_connection(("127.0.0.1", gateway.port), 10) as sock,
        ):
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")


def test_no_plain_http_where_there_is_tls(tmp_path: Path) -> None:
    with (
        serving(NO_DAEMON, tmp_path, keep_alive_timeout_ns="1s") as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), 15) as sock,
    ):
        sock.sendall(b"GET /joe/tsp HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not sock.recv(4096).startswith(b"HTTP")


def test_its_key_is_private_and_kept(tmp_path: Path) -> None:
    with serving(NO_DAEMON, tmp_path):
        key = certificate(tmp_path).with_suffix(".key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
        first = certificate(tmp_path).read_bytes()
        assert key.read_text() not in first.decode()
    with serving(NO_DAEMON, tmp_path):
        assert certificate(tmp_path).read_bytes() == first


@pytest.mark.parametrize("how", ["no key", "another key", "nonsense", "readable", "expires"])
def test_one_that_does_not_hold_is_made_anew(tmp_path: Path, how: str) -> None:
    with serving(NO_DAEMON, tmp_path):
        pass
    path, key = certificate(tmp_path), certificate(tmp_path).with_suffix(".key")
    if how == "no key":
        key.unlink()
    elif how == "nonsense":
        path.write_text("nonsense")
    elif how == "readable":
        key.chmod(0o644)
    else:
        made = tmp_path / "other.crt", tmp_path / "other.key"
        arguments = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"]
        arguments += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"]
        arguments += ["-out", str(made[0]), "-keyout", str(made[1])]
        subprocess.run(arguments, check=True, capture_output=True)
        key.write_bytes(made[1].read_bytes())
        if how == "expires":
            path.write_bytes(made[0].read_bytes())
    old = path.read_bytes()
    with serving(NO_DAEMON, tmp_path) as gateway:
        assert path.read_bytes() != old
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert Caller(gateway, "x", trusting(tmp_path))("GET", "/").status == 200


def test_a_place_that_others_can_look_into_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "sandboxd-rest-tls"
    place.mkdir()
    place.chmod(0o755)
    with pytest.raises(NotStarted) as caught, serving(NO_DAEMON, tmp_path):
        pass
    status, text = caught.value.args
    assert status == 1
    assert "is not private" in text
    place.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place.symlink_to(elsewhere)
    with pytest.raises(NotStarted), serving(NO_DAEMON, tmp_path):
        pass
    assert not list(elsewhere.iterdir())


def test_without_openssl_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandboxd_rest", "--dev-tls", "--bind", "127.0.0.1:0"],
        env=CLEAN_ENVIRONMENT | {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd="/",
    )
    assert done.returncode == 1
    assert done.stderr.startswith("sandboxd-rest: --dev-tls needs openssl(1); install it, or")
    assert done.stderr.count("\n") == 1


def test_https_and_plain_http_side_by_side(tmp_path: Path) -> None:
    """The others' clients go on with HTTP; PIFOP's API is not served there."""
    with serving(NO_DAEMON, tmp_path, plain_bind=["127.0.0.1:0"]) as gateway:
        ports = dict(re.findall(r"on=(https?)://127\.0\.0\.1:([0-9]+)", gateway.log_text()))
        gateway.port = int(ports["https"])
        secure = Caller(gateway, "x", trusting(tmp_path))
        assert secure("GET", "/").status == 200
        assert secure.refused("GET", "/joe/tsp")[0] == 503
        gateway.port = int(ports["http"])
        assert Caller(gateway, "x")("GET", "/").status == 200
        assert Caller(gateway, "x").refused("GET", "/joe/tsp")[0] == 403


# -- plain HTTP ----------------------------------------------------------------------------------


def test_plain_http_is_refused() -> None:
    with running(NO_DAEMON) as gateway:
        call = Caller(gateway, "x")
        for method, path in (("GET", "/joe/tsp"), ("POST", "/joe/tsp/executions")):
            status, message = call.refused(method, path)
            assert status == 403
            assert "HTTPS" in message
        # Said by nobody that is trusted.
        assert call.refused("GET", "/joe/tsp", x_forwarded_proto="https")[0] == 403
        assert call("GET", "/").json == {"message": "Piston v3.1.1"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/joe/tsp//"),
        ("GET", "/joe/tsp%0a"),
        ("GET", "/joe/%74sp/%2f"),
        ("POST", "/joe/tsp/executions%0a"),
        ("POST", "/joe/tsp/api_keys%0a?key_name=x"),
        ("POST", "/joe/tsp/api_keys///?key_name=x"),
    ],
)
def test_plain_http_is_refused_however_the_path_is_written(method: str, path: str) -> None:
    """Without a daemon, what is let in is answered with 503."""
    with running(NO_DAEMON) as gateway:
        assert Caller(gateway, "x")(method, path).status in (403, 404)


def test_plain_http_where_it_is_configured() -> None:
    with running(NO_DAEMON, pifop={"plain_http": True}) as gateway:
        assert Caller(gateway, "x").refused("GET", "/joe/tsp")[0] == 503
        assert Caller(gateway, None).refused("GET", "/joe/tsp")[0] == 401


def test_what_a_trusted_proxy_says() -> None:
    with running(NO_DAEMON, trusted_proxies=["127.0.0.0/8"]) as gateway:
        call = Caller(gateway, "x")
        assert call.refused("GET", "/joe/tsp", x_forwarded_proto="https")[0] == 503
        assert call.refused("GET", "/joe/tsp", x_forwarded_proto="http, HTTPS")[0] == 503
        assert call.refused("GET", "/joe/tsp", x_forwarded_proto="https, http")[0] == 403
        assert call.refused("GET", "/joe/tsp")[0] == 403


def test_a_unix_socket_is_private(tmp_path: Path) -> None:
    path = f"{tmp_path}/rest"
    with (
        running(NO_DAEMON, bind=[f"unix:{path}"]),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock,
    ):
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(
            b"GET /joe/tsp HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Authorization: Bearer x\r\n\r\n"
        )
        assert sock.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_a_web_page_of_an_allowed_origin_may_ask_with_a_key(tmp_path: Path) -> None:
    origin = "https://play.example"
    with serving(NO_DAEMON, tmp_path, allowed_origins=[origin]) as gateway:
        call = Caller(gateway, None, trusting(tmp_path))
        answer = call(
            "OPTIONS",
            "/joe/tsp/executions",
            origin=origin,
            access_control_request_method="POST",
            access_control_request_headers="authorization",
        )
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == origin
        assert "authorization" in answer.headers["access-control-allow-headers"]
        other = call("POST", "/joe/tsp/executions", origin="https://evil.example")
        assert other.status == 403


def test_several_at_once_make_one_certificate(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: with_certificate(Config(), environ), range(4)))
    assert {config.tls_certificate for config in made} == {str(certificate(tmp_path))}
    assert sorted(os.listdir(certificate(tmp_path).parent)) == ["localhost.crt", "localhost.key"]
    with serving(NO_DAEMON, tmp_path) as gateway:
        assert Caller(gateway, "x", trusting(tmp_path))("GET", "/").status == 200
