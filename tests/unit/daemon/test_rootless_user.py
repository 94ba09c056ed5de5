"""What a daemon without root makes of its user and configuration, before it enters anything."""

from pathlib import Path

import msgspec
import pytest

from sandboxd import rootless
from sandboxd.config import Config
from sandboxd.engine import wire
from sandboxd.errors import ConfigError, HostError
from sandboxd.rootless import User

PLENTY = (range(100_000, 165_536),)
ALICE = User("alice", 1000, 1000, PLENTY, PLENTY)
CONFIG = Config(jobs=2, spare_slots=2, warm_slots=1)
NEEDED = 5 * wire.SLOT_UIDS


def with_ids(uids: int, gids: int) -> User:
    return User("alice", 1000, 1000, (range(uids),), (range(gids),))


def test_ranges_are_those_of_the_name_and_the_number(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text(
        "alice:100000:65536\nbob:165536:65536\n1000:300000:10\n10001:1:1\n"
        "\n# alice:1:1\nalice:x:1\nalice:5\nalice:400000:0\nalice:500000:7\n"
    )
    assert rootless._ranges(file, "alice", 1000) == (
        range(100_000, 165_536), range(300_000, 300_010), range(500_000, 500_007)
    )  # fmt: skip
    assert rootless._ranges(tmp_path / "none", "alice", 1000) == ()


def test_ids_come_from_the_middle() -> None:
    first = rootless.choose_ids(CONFIG, ALICE)
    assert first == 1 + (65_536 - NEEDED) // 2


def test_exactly_enough_ids() -> None:
    assert rootless.choose_ids(CONFIG, with_ids(NEEDED, NEEDED)) == 1
    assert rootless.choose_ids(CONFIG, with_ids(NEEDED + 100, NEEDED)) == 1


@pytest.mark.parametrize(
    ("uids", "gids", "file"),
    [(0, 65_536, "/etc/subuid"), (65_536, 0, "/etc/subgid"), (65_536, NEEDED - 1, "/etc/subgid")],
)
def test_too_few_ids_are_one_sentence_with_the_cure(uids: int, gids: int, file: str) -> None:
    with pytest.raises(HostError) as caught:
        rootless.choose_ids(CONFIG, with_ids(uids, gids))
    words = str(caught.value)
    assert words.startswith(f"{file} gives alice {min(uids, gids) or 'no'} subordinate ids")
    assert f"sandboxes need {NEEDED}" in words
    assert f"usermod --add-{'subuids' if file.endswith('uid') else 'subgids'} " in words


def test_it_serves_its_user_alone() -> None:
    config = rootless.serve_alone(CONFIG, ALICE)
    assert (config.allowed_uids, config.allowed_gids, config.admin_uids) == ((0,), (), (0,))
    assert (config.socket_mode, config.socket_group) == (0o600, "0")


@pytest.mark.parametrize(
    "asked",
    [
        {"allowed_uids": (1000,)},
        {"admin_uids": (1000,)},
        {"user": "alice"},
        {"user": "1000"},
        {"socket_group": "1000"},
        {"socket_mode": 0o400},
    ],
)
def test_to_name_oneself_is_no_mistake(asked: dict[str, object]) -> None:
    rootless.serve_alone(msgspec.structs.replace(CONFIG, **asked), ALICE)


@pytest.mark.parametrize(
    "asked",
    [
        {"allowed_uids": (0,)},
        {"allowed_uids": (1000, 1001)},
        {"allowed_gids": (1000,)},
        {"admin_uids": (1001,)},
        {"socket_mode": 0o620},
        {"socket_group": "adm"},
        {"user": "bob"},
        {"uid_base": 70_000},
    ],
)
def test_to_serve_others_is_refused_by_its_name(asked: dict[str, object]) -> None:
    (key,) = asked
    with pytest.raises(ConfigError, match=f"^{key}: without root sandboxd serves nobody but alice"):
        rootless.serve_alone(msgspec.structs.replace(CONFIG, **asked), ALICE)


def test_no_administrator_is_none() -> None:
    config = msgspec.structs.replace(CONFIG, admin_uids=())
    assert rootless.serve_alone(config, ALICE).admin_uids == ()
