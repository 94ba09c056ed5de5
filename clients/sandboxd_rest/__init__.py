"""The REST gateway: HTTP and WebSocket in, the daemon's Unix socket out.

An unprivileged process of its own and a client like any other. `app` is the shell that every wire
format shares; each format ("dialect") is a package beside it that only translates.
"""
