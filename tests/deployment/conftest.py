"""The package, built once, and what is in it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support.building import build
from support.requirements import REPOSITORY


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this tree."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not here: packages are for Debian and its descendants")
    built = REPOSITORY / build(".ci/deb").split()[-1]
    return Path(shutil.copy(built, tmp_path_factory.mktemp("package")))


@pytest.fixture(scope="session")
def contents(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files, with its control files in DEBIAN."""
    root = tmp_path_factory.mktemp("contents") / "root"
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    return root
