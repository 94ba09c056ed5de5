"""Values of many megabytes as JSON, while others go on.

The encoder of the standard library does a value in one step, which lets no other thread run. Here
a value is encoded in a thread and in many steps.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio
from msgspec import Struct, structs

from sandboxd.functions.definitions import encode_json
from sandboxd.protocol.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    Params = TypeVar("Params", bound=Struct)

_LARGE_BYTES: Final = 1024 * 1024
_STEP: Final = 512
_CONTAINERS: Final = frozenset({list, dict})


def is_large(message_bytes: int) -> bool:
    """Whether what such a message has may take long to be encoded."""
    return message_bytes > _LARGE_BYTES


async def with_json(params: Params, field: str, message_bytes: int) -> Params:
    """With JSON text as bytes instead of the value of that field, or with the same value where the
    message was not large. Raises RequestError for what is no JSON."""
    value = getattr(params, field)
    if value is None or type(value) is bytes or not is_large(message_bytes):
        return params
    many = field == "calls"
    work: Callable[[], object] = partial(_each if many else to_json, value, field)
    return structs.replace(params, **{field: await trio.to_thread.run_sync(work)})


def _each(values: list[Any], field: str) -> list[Any]:
    return [
        value if value is None or type(value) is bytes else to_json(value, f"{field}[{n}]")
        for n, value in enumerate(values)
    ]


def to_json(value: object, field: str) -> bytes:
    """As `definitions.to_json` of a value, in many steps."""
    out = io.StringIO()
    try:
        _write(value, out.write)
        return out.getvalue().encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise invalid(field, f"is no JSON value: {exc}") from None


def _write(value: Any, write: Callable[[str], object]) -> None:
    if type(value) is list:
        write("[")
        for start in range(0, len(value), _STEP):
            write("," if start else "")
            part = value[start : start + _STEP]
            if _CONTAINERS.isdisjoint(map(type, part)):
                write(encode_json(part)[1:-1])
            else:
                _write_items(part, write)
        write("]")
    elif type(value) is dict:
        write("{")
        for n, (key, item) in enumerate(value.items()):
            write("," if n else "")
            write(encode_json({key: 0})[1:-2])  # The key with its colon.
            _write(item, write)
        write("}")
    else:
        write(encode_json(value))


def _write_items(part: list[Any], write: Callable[[str], object]) -> None:
    for n, item in enumerate(part):
        write("," if n else "")
        _write(item, write)
