"""The built-in runtime files, without their tools."""

from pathlib import Path

import pytest

from runtimes.programs import LANGUAGES
from sandboxd.config import Config, MaxLimits
from sandboxd.protocol.limits import LIMIT_NAMES
from sandboxd.runtimes import loader, model
from sandboxd.runtimes.model import RuntimeFile
from sandboxd.runtimes.template import Template

PATHS = sorted(loader.BUILTIN.glob("*.toml"))
MIB = 1024 * 1024


def read(path: Path) -> RuntimeFile:
    return model.parse(path.read_bytes(), path.name)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_file_is_good(path: Path) -> None:
    file = read(path)
    assert path.stem.split("-")[0] in (file.language, *file.aliases)
    for stage in filter(None, (file.compile, file.run)):
        for name in LIMIT_NAMES:
            asked = getattr(stage.limits, name)
            assert (asked or 1) <= getattr(MaxLimits(), name), name
            assert asked != getattr(Config().limits, name), f"{name} is what it is anyway"
    if file.file_name and file.extensions:
        assert Path(file.file_name).suffix in file.extensions
    if file.rename.extension:
        assert file.rename.extension in file.extensions


def test_every_file_has_programs_that_try_it() -> None:
    tried = {(language.name, language.runtime) for language in LANGUAGES}
    assert {(file.language, file.runtime) for file in map(read, PATHS)} == tried


def test_no_alias_is_another_language() -> None:
    files = [read(path) for path in PATHS]
    for name in {name for file in files for name in (file.language, *file.aliases)}:
        meant = {file.language for file in files if name in (file.language, *file.aliases)}
        assert len(meant) == 1, f"{name} means {meant}"


def test_tools_are_told_the_memory_limit() -> None:
    template = Template(["java", "-XX:MaxRAM={memory_mib}m", "{main}"])
    argv = template.argv(b"{memory_mib}.java", memory_bytes=192 * MIB + 5)
    assert argv == (b"java", b"-XX:MaxRAM=192m", b"{memory_mib}.java")


def test_a_memory_limit_below_a_mebibyte_is_not_none() -> None:
    assert Template(["x{memory_mib}"]).argv(b"main", memory_bytes=4096) == (b"x1",)


def test_every_language_is_in_the_documentation() -> None:
    documented = Path(__file__).parents[2].joinpath("docs/runtimes.md").read_text()
    missing = [
        file.language for file in map(read, PATHS) if f"| `{file.language}` |" not in documented
    ]
    assert not missing
