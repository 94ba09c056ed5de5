"""What is written beside a root file system: where it comes from and what it brings along."""

import os
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from sandboxd.environments import beneath

FILE: Final = "environment.json"
ROOT: Final = "rootfs"
_MOST_BYTES: Final = 1024 * 1024
_FORMAT: Final = 1


class Defaults(Struct, frozen=True, forbid_unknown_fields=True):
    """What an image's configuration says about programs in it."""

    env: dict[str, str] = {}
    working_directory: str = ""


class Description(Struct, frozen=True, forbid_unknown_fields=True):
    """One environment. ``source`` is `tar`, `oci` or `docker`; sizes are those of the files."""

    name: str
    source: str
    size_bytes: Annotated[int, Meta(ge=0)]
    files: Annotated[int, Meta(ge=0)]
    imported_ns: int
    defaults: Defaults = Defaults()
    format: Annotated[int, Meta(ge=1, le=_FORMAT)] = _FORMAT


def write(directory: int, description: Description) -> None:
    """Write it into the environment's directory, to the disk. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(FILE, flags, 0o644, dir_fd=directory), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(description), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.fsync(directory)


def read(directory: int) -> Description:
    """Read it from the environment's directory. Raises OSError or msgspec.DecodeError."""
    data = beneath.read_file(directory, FILE, _MOST_BYTES)
    return msgspec.json.decode(data, type=Description)
