"""What limits in a request mean: nobody gets "none" by asking for nothing."""

import pytest

from sandboxd.protocol.errors import LIMIT_EXCEEDED, RequestError
from sandboxd.protocol.limits import LIMIT_NAMES, JobLimits, LimitPolicy
from sandboxd.protocol.models import Limits

CONFIGURED = JobLimits(*range(1, 11))
MAXIMUM = JobLimits(*range(100, 110))
POLICY = LimitPolicy(CONFIGURED, MAXIMUM)


@pytest.mark.parametrize(
    "asked",
    [None, Limits(), *(Limits(**{name: 0}) for name in LIMIT_NAMES)],
    ids=repr,
)
def test_absent_nil_and_zero_are_the_configured_limit(asked: Limits | None) -> None:
    assert POLICY.resolve(asked) == CONFIGURED


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_each_limit_is_its_own(name: str) -> None:
    resolved = POLICY.resolve(Limits(**{name: 50}))
    for other in LIMIT_NAMES:
        wanted = 50 if other == name else getattr(CONFIGURED, other)
        assert getattr(resolved, other) == wanted


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_the_most_is_allowed_and_no_more(name: str) -> None:
    most = getattr(MAXIMUM, name)
    assert getattr(POLICY.resolve(Limits(**{name: most})), name) == most
    with pytest.raises(RequestError) as caught:
        POLICY.resolve(Limits(**{name: most + 1}), "compile.limits")
    assert caught.value.code == LIMIT_EXCEEDED
    assert caught.value.data == {"field": f"compile.limits.{name}", "maximum": most}
    assert str(caught.value) == (
        f"compile.limits.{name}: {most + 1} is more than this server allows; at most {most}"
    )


def test_names_match_the_models() -> None:
    assert JobLimits.__struct_fields__ == LIMIT_NAMES
