"""The package, built once, and what is in it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support import requirements
from support.requirements import REPOSITORY

BUILD_TIMEOUT_S = 300


def build(*command: str, **variables: str) -> str:
    """The output of one of the project's own scripts; one of them runs at a time in a tree."""
    done = subprocess.run(
        ["flock", ".ci", *command],
        cwd=REPOSITORY,
        env=requirements.CLEAN_ENVIRONMENT | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


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
