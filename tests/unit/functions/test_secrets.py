"""The key file, and what is encrypted with it."""

# ruff: noqa: ASYNC240 - A test may wait for its files.

import os
from pathlib import Path

import pytest

from sandboxd.errors import HostError
from sandboxd.functions.secrets import KEY_FILE, Vault
from sandboxd.functions.store import Store
from sandboxd.protocol.errors import RequestError
from sandboxd.state import State

from .conftest import TENANT, a_function, opened


async def refuses(state: State, text: str) -> None:
    with pytest.raises(HostError) as caught:
        async with opened(state):
            pass
    assert text in str(caught.value)
    assert KEY_FILE in str(caught.value)


@pytest.fixture
async def with_context(state: State) -> Path:
    """The key file of a store that has something encrypted."""
    async with opened(state) as store:
        await store.add_function(a_function(context={"a": "b"}))
    return state.root / KEY_FILE


async def test_the_key_is_made_once(state: State) -> None:
    async with opened(state):
        key = (state.root / KEY_FILE).read_bytes()
    assert len(key) == 32
    async with opened(state):
        assert (state.root / KEY_FILE).read_bytes() == key
    assert list(state.staging.iterdir()) == []


async def test_the_key_is_missing(state: State, with_context: Path) -> None:
    with_context.unlink()
    await refuses(state, "is missing, and contexts are encrypted with it")
    assert not with_context.exists()


async def test_the_key_is_missing_and_nothing_needs_it(state: State, with_context: Path) -> None:
    async with opened(state) as store:
        await store.change_function(TENANT, "main", "hello", {"context": {}})
    with_context.unlink()
    async with opened(state) as store:
        await store.change_function(TENANT, "main", "hello", {"context": {"new": 1}})
    async with opened(state) as store:
        assert (await store.function(TENANT, "main", "hello")).context == {"new": 1}


async def test_the_key_is_another_one(state: State, with_context: Path) -> None:
    with_context.write_bytes(os.urandom(32))
    await refuses(state, "is not the key that contexts are encrypted with")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
async def test_others_can_read_the_key(state: State, with_context: Path, mode: int) -> None:
    with_context.chmod(mode)
    await refuses(state, f"mode {mode:04o}")


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33])
async def test_the_key_is_damaged(state: State, with_context: Path, data: bytes) -> None:
    with_context.write_bytes(data)
    await refuses(state, "is damaged")


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
async def test_the_key_is_no_file(state: State, with_context: Path, kind: str) -> None:
    elsewhere = with_context.rename(with_context.parent / "moved")
    if kind == "link":
        with_context.symlink_to(elsewhere)
        await refuses(state, "Too many levels of symbolic links")
        return
    with_context.mkdir() if kind == "directory" else os.mkfifo(with_context, 0o600)
    await refuses(state, "must be a file that belongs to uid")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
async def test_the_key_of_somebody_else(state: State, with_context: Path) -> None:
    os.chown(with_context, 65534, 65534)
    await refuses(state, f"must be a file that belongs to uid {os.geteuid()}")


async def test_a_context_copied_to_another_row(store: Store) -> None:
    """Whoever can write the database cannot give one function the secrets of another."""
    await store.add_function(a_function(context={"token": "of hello"}))
    await store.add_function(a_function(name="mine", context={"token": "of mine"}))
    await store.add_function(a_function(tenant=TENANT + 1, context={"token": "of another"}))
    await store._database.write(
        lambda connection: connection.execute(
            "UPDATE functions SET context = (SELECT context FROM functions WHERE name = 'hello'"
            " AND tenant = ?) WHERE name <> 'hello' OR tenant <> ?",
            (TENANT, TENANT),
        )
    )
    assert (await store.function(TENANT, "main", "hello")).context == {"token": "of hello"}
    for tenant, name in ((TENANT, "mine"), (TENANT + 1, "hello")):
        with pytest.raises(RequestError) as caught:
            await store.function(tenant, "main", name)
        assert caught.value.code == "internal"
        assert "set it again" in str(caught.value)


def test_what_is_not_what_was_encrypted() -> None:
    vault = Vault(os.urandom(32))
    sealed = vault.encrypt(b"secret", "row")
    assert vault.decrypt(sealed, "row") == b"secret"
    assert vault.encrypt(b"secret", "row") != sealed
    flipped = [
        sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))
    ]
    for damaged in (*flipped, b"", sealed[:1], sealed[:20], sealed[:-1], sealed + b"\0"):
        with pytest.raises(RequestError, match="damaged"):
            vault.decrypt(damaged, "row")
    with pytest.raises(RequestError, match="damaged"):
        vault.decrypt(sealed, "another row")
    with pytest.raises(RequestError, match="damaged"):
        Vault(os.urandom(32)).decrypt(sealed, "row")


def test_the_fingerprint_and_the_text_do_not_show_the_key() -> None:
    key = os.urandom(32)
    vault = Vault(key)
    assert vault.fingerprint == Vault(key).fingerprint != Vault(os.urandom(32)).fingerprint
    assert key not in vault.fingerprint
    assert repr(key)[2:-1] not in repr(vault)
