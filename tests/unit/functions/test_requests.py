"""How much of requests there may be at once."""

import pytest

from sandboxd.functions.requests import Requests
from sandboxd.protocol.errors import RequestError


def test_one_uid_leaves_room() -> None:
    requests = Requests(100)
    requests.enter(1, 75)
    with pytest.raises(RequestError, match="requests of yours with 75 bytes"):
        requests.enter(1, 1)
    requests.enter(2, 25)
    with pytest.raises(RequestError, match="requests with 100 bytes") as caught:
        requests.enter(3, 1)
    assert caught.value.code == "busy"
    assert caught.value.data["retry_after_ns"]
    requests.leave(1, 75)
    requests.enter(1, 75)


def test_a_large_one_is_taken_alone() -> None:
    requests = Requests(100)
    requests.enter(1, 1000)
    with pytest.raises(RequestError):
        requests.enter(2, 1)
    requests.leave(1, 1000)
    requests.enter(2, 1)
    with pytest.raises(RequestError):
        requests.enter(1, 1000)
