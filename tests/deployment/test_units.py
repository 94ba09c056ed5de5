"""systemd's own opinion of the units, and that what is left out is left out for a reason."""

import json
import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from support.requirements import REPOSITORY

UNITS = REPOSITORY / "systemd"
PAGE = REPOSITORY / "docs/service.md"
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)


def settings(unit: str) -> dict[str, list[str]]:
    """Every setting of a unit with its values."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def exposures(unit: str) -> list[dict[str, object]]:
    """What systemd-analyze says about each setting it knows."""
    command = ["systemd-analyze", "security", "--offline=true", "--json=short", "--no-pager"]
    done = subprocess.run([*command, UNITS / unit], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def test_the_files_are_well_formed() -> None:
    for file in (*UNITS.glob("sandboxd*.*"), *UNITS.glob("user/*")):
        parser = RawConfigParser(strict=False, comment_prefixes="#")
        parser.read_string(file.read_text())
        assert "Unit" in parser, file


@needs_systemd
def test_systemd_finds_no_fault() -> None:
    done = subprocess.run(
        [".ci/units"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout


@needs_systemd
@pytest.mark.parametrize("unit", ["sandboxd.service", "sandboxd-rest.service"])
def test_what_is_missing_has_a_reason(unit: str) -> None:
    comments = "\n".join(re.findall(r"(?m)^#.*", (UNITS / unit).read_text()))
    explained = set(re.findall(r"\b(\w+)=", comments)) | {"Delegate"}
    granted = " ".join(settings(unit)["CapabilityBoundingSet"])
    unexplained = []
    for item in exposures(unit):
        if not item["exposure"]:
            continue
        names = re.findall(r"(\w+)=", str(item["name"]))
        if names == ["CapabilityBoundingSet"]:
            wanted = re.findall(r"CAP_(\w+)|\((.*)\)", str(item["name"]))
            parts = [part for group in wanted for text in group for part in text.split("|")]
            known = any(part.rstrip("*") and part.rstrip("*") in granted for part in parts)
        else:
            # One that is set, but not as far as it could be, is explained by its line.
            known = any(name in explained or name in settings(unit) for name in names)
        if not known:
            unexplained.append(item["name"])
    assert not unexplained


@needs_systemd
@pytest.mark.parametrize("unit", ["sandboxd.service", "sandboxd-rest.service"])
def test_the_documented_score_is_the_measured_one(unit: str) -> None:
    row = re.search(rf"\| `{re.escape(unit)}` \| ([0-9.]+) \| (\d+) \|", PAGE.read_text())
    assert row is not None
    version = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True)
    if version.stdout.split()[1] != row[2]:
        pytest.skip(f"the documentation has the score of systemd {row[2]}")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{unit}: {row[1]} " in done.stdout.splitlines()[-1]


def test_no_job_inherits_a_filter() -> None:
    """Every setting that systemd makes a seccomp filter of."""
    filters = {
        "SystemCallFilter", "SystemCallArchitectures", "SystemCallLog", "MemoryDenyWriteExecute",
        "LockPersonality", "RestrictAddressFamilies", "RestrictRealtime", "RestrictSUIDSGID",
        "RestrictNamespaces", "PrivateDevices", "ProtectClock", "ProtectHostname",
        "ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs",
    }  # fmt: skip
    assert not filters & settings("sandboxd.service").keys()


def test_the_user_unit_lets_its_ids_be_mapped() -> None:
    """newuidmap is set-user-id, and a namespace that systemd makes would have one id only."""
    found = settings("user/sandboxd.service")
    assert found["Delegate"] == ["yes"]
    assert found.keys() <= settings("sandboxd.service").keys()
    hardening = {name for name in found if name.startswith(("Private", "Protect", "Restrict"))}
    assert not hardening - {"RestartPreventExitStatus", "RestartSec"}
    assert not {"NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet"} & found.keys()


def test_the_gateway_has_no_privilege() -> None:
    found = settings("sandboxd-rest.service")
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == [""]
    assert found["NoNewPrivileges"] == found["PrivateUsers"] == found["PrivateDevices"] == ["yes"]
    assert found["User"] == ["sandboxd-rest"]
    assert "Delegate" not in found


def test_accounts_and_directories_are_those_of_the_units() -> None:
    accounts = re.findall(r"(?m)^u (\S+)", (UNITS / "sysusers.d/sandboxd.conf").read_text())
    assert set(settings("sandboxd-rest.service")["User"]) <= set(accounts)
    assert set(settings("sandboxd.socket")["SocketGroup"]) <= set(accounts)
    made = re.findall(r"(?m)^d (\S+)", (UNITS / "tmpfiles.d/sandboxd.conf").read_text())
    writable = settings("sandboxd.service")["ReadWritePaths"][0].replace("-/", "/").split()
    assert sorted(made) == sorted(writable)
    assert str(Path(settings("sandboxd.socket")["ListenStream"][0]).parent) in made
    assert settings("sandboxd.service")["Slice"] == settings("sandboxd-rest.service")["Slice"]
    assert (UNITS / settings("sandboxd.service")["Slice"][0]).exists()


def test_apparmor_understands_the_profile() -> None:
    if not shutil.which("apparmor_parser") or not Path("/etc/apparmor.d/abi/4.0").exists():
        pytest.skip("AppArmor 4 is not installed")
    command = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--names"]
    profile = UNITS / "apparmor.d/sandboxd"
    done = subprocess.run([*command, profile], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "sandboxd\n"), done.stderr


@pytest.mark.parametrize("bound", [True, False], ids=["of the unit", "of a shell"])
def test_the_check_needs_no_more_capabilities_than_the_unit_gives(
    require_sandbox: None, bound: bool
) -> None:
    kept = " ".join(settings("sandboxd.service")["CapabilityBoundingSet"]).lower().split()
    only = ",".join(["-all", *(f"+{name.removeprefix('cap_')}" for name in kept)])
    inside = ["setpriv", "--bounding-set", only, "--inh-caps=-all"] if bound else []
    helper = REPOSITORY / "sandboxd/libexec/sandbox-helper"
    done = subprocess.run([*inside, helper, "check"], capture_output=True, text=True, check=False)
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(found) > 20
    assert [line for line in found if line[1:3] == ["missing", "required"]] == []
    assert (done.returncode, done.stderr) == (0, "")
