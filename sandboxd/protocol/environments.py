"""The params of the ``environment.*`` methods. What they mean is said in docs/protocol.md."""

from typing import Annotated

from msgspec import Meta, Struct

from sandboxd.protocol.models import FdIndex

# Longer than a name may be, so that one that is too long is told what a name is.
Name = Annotated[str, Meta(max_length=256)]


class ArchiveIndex(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the passed descriptors is the archive."""

    archive: FdIndex


class EnvironmentImportParams(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `environment.import`."""

    name: Name
    fds: ArchiveIndex


class EnvironmentRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of `environment.remove`."""

    name: Name
