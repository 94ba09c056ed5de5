"""Which paths are PIFOP's: those at the root that begin like AUTHOR/FUNCTION."""

from __future__ import annotations

import re
from typing import Final

from starlette.convertors import Convertor, register_url_convertor

# First parts that the gateway and other wire formats have. No author can be reached by such a name.
RESERVED: Final = frozenset(
    {
        "api", "docs", "environments", "execute", "executions", "functions", "health", "metrics",
        "openapi.json", "sync", "tasks", "v1", "v2",
    }
)  # fmt: skip
NAME: Final = "[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_FREE: Final = f"(?!(?:{'|'.join(map(re.escape, sorted(RESERVED)))})(?:/|$))"
# Also where a name is none: it is said so as PIFOP's clients expect it.
_OWN: Final = re.compile(f"/{_FREE}[^/]+/[^/]+(?:/(?:executions|api_keys)(?:/.*)?)?/?", re.DOTALL)

FUNCTION: Final = "/{author:pifop_author}/{func:pifop_name}"
EXECUTIONS: Final = f"{FUNCTION}/executions"
EXECUTION: Final = f"{EXECUTIONS}/{{id:pifop_name}}"
API_KEYS: Final = f"{FUNCTION}/api_keys"


class _Name(Convertor[str]):
    """A name as the daemon has them."""

    regex = NAME

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Author(_Name):
    """One that is nobody else's path."""

    regex = _FREE + NAME


register_url_convertor("pifop_name", _Name())
register_url_convertor("pifop_author", _Author())


def owns(path: str) -> bool:
    """Whether PIFOP answers for this path, be it there or not."""
    return _OWN.fullmatch(path) is not None


def plain(template: str) -> str:
    """A template of a route as OpenAPI writes it."""
    return re.sub(r":pifop_[a-z]+", "", template)
