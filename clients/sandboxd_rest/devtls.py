"""`--dev-tls`: a certificate for localhost, made here, for people who try things out.

It is signed by itself, good for nothing but this machine, and kept with its key in a directory that
nobody else can look into, so that a client which was told to trust it still does after a restart.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import ssl
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sandboxd.errors import HostError
from sandboxd.logs import fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sandboxd_rest.config import Config

_log = logging.getLogger("sandboxd.rest")

_NAME: Final = "sandboxd-rest-tls"
_DAYS: Final = 90
# A new one is made in time, so that none expires in the middle of a day's work.
_LEFT_S: Final = 7 * 86_400
_TIMEOUT_S: Final = 30.0
# Not a certificate authority: who has the key can pass for localhost and for nobody else.
_REQUEST: Final = b"""\
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = localhost
O = sandboxd-rest --dev-tls
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def with_certificate(config: Config, environ: Mapping[str, str] = os.environ) -> Config:
    """`config` with a certificate for localhost, which is made where there is none that holds.

    Raises HostError where there is no private place to keep it or no openssl(1) to make it.
    """
    directory = _place(environ)
    certificate, key = directory / "localhost.crt", directory / "localhost.key"
    with _alone_in(directory):
        if not _holds(certificate, key):
            _make(certificate, key)
    _log.info("a certificate for localhost %s", fields(trust=certificate))
    return msgspec.structs.replace(config, tls_certificate=str(certificate), tls_key=str(key))


def _place(environ: Mapping[str, str]) -> Path:
    """What systemd made for us, else what the session has, else what the system or account has."""
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given) / _NAME
    if os.geteuid() == 0:
        return Path("/run") / _NAME
    home = environ.get("HOME", "")
    cache = environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
    if not cache:
        raise HostError("--dev-tls: no place for the key; set XDG_RUNTIME_DIR")
    return Path(cache) / _NAME


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Make the directory if need be, see that it is ours alone, and keep other gateways out."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise HostError(f"--dev-tls: {directory}: {exc.strerror}") from exc
    try:
        info = os.fstat(fd)
        if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
            raise HostError(f"--dev-tls: {directory} is not private; remove it, or chmod 700 it")
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _holds(certificate: Path, key: Path) -> bool:
    """Whether both are there, belong together, and stay valid for a while."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        private = not stat.S_IMODE(key.lstat().st_mode) & 0o077
    except (OSError, ssl.SSLError):
        return False
    left = ["x509", "-in", str(certificate), "-noout", "-checkend", str(_LEFT_S)]
    return private and _openssl(left).returncode == 0


def _make(certificate: Path, key: Path) -> None:
    new = [path.with_suffix(f"{path.suffix}.new") for path in (key, certificate)]
    arguments = ["req", "-x509", "-config", "/dev/stdin", "-days", str(_DAYS), "-nodes"]
    arguments += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256"]
    done = _openssl([*arguments, "-keyout", str(new[0]), "-out", str(new[1])], _REQUEST)
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise HostError(f"--dev-tls: openssl: {reason[-1] if reason else 'it failed'}")
    # A crash between the two leaves a pair that does not match, which is made anew.
    for path, final in zip(new, (key, certificate), strict=True):
        path.chmod(0o600)
        path.replace(final)


def _openssl(arguments: list[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["openssl", *arguments],
            input=given,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
            umask=0o077,  # The key is nobody else's from its first byte on.
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        text = "--dev-tls needs openssl(1); install it, or set tls_certificate and tls_key"
        raise HostError(text) from exc
