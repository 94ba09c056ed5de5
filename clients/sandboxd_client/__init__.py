"""Client of sandboxd, the daemon that runs untrusted programs each in a sandbox of its own.

    from sandboxd_client import Client

    with Client() as sandbox:
        result = sandbox.run(["python3", "-c", "print(6 * 7)"])
        print(result.status, result.stdout)

`Client` blocks and needs only msgpack; `sandboxd_client.aio.TrioClient` has the same methods for
trio; `sandboxd_client.private.Daemon` starts a daemon of one's own. A job's fate is never an
exception: it is `result.status`. Exceptions are for requests that could not be carried out.
"""

from sandboxd.protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    RequestError,
    SandboxdError,
)
from sandboxd_client._client import Client, ExecutionHandle, JobHandle
from sandboxd_client._connection import DEFAULT_SOCKET, find_socket
from sandboxd_client.errors import ConnectionLost, DaemonUnreachable
from sandboxd_client.result import ExecuteResult, Result, StagesResult

__all__ = [
    "DEFAULT_SOCKET",
    "Client",
    "ConnectionLost",
    "DaemonUnreachable",
    "ExecuteResult",
    "ExecutionHandle",
    "JobHandle",
    "LocalProtocolError",
    "RemoteProtocolError",
    "RequestError",
    "Result",
    "SandboxdError",
    "StagesResult",
    "find_socket",
]
