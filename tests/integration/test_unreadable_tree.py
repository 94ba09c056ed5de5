"""The daemon gives up root, and then cannot read a checkout in root's home directory any more."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sandboxd
import sandboxd_client
from support.requirements import CLEAN_ENVIRONMENT


@pytest.mark.usefixtures("require_sandbox")
def test_runs_from_a_tree_only_root_can_read(tmp_path: Path) -> None:
    for package in (sandboxd, sandboxd_client):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, tmp_path / "tree" / source.name)
    tmp_path.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-m", "sandboxd", "--check"],
        env=CLEAN_ENVIRONMENT | {"PYTHONPATH": str(tmp_path / "tree")},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
