"""Why the daemon does not start. Each carries one sentence for the administrator."""

from sandboxd.protocol.errors import SandboxdError


class ConfigError(SandboxdError):
    """The configuration is wrong; the text names where it stands and the key."""


class HostError(SandboxdError):
    """The host lacks something sandboxd cannot do without; the text says how to get it."""
