"""An archive for the daemon to read: a file, or a directory that is packed first."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    Archive = str | os.PathLike[str] | int


class OpenArchive:
    """A descriptor of an archive. `with` closes what was opened for it.

    A directory is packed as a whole, into a file without a name in $TMPDIR or /var/tmp, before the
    daemon hears of it: so what goes wrong with that goes wrong here. Symlinks are packed as such.
    """

    def __init__(self, archive: Archive) -> None:
        """`archive` is a path, or a descriptor that stays the caller's. Raises OSError.

        Blocks for as long as packing takes.
        """
        self._ours = not isinstance(archive, int)
        if isinstance(archive, int):
            self.fd = archive
        elif os.path.isdir(archive):
            self.fd = _pack(archive)
        else:
            self.fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> OpenArchive:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ours:
            os.close(self.fd)


def _pack(directory: str | os.PathLike[str]) -> int:
    import tarfile  # Few need it, and it takes 15 ms.
    import tempfile

    place = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108 - the file has no name there
    with tempfile.TemporaryFile(dir=place) as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(directory, arcname=".")
        file.flush()
        return os.dup(file.fileno())
