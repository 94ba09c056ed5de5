"""The command line, without starting anything."""

import os

import pytest
import trio

from sandboxd import __main__ as command
from sandboxd.errors import ConfigError, HostError


def flags(*argv: str) -> dict[str, object]:
    return command._flags(command._parser().parse_args(argv))


def test_only_what_is_given_overrides() -> None:
    assert flags() == {}
    assert flags("--socket", "/x", "--jobs", "3", "--log-level", "debug") == {
        "socket": "/x", "jobs": 3, "log_level": "debug",
    }  # fmt: skip


def test_private_is_for_one_user_alone() -> None:
    private = flags("--private", "--socket", "/x")
    assert private["allowed_uids"] == private["admin_uids"] == [os.getuid()]
    assert private["socket_mode"] == 0o600
    assert private["log_level"] == "warning"
    assert flags("--private", "--log-level", "debug")["log_level"] == "debug"


def test_a_descriptor_is_taken_from_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    monkeypatch.setenv("SANDBOXD_READY_FD", str(writer))
    assert command._take_fd("SANDBOXD_READY_FD") == writer
    assert not os.get_inheritable(writer)
    assert command._take_fd("SANDBOXD_READY_FD") is None
    os.close(reader)
    os.close(writer)


async def test_an_expected_error_is_found_in_a_nursery() -> None:
    async def fail() -> None:
        raise HostError("no luck")

    async def serve() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(trio.sleep_forever)
            inner.start_soon(fail)

    with pytest.raises(ExceptionGroup) as caught:
        await serve()
    assert str(command._only_error(caught.value)) == "no luck"


def test_a_bug_is_not_hidden_behind_an_expected_error() -> None:
    group = ExceptionGroup("both", [HostError("expected"), ZeroDivisionError()])
    with pytest.raises(ExceptionGroup):
        command._only_error(group)


@pytest.mark.parametrize(("error", "code"), [(ConfigError("a\nb"), 78), (HostError("a\nb"), 1)])
def test_a_failure_is_one_line_and_told_to_who_started_it(
    error: ConfigError | HostError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    assert command._fail(error, writer) == code
    os.close(writer)
    assert os.read(reader, 100) == b"a b\n"
    os.close(reader)
    assert capsys.readouterr().err == "sandboxd: a b\n"
