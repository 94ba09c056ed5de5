"""What must not be read off the disk: contexts are encrypted with a key file that the daemon makes.

The cipher is XChaCha20-Poly1305 of libsodium: its nonces are long enough to be drawn at random. The
row that a context belongs to is authenticated with it, so that one copied to another row does not
decrypt. Whoever can read the key file and the database can read every context.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from sandboxd.errors import HostError
from sandboxd.functions.database import sync_directory
from sandboxd.functions.function_rows import has_contexts
from sandboxd.protocol.errors import INTERNAL, RequestError

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

KEY_FILE: Final = "secret.key"
_KEY_BYTES: Final = 32
# In front of each ciphertext, for a later change of the cipher.
_VERSION: Final = b"\x01"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Vault:
    """Encrypts and decrypts with one key, which `repr` does not show."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def fingerprint(self) -> bytes:
        """Tells this key from another one, and nothing about it."""
        return hmac.digest(self._key, b"sandboxd: which key is this", hashlib.sha256)

    def encrypt(self, plain: bytes, row: str) -> bytes:
        """``row`` names where the answer is kept."""
        from nacl.secret import Aead  # 4 MB, which a daemon without contexts does without.

        return _VERSION + bytes(Aead(self._key).encrypt(plain, row.encode()))

    def decrypt(self, sealed: bytes, row: str) -> bytes:
        """Raises RequestError `internal` when it is not what was encrypted for ``row``."""
        from nacl.exceptions import CryptoError
        from nacl.secret import Aead

        try:
            if sealed[:1] != _VERSION:
                raise CryptoError("of an unknown version")
            return bytes(Aead(self._key).decrypt(sealed[1:], row.encode()))
        except (CryptoError, ValueError):
            text = f"the context of {row} is damaged; set it again"
            raise RequestError(INTERNAL, text) from None


def open_vault(root: Path, staging: Path, connection: sqlite3.Connection) -> Vault:
    """The vault with the key of ``root``; a new key where there is none.

    The database keeps the fingerprint of the key in use. Raises HostError when that key is missing
    or another one, and contexts are encrypted with it; or when others may read it.
    """
    path = root / KEY_FILE
    needed = has_contexts(connection)
    try:
        key = _read(path)
        if key is None and needed:
            raise HostError(
                f"{path} is missing, and contexts are encrypted with it: restore it from a backup,"
                " or move functions.db away to begin anew"
            )
        vault = Vault(key or _make(path, staging))
    except OSError as exc:
        raise HostError(f"{path}: {exc.strerror}") from exc
    if needed:
        _require_same(vault, _fingerprint(connection), path)
    connection.execute(
        "INSERT INTO meta (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (KEY_FILE, vault.fingerprint),
    )
    return vault


def _fingerprint(connection: sqlite3.Connection) -> bytes:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (KEY_FILE,)).fetchone()
    return b"" if row is None else bytes(row[0])


def _require_same(vault: Vault, fingerprint: bytes, path: Path) -> None:
    if not hmac.compare_digest(vault.fingerprint, fingerprint):
        raise HostError(
            f"{path} is not the key that contexts are encrypted with: restore that one from a"
            " backup, or move functions.db away to begin anew"
        )


def _read(path: Path) -> bytes | None:
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise HostError(f"{path} must be a file that belongs to uid {os.geteuid()}")
        if found.st_mode & 0o077:
            raise HostError(
                f"{path} can be read by others (mode {found.st_mode & 0o777:04o}): chmod 600 it;"
                " where somebody may have read it, make the contexts' secrets anew"
            )
        key = os.read(fd, _KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != _KEY_BYTES:
        raise HostError(f"{path} is damaged: a key has {_KEY_BYTES} bytes; restore it")
    return key


def _make(path: Path, staging: Path) -> bytes:
    """It has its name only when it is complete and on the disk. A link replaces nothing."""
    key = secrets.token_bytes(_KEY_BYTES)
    staged = staging / f"key-{secrets.token_hex(8)}"
    fd = os.open(staged, _NEW, 0o600)
    try:
        os.write(fd, key)
        os.fsync(fd)
        os.link(staged, path)
    finally:
        os.close(fd)
        os.unlink(staged)
    sync_directory(path.parent)
    return key
