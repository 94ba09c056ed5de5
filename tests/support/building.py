"""Runs the scripts that install and package this tree, and knows what they are to install."""

import subprocess

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


# Everything that is not part of the virtual environment.
AROUND = (
    "etc/sandboxd/sandboxd.toml",
    "etc/sandboxd/sandboxd-rest.toml",
    "usr/bin/sandboxd",
    "usr/bin/sandboxctl",
    "usr/bin/sandboxd-rest",
    "usr/lib/systemd/system/sandboxd.service",
    "usr/lib/systemd/system/sandboxd.socket",
    "usr/lib/systemd/system/sandboxd.slice",
    "usr/lib/systemd/system/sandboxd-rest.service",
    "usr/lib/systemd/user/sandboxd.service",
    "usr/lib/sysusers.d/sandboxd.conf",
    "usr/lib/tmpfiles.d/sandboxd.conf",
    "usr/share/bash-completion/completions/sandboxctl",
    "usr/share/fish/vendor_completions.d/sandboxctl.fish",
    "usr/share/zsh/vendor-completions/_sandboxctl",
    "usr/share/sandboxd/apparmor.d/sandboxd",
    "usr/share/man/man1/sandboxctl.1.gz",
    "usr/share/man/man5/sandboxd.toml.5.gz",
    "usr/share/man/man7/sandboxd-protocol.7.gz",
    "usr/share/man/man8/sandboxd.8.gz",
    "usr/share/man/man8/sandboxd-rest.8.gz",
    "usr/share/doc/sandboxd/README.md",
    "usr/share/doc/sandboxd/SECURITY.md",
    "usr/share/doc/sandboxd/changelog.gz",
    "usr/share/doc/sandboxd/changelog.Debian.gz",
    "usr/share/doc/sandboxd/copyright",
)
