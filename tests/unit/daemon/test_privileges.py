"""Giving up privileges, in a child: what is gone cannot come back for the other tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxd import privileges
from sandboxd.errors import ConfigError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")

_DROP = """
import os
from pathlib import Path
from sandboxd import privileges
privileges.drop(privileges.Identity(1879048191, 1879048190))
print(os.getresuid(), os.getresgid(), os.getgroups())
print({name: bits for name, bits in privileges.capabilities().items() if bits})
lines = Path("/proc/self/status").read_text().splitlines()
print([line.split()[1] for line in lines if line.startswith(("NoNewPrivs", "CapBnd"))])
"""


@needs_root
def test_nothing_is_left() -> None:
    output = subprocess.run(
        [sys.executable, "-c", _DROP], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert output == [
        "(1879048191, 1879048191, 1879048191) (1879048190, 1879048190, 1879048190) []",
        "{}",
        "['0000000000000000', '1']",
    ]


# As the user namespace's root, which sandboxd stays when it was started without root.
_STAY = """
import os
from sandboxd import privileges
privileges.drop(privileges.Identity(0, 0))
os.execv("/bin/cat", ["cat", "/proc/self/status"])
"""


@needs_root
def test_who_stays_root_of_a_namespace_gets_nothing_back_by_an_execve() -> None:
    wait = 'echo; read -r go && exec "$@"'  # Only what is executed after the maps is root there.
    with subprocess.Popen(
        ["unshare", "--user", "sh", "-c", wait, "sh", sys.executable, "-c", _STAY],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 0 1\n1 1000000 10")
        said, _ = process.communicate("go\n")
    found = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert found["Uid"].split() == ["0", "0", "0", "0"]
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert [int(found[name], 16) for name in sets] == [0] * 5
    assert (found["NoNewPrivs"], found["Groups"].split()) == ("1", [])


def test_capabilities_are_read_from_the_kernels_words(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapInh:\t0\nCapPrm:\t00000000000000ff\nCapBnd:\t1\n")
    assert privileges.capabilities(status) == {"CapInh": 0, "CapPrm": 255}


def test_an_account_by_name_number_or_fallback() -> None:
    assert privileges.choose_identity("nobody", 5).uid == 65534
    assert privileges.choose_identity("12345", 5) == privileges.Identity(12345, 12345)
    assert privileges.choose_identity("no-such-account", 5) == privileges.Identity(5, 5)


@pytest.mark.parametrize("user", ["root", "0"])
def test_root_is_no_account_to_drop_to(user: str) -> None:
    with pytest.raises(ConfigError, match="must not be root"):
        privileges.choose_identity(user, 5)
