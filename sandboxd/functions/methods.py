"""Every ``function.*``, ``execution.*`` and ``key.*`` method and its handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sandboxd.functions import (
    calls,
    execution_methods,
    execution_views,
    function_methods,
    key_methods,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxd.connection import Connection

HANDLERS: Final[dict[str, Callable[[Connection, int, Any], object]]] = {
    "function.create": function_methods.create,
    "function.update": function_methods.update,
    "function.get": function_methods.get,
    "function.list": function_methods.list_all,
    "function.delete": function_methods.delete,
    "function.call": calls.call,
    "execution.create": execution_methods.create,
    "execution.upload": execution_methods.upload,
    "execution.start": execution_methods.start,
    "execution.run": execution_methods.run,
    "execution.run_many": execution_methods.run_many,
    "execution.get": execution_views.get,
    "execution.get_many": execution_views.get_many,
    "execution.list": execution_views.list_all,
    "execution.wait": execution_views.wait,
    "execution.output": execution_views.output,
    "execution.stop": execution_views.stop,
    "execution.delete": execution_views.delete,
    "key.create": key_methods.create,
    "key.list": key_methods.list_all,
    "key.delete": key_methods.delete,
}
