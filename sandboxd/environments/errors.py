"""Why an archive does not become an environment."""

from sandboxd.protocol.errors import SandboxdError


class ImportRefused(SandboxdError):
    """The archive is not one, or holds what must not be; `str()` names it and says what to do."""
