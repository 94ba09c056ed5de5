"""The man pages: complete, and without a warning of man's own formatter."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sandboxctl.commands import TOP, leaves
from sandboxd.config import Config, Limits

DOCS = Path(__file__).resolve().parents[2] / "docs"

spec = importlib.util.spec_from_file_location("man", DOCS / "man.py")
assert spec is not None
assert spec.loader is not None
man = importlib.util.module_from_spec(spec)
spec.loader.exec_module(man)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    man.main(directory)
    return directory


def test_every_command_file_and_protocol_has_a_page(pages: Path) -> None:
    names = {page.name for page in pages.iterdir()}
    assert names == {
        "sandboxd.8",
        "sandboxd-rest.8",
        "sandboxctl.1",
        "sandboxd.toml.5",
        "sandboxd-protocol.7",
    }


def test_every_setting_is_described() -> None:
    text = (DOCS / "sandboxd.toml.5.md").read_text()
    for name in (*Config.__struct_fields__, *Limits.__struct_fields__):
        assert f"`{name}`" in text, name


def test_defaults_in_the_tables_are_those_of_the_code() -> None:
    plain = {name: getattr(Config(), name) for name in Config.__struct_fields__}
    checked = 0
    for line in (DOCS / "sandboxd.toml.5.md").read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and isinstance(plain.get(cells[0]), int):
            assert _number(cells[1]) == plain[cells[0]], line
            checked += 1
        if line.startswith("| `") and cells[0] in Limits.__struct_fields__:
            assert _number(cells[1]) == getattr(Config().limits, cells[0]), line
            assert _number(cells[2]) == getattr(Config().max_limits, cells[0]), line
            checked += 1
    assert checked > 25


def _number(text: str) -> int:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("0o"):
        return int(text, 8)
    units = {"s": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
    return int(text.rstrip("sKMG")) * units.get(text[-1], 1)


def test_the_formatter_has_no_complaint(pages: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    for page in pages.iterdir():
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        )
        assert done.stderr == "", page.name


def test_text_is_safe_from_the_formatter() -> None:
    assert man.inline(r"a\b `c-d` **e** *f*") == r"a\eb \fBc\-d\fR \fBe\fR \fIf\fR"
    assert man.inline(".not a macro\n'nor this") == "\\&.not a macro\n\\&'nor this"
    with pytest.raises(ValueError, match="does not look like"):
        man.page("no title", "")


def test_every_command_and_option_is_described() -> None:
    text = (DOCS / "sandboxctl.1.md").read_text()
    for command in leaves():
        assert f"`{command.name}`" in text or f"`sandboxctl {command.name}`" in text, command.name
    for command in (TOP, *leaves()):
        for option in command.options:
            assert f"`{f'{option.name} {option.metavar}'.strip()}`" in text, option.name
            assert f"`{option.short}`" in text or not option.short, option.short
