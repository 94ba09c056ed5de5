"""What an archive may be and take: the arguments of the child, shared with the daemon's side."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that is taken; beyond any of it the archive is refused."""

    archive_bytes: int = 4 * GIB
    """Of the archive as it comes."""
    total_bytes: int = 16 * GIB
    """Of all files together."""
    file_bytes: int = 8 * GIB
    """Of one file."""
    members: int = 400_000
    """And directories that are only in the names of others."""
    ratio: int = 100
    """Unpacked to packed, once more than 64 MiB are unpacked. gzip can do 1032, real trees 10."""
    depth: int = 64
    """Levels of directories."""
    cpu_s: int = 600
    memory_bytes: int = 1 * GIB
    """Address space. `xz -9` needs 65 MiB."""
    idle_s: int = 60
    """How long the archive may not go on coming."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for."""

    sha256: str = ""
    """Of the archive, 64 lower-case hexadecimal digits; empty: it is only computed."""
    prefix: str = ""
    """The absolute path by which the root will be seen: absolute links beneath it are taken."""
    any_links: bool = False
    """Take symbolic links wherever they lead: the tree is a root file system, whose links are only
    followed inside a sandbox. Hard links always stay inside."""
    skip_devices: bool = False
    """Leave devices, FIFOs and sockets out instead of refusing them."""
    any_format: bool = False
    """Take zip archives and squashfs images, too, which are not read from beginning to end."""
    layer: bool = False
    """A layer of an image: it may replace what is there, and whiteouts (`.wh.NAME`,
    `.wh..wh..opq`) remove what earlier layers put there."""
