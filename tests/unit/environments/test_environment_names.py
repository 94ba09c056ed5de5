"""Names of environments."""

import pytest

from sandboxd.environments.names import check_name, is_name
from sandboxd.protocol.errors import RequestError


@pytest.mark.parametrize("name", ["a", "0", "Debian-12.1_x", "a" * 64, "a.", "a..b"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "-a", "_a", "a/b", "/a", "a\0", "a\n", "a b", "ä", "a" * 65, "../x", "٣"],
)
def test_bad_names(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(RequestError, match="must be 1 to 64") as caught:
        check_name(name)
    assert caught.value.data == {"field": "name"}
