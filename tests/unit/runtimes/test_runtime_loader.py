"""Where runtime files come from, and what becomes of a bad one."""

import logging
import os
from pathlib import Path

import pytest

from sandboxd.runtimes.loader import BUILTIN, Sources


def write(directory: Path, name: str, language: str) -> Path:
    path = directory / name
    path.write_text(
        f'language="{language}"\n[version]\nprograms=["sh"]\nfixed="1"\n[run]\ncommand=["sh"]\n'
    )
    return path


def languages(sources: Sources) -> dict[str, str]:
    return {loaded.name: loaded.file.language for loaded in sources.load()}


@pytest.fixture
def builtin(tmp_path: Path) -> Path:
    directory = tmp_path / "builtin"
    directory.mkdir()
    write(directory, "a.toml", "a")
    write(directory, "b.toml", "b")
    return directory


@pytest.fixture
def own(tmp_path: Path) -> Path:
    directory = tmp_path / "own"
    directory.mkdir()
    return directory


def test_every_builtin_file_is_good(caplog: pytest.LogCaptureFixture) -> None:
    loaded = Sources("/nonexistent").load()
    assert {item.name for item in loaded} == {path.name for path in BUILTIN.glob("*.toml")}
    assert not caplog.records


def test_a_file_replaces_the_builtin_one_of_its_name(builtin: Path, own: Path) -> None:
    write(own, "b.toml", "mine")
    write(own, "c.toml", "more")
    assert languages(Sources(str(own), builtin)) == {
        "a.toml": "a",
        "b.toml": "mine",
        "c.toml": "more",
    }


def test_other_files_are_not_looked_at(builtin: Path, own: Path) -> None:
    write(own, "c.toml~", "x")
    write(own, ".c.toml", "x")
    write(own, "README", "x")
    assert languages(Sources(str(own), builtin)).keys() == {"a.toml", "b.toml"}


def test_a_bad_file_is_named_and_left_out(
    builtin: Path, own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (own / "bad.toml").write_text('language = "x"\n[run]\ncomand = ["x"]\n')
    (own / "directory.toml").mkdir()
    (own / "gone.toml").symlink_to("nowhere")
    os.mkfifo(own / "pipe.toml")
    write(own, "good.toml", "good")
    with caplog.at_level(logging.ERROR):
        assert languages(Sources(str(own), builtin)).keys() == {"a.toml", "b.toml", "good.toml"}
    text = caplog.text
    for name in ("bad.toml", "directory.toml", "gone.toml", "pipe.toml"):
        assert str(own / name) in text, name


def test_without_a_directory(builtin: Path, tmp_path: Path) -> None:
    sources = Sources(str(tmp_path / "none"), builtin)
    assert not sources.changed()
    (tmp_path / "none").mkdir()
    assert sources.changed()
    assert sources.reread()
    assert not sources.reread()


def test_changes_are_seen(builtin: Path, own: Path) -> None:
    sources = Sources(str(own), builtin)
    assert not sources.reread()
    path = write(own, "c.toml", "c")
    assert sources.directory_changed()
    assert sources.reread()
    assert languages(sources)["c.toml"] == "c"
    assert not sources.directory_changed()
    path.write_text(path.read_text().replace('"c"', '"changed"'))
    assert not sources.directory_changed()  # A file in it has.
    assert sources.changed()
    assert sources.reread()
    assert languages(sources)["c.toml"] == "changed"
    path.unlink()
    assert sources.reread()
    assert "c.toml" not in languages(sources)


def test_a_file_that_goes_uncovers_the_builtin_one(builtin: Path, own: Path) -> None:
    path = write(own, "a.toml", "mine")
    sources = Sources(str(own), builtin)
    assert languages(sources)["a.toml"] == "mine"
    path.unlink()
    assert sources.reread()
    assert languages(sources)["a.toml"] == "a"


def test_what_cannot_be_read_any_more_stays(
    builtin: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon gives up root after it has read them."""
    write(own, "c.toml", "c")
    sources = Sources(str(own), builtin)
    real_open, real_list = os.open, os.listdir

    def refuse(path: str, *args: int, **others: int) -> int:
        if path == str(own / "c.toml"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **others)

    monkeypatch.setattr(os, "open", refuse)
    write(own, "d.toml", "d")
    assert sources.reread()
    assert languages(sources).keys() == {"a.toml", "b.toml", "c.toml", "d.toml"}

    def refuse_list(path: str) -> list[str]:
        if path == str(own):
            raise PermissionError(13, "Permission denied")
        return real_list(path)

    monkeypatch.setattr(os, "listdir", refuse_list)
    write(own, "e.toml", "e")
    assert sources.reread()
    assert languages(sources).keys() == {"a.toml", "b.toml", "c.toml", "d.toml"}
