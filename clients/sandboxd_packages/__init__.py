"""Packages of runtimes, from an index on the network into the daemon. Piston's packages work.

    from sandboxd_client import Client
    from sandboxd_packages import fetch_index, install, select

    index = fetch_index()                       # Piston's own, or $SANDBOXD_PACKAGE_INDEX
    package = select(index.packages, "gcc", "10.x")
    with Client() as client:
        install(client, package, progress=print)

The daemon has no network: the download is done here, by the standard library, and goes to the
daemon through a pipe, which the daemon checks against the index's SHA-256 as it reads. Everything
here blocks; nothing needs more than sandboxd_client.
"""

from sandboxd_packages.build import Built, build
from sandboxd_packages.errors import (
    BadPackage,
    DownloadFailed,
    IndexUnavailable,
    NoSuchPackage,
    PackageError,
)
from sandboxd_packages.index import (
    DEFAULT_INDEX,
    Index,
    Package,
    fetch_index,
    index_url,
    parse_index,
)
from sandboxd_packages.install import install
from sandboxd_packages.select import matching, select

__all__ = [
    "DEFAULT_INDEX",
    "BadPackage",
    "Built",
    "DownloadFailed",
    "Index",
    "IndexUnavailable",
    "NoSuchPackage",
    "Package",
    "PackageError",
    "build",
    "fetch_index",
    "index_url",
    "install",
    "matching",
    "parse_index",
    "select",
]
