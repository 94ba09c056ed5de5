"""The examples of configuration show the real settings, and defaults that are those of the code."""

import re
import tomllib
from pathlib import Path

import pytest

from sandboxd import config as daemon
from sandboxd_rest import config as gateway
from support.requirements import REPOSITORY

EXAMPLES = REPOSITORY / "docs/examples"


def as_if_used(name: str) -> str:
    """The example with every setting that is commented out in force."""
    return re.sub(r"(?m)^#(?=\S)", "", (EXAMPLES / name).read_text())


@pytest.mark.parametrize("name", ["sandboxd.toml", "sandboxd-rest.toml"])
def test_the_example_itself_sets_nothing(name: str) -> None:
    assert not tomllib.loads((EXAMPLES / name).read_text())


def test_the_daemons_defaults(tmp_path: Path) -> None:
    text = as_if_used("sandboxd.toml")
    assert len(tomllib.loads(text)) > 12
    file = tmp_path / "sandboxd.toml"
    file.write_text(text)
    assert daemon.load(file, environ={}) == daemon.Config()


def test_the_daemons_limits_are_complete() -> None:
    values = tomllib.loads(as_if_used("sandboxd.toml"))
    assert set(values["limits"]) == set(values["max_limits"])
    assert set(values["limits"]) == set(daemon.Limits.__struct_fields__)


def test_the_gateways_defaults(tmp_path: Path) -> None:
    text = as_if_used("sandboxd-rest.toml")
    assert len(tomllib.loads(text)) > 10
    file = tmp_path / "sandboxd-rest.toml"
    file.write_text(text)
    assert gateway.load(file, environ={}) == gateway.Config()
