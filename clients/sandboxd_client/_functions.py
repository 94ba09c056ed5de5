"""The calls about functions, executions and keys: one method for each of the protocol.

What the fields mean is said in docs/protocol.md. `key` (the secret of a key) and `tenant` go with
every one of them. Each returns what the daemon answers, as plain values; those of `TrioClient` have
to be awaited. All raise RequestError.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Unpack

    from sandboxd_client.types import (
        CallerOptions,
        CallOptions,
        ExecutionsOptions,
        FunctionChanges,
        FunctionFields,
        FunctionsOptions,
        KeyFields,
        RunFunctionOptions,
        Text,
    )


class FunctionCalls:
    """What both clients can do with functions; `call` is theirs."""

    def call(self, method: str, params: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        """Any method of the protocol."""
        raise NotImplementedError

    # Functions

    def create_function(self, name: str, kind: str, **fields: Unpack[FunctionFields]) -> Any:
        """`function.create`: store a function; returns its description."""
        return self.call("function.create", {"name": name, "kind": kind, **fields})

    def update_function(self, name: str, **fields: Unpack[FunctionChanges]) -> Any:
        """`function.update`: change what is given; `new_name` renames."""
        return self.call("function.update", {"name": name, **fields})

    def function(
        self, name: str, *, code: bool = True, space: str = "main", **caller: Unpack[CallerOptions]
    ) -> Any:
        """`function.get`: one function."""
        return self.call("function.get", {"name": name, "space": space, "code": code, **caller})

    def functions(self, **options: Unpack[FunctionsOptions]) -> Any:
        """`function.list`: a page of functions, `{functions, next?}`."""
        return self.call("function.list", options)

    def delete_function(
        self, name: str, *, space: str = "main", **caller: Unpack[CallerOptions]
    ) -> Any:
        """`function.delete`: what runs of it goes on to its end."""
        return self.call("function.delete", {"name": name, "space": space, **caller})

    def call_function(self, name: str, args: Any = None, **options: Unpack[CallOptions]) -> Any:
        """`function.call`: run it now, keep nothing; `result` is JSON text.

        `args` is any value, or JSON text as bytes.
        """
        return self.call("function.call", {"name": name, "args": args, **options})

    # Executions

    def create_execution(
        self, name: str, *, space: str = "main", **caller: Unpack[CallerOptions]
    ) -> Any:
        """`execution.create`: a pending execution, for uploads."""
        return self.call("execution.create", {"name": name, "space": space, **caller})

    def upload_input(self, id: str, input: str, data: Text, **caller: Unpack[CallerOptions]) -> Any:
        """`execution.upload`: give a pending execution one of its inputs."""
        return self.call("execution.upload", {"id": id, "input": input, "data": data, **caller})

    def start_execution(
        self, id: str, args: Any = None, *, stdin: Text = b"", **caller: Unpack[CallerOptions]
    ) -> Any:
        """`execution.start`: run a pending execution."""
        params = {"id": id, "args": args, "stdin": stdin, **caller}
        return self.call("execution.start", params)

    def run_function(
        self, name: str, args: Any = None, **options: Unpack[RunFunctionOptions]
    ) -> Any:
        """`execution.run`: create, upload and start in one; with `wait`, answered at the end."""
        return self.call("execution.run", {"name": name, "args": args, **options})

    def run_function_many(
        self,
        name: str,
        calls: Sequence[Any],
        *,
        space: str = "main",
        **caller: Unpack[CallerOptions],
    ) -> Any:
        """`execution.run_many`: an execution for each of the `args`; returns `{ids}`."""
        params = {"name": name, "space": space, "calls": calls, **caller}
        return self.call("execution.run_many", params)

    def execution(
        self,
        id: str,
        *,
        log: bool = False,
        log_from: int = 0,
        **caller: Unpack[CallerOptions],
    ) -> Any:
        """`execution.get`: as it is now; with `log`, what it printed from that byte on."""
        params = {"id": id, "log": log, "log_from": log_from, **caller}
        return self.call("execution.get", params)

    def executions_by_id(self, ids: Sequence[str], **caller: Unpack[CallerOptions]) -> Any:
        """`execution.get_many`: those of them that there are."""
        return self.call("execution.get_many", {"ids": ids, **caller})

    def executions(self, **options: Unpack[ExecutionsOptions]) -> Any:
        """`execution.list`: a page of executions, the newest first, `{executions, next?}`."""
        return self.call("execution.list", options)

    def wait_execution(self, id: str, *, log: bool = False, **caller: Unpack[CallerOptions]) -> Any:
        """`execution.wait`: as it is when it has ended."""
        return self.call("execution.wait", {"id": id, "log": log, **caller})

    def execution_output(self, id: str, output: str, **caller: Unpack[CallerOptions]) -> Any:
        """`execution.output`: one of the files it left, `{id, path, data}`."""
        return self.call("execution.output", {"id": id, "output": output, **caller})

    def stop_execution(self, id: str, **caller: Unpack[CallerOptions]) -> Any:
        """`execution.stop`: end it; what it gave so far stays."""
        return self.call("execution.stop", {"id": id, **caller})

    def delete_execution(self, id: str, **caller: Unpack[CallerOptions]) -> Any:
        """`execution.delete`: end it if need be, remove all of it; returns what it was."""
        return self.call("execution.delete", {"id": id, **caller})

    # Keys

    def create_key(self, name: str, role: str, **fields: Unpack[KeyFields]) -> Any:
        """`key.create`: a key; `secret` is shown here and never again."""
        return self.call("key.create", {"name": name, "role": role, **fields})

    def keys(self, **caller: Unpack[CallerOptions]) -> Any:
        """`key.list`: the keys there are, `{keys}`."""
        return self.call("key.list", caller)

    def delete_key(self, name: str, **caller: Unpack[CallerOptions]) -> Any:
        """`key.delete`: what runs with it is cancelled."""
        return self.call("key.delete", {"name": name, **caller})
