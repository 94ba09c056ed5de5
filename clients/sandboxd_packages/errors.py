"""What can go wrong with packages before the daemon has them."""

from __future__ import annotations

from sandboxd.protocol.errors import SandboxdError


class PackageError(SandboxdError):
    """Base of the others; the text is for a person."""


class IndexUnavailable(PackageError):
    """The index of packages cannot be read."""


class NoSuchPackage(PackageError):
    """The index has no package of that language in such a version."""


class DownloadFailed(PackageError):
    """Something could not be downloaded; the text names the address and why."""


class BadPackage(PackageError):
    """A directory cannot be made a package; the text names what is wrong."""
