"""The params of the ``package.*`` methods. What they mean is said in docs/protocol.md."""

from msgspec import Struct

from sandboxd.protocol import package_names
from sandboxd.protocol.environments import ArchiveIndex, Name
from sandboxd.protocol.errors import invalid


class PackageRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `package.uninstall`."""

    language: Name
    version: Name


class PackageInstallParams(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `package.install`."""

    language: Name
    version: Name
    sha256: Name
    fds: ArchiveIndex


def check_package(language: str, version: str) -> None:
    """Both are names of directories. Raises RequestError."""
    if not package_names.is_language(language):
        raise invalid(
            "language",
            "must be 1 to 64 of the characters A-Z a-z 0-9 _ + # . -, the first none of + # . -",
        )
    if not package_names.is_version(version):
        raise invalid("version", "must be of the form 1.2.3 or 1.2.3-rc.1")


def check_sha256(text: str) -> None:
    """Raises RequestError."""
    if not package_names.is_sha256(text):
        raise invalid("sha256", "must be 64 lower-case hexadecimal digits")
