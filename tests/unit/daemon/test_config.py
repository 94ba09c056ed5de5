"""Where configuration comes from, what is refused, and that messages name source and key."""

import re
from pathlib import Path

import pytest

from sandboxd import config as configuration
from sandboxd.config import Config, Limits, MaxLimits, load
from sandboxd.errors import ConfigError


@pytest.fixture(autouse=True)
def no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(configuration, "DEFAULT_FILE", tmp_path / "absent.toml")


def write(path: Path, text: str) -> Path:
    file = path / "sandboxd.toml"
    file.write_text(text)
    return file


def test_defaults_are_complete_and_within_their_maxima() -> None:
    config = load(environ={})
    assert config == Config()
    for name in Limits.__struct_fields__:
        assert 0 < getattr(config.limits, name) <= getattr(config.max_limits, name)


def test_maxima_have_a_field_for_every_limit() -> None:
    assert set(MaxLimits.__struct_fields__) == set(Limits.__struct_fields__)


def test_later_sources_win(tmp_path: Path) -> None:
    file = write(tmp_path, 'jobs = 1\nqueue_length = 10\nlog_level = "error"\n')
    config = load(file, {"SANDBOXD_JOBS": "2", "SANDBOXD_QUEUE_LENGTH": "20"}, {"jobs": 3})
    assert (config.jobs, config.queue_length, config.log_level) == (3, 20, "error")


def test_a_table_in_two_sources_is_merged(tmp_path: Path) -> None:
    file = write(tmp_path, "[limits]\nprocesses = 7\nopen_files = 9\n")
    config = load(file, {"SANDBOXD_LIMITS_PROCESSES": "8"})
    assert (config.limits.processes, config.limits.open_files) == (8, 9)


def test_units(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'message_timeout_ns = "250ms"\nqueue_bytes = "64M"\n'
        '[limits]\ncpu_time_ns = "2s"\nmemory_bytes = "1G"\nfile_size_bytes = "500"\n',
    )
    config = load(file, {})
    assert config.message_timeout_ns == 250_000_000
    assert config.queue_bytes == 64 * 1024 * 1024
    assert config.limits.cpu_time_ns == 2_000_000_000
    assert config.limits.memory_bytes == 1024**3
    assert config.limits.file_size_bytes == 500


@pytest.mark.parametrize(
    ("text", "mode"), [("socket_mode = 0o600", 0o600), ('socket_mode = "0640"', 0o640)]
)
def test_socket_mode_in_the_file(tmp_path: Path, text: str, mode: int) -> None:
    assert load(write(tmp_path, text), {}).socket_mode == mode


def test_values_from_the_environment() -> None:
    config = load(
        environ={
            "SANDBOXD_SOCKET_MODE": "666",
            "SANDBOXD_USER": "1234",
            "SANDBOXD_ALLOWED_UIDS": "1,2",
            "SANDBOXD_READONLY": "/usr,/opt",
            "SANDBOXD_LIMITS_WALL_TIME_NS": "3s",
            "SANDBOXD_READY_FD": "5",
            "SANDBOXD_TEST_ANYTHING": "x",
            "OTHER": "x",
        }
    )
    assert (config.socket_mode, config.user) == (0o666, "1234")
    assert (config.allowed_uids, config.readonly) == ((1, 2), ("/usr", "/opt"))
    assert config.limits.wall_time_ns == 3_000_000_000


def test_the_file_named_in_the_environment(tmp_path: Path) -> None:
    assert load(environ={"SANDBOXD_CONFIG": str(write(tmp_path, "jobs = 5"))}).jobs == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("job = 1", ["sandboxd.toml", "job", "not a setting"]),
        ("[limits]\nmemory = 1", ["sandboxd.toml", "limits.memory", "not a setting"]),
        ("[other]\nx = 1", ["sandboxd.toml", "other", "not a setting"]),
        ('jobs = "many"', ["sandboxd.toml", "jobs"]),
        ("jobs = 1.5", ["sandboxd.toml", "jobs"]),
        ("jobs = -1", ["sandboxd.toml", "jobs"]),
        ("jobs = true", ["sandboxd.toml", "jobs"]),
        ("[limits]\nmemory_bytes = 0", ["sandboxd.toml", "limits.memory_bytes"]),
        ('[limits]\nmemory_bytes = "1X"', ["sandboxd.toml", "memory_bytes", "1X"]),
        ('[limits]\ncpu_time_ns = "0.5s"', ["sandboxd.toml", "cpu_time_ns"]),
        ('mode = "sometimes"', ["sandboxd.toml", "mode"]),
        ('socket_mode = "rw"', ["sandboxd.toml", "socket_mode"]),
        ("jobs = ", ["sandboxd.toml"]),
        ("[mounts.a]\nsource = '/x'", ["sandboxd.toml", "target"]),
    ],
)
def test_mistakes_in_the_file_name_it_and_the_key(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "name", ["SANDBOXD_JOB", "SANDBOXD_LIMITS_MEMORY", "SANDBOXD_MOUNTS", "SANDBOXD_LIMITS"]
)
def test_an_unknown_variable_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"environment: {name} is not a setting"):
        load(environ={name: "1"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits]\nprocesses = 2000", "limits.processes is larger than max_limits.processes"),
        ("collect_bytes = '2G'", "collect_bytes is larger"),
        ("jobs = 1024\nspare_slots = 1", "at most 1024"),
        ("[max_limits]\noutput_bytes = '2G'", "max_limits.output_bytes"),
        ("readonly = ['usr']", "readonly: 'usr'"),
        ("readonly = ['/usr/../etc']", "readonly"),
        ("readonly = ['/']", "readonly"),
        ("[mounts.a]\nsource = '/x:y'\ntarget = '/y'", "mounts.a.source"),
        ("[env]\n'A=B' = 'x'", "env"),
    ],
)
def test_contradictions(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(write(tmp_path, text), {})


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "missing.toml", {})


def test_readonly_directories_of_the_default_exist_and_hold_no_accounts() -> None:
    found = load(environ={}).readonly_directories()
    assert "/usr" in found
    assert all(Path(path).exists() for path in found)
    assert not {"/etc", "/etc/passwd", "/etc/shadow"} & set(found)


def test_a_configured_directory_must_exist(tmp_path: Path) -> None:
    config = load(flags={"readonly": ["/usr", str(tmp_path / "no")]}, environ={})
    with pytest.raises(ConfigError, match="does not exist"):
        config.readonly_directories()


def test_zero_jobs_means_one_for_each_processor() -> None:
    config = load(environ={})
    assert config.slots >= 1
    assert config.spares == config.slots


MANUAL = Path(__file__).parents[3] / "docs" / "sandboxd.toml.5.md"


def test_the_manual_lists_every_setting_and_no_other() -> None:
    # What comes after describes other files.
    settings_part = MANUAL.read_text().partition("\n## Runtimes\n")[0]
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", settings_part, re.M))
    tables = {"limits", "max_limits"}
    settings = set(Config.__struct_fields__) - tables | set(Limits.__struct_fields__)
    assert listed == settings


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_the_manual_has_the_limits_right(name: str) -> None:
    row = re.search(rf"^\| `{name}` \| `([^`]*)` \| `([^`]*)` \|", MANUAL.read_text(), re.M)
    assert row is not None
    texts = {f"limits.{name}": row[1], f"max_limits.{name}": row[2]}
    flags = {
        table: {name: int(text) if text.isdigit() else text}
        for table, text in (("limits", row[1]), ("max_limits", row[2]))
    }
    assert load(environ={}, flags=flags) == Config(), texts


def test_a_user_has_places_of_its_own(tmp_path: Path) -> None:
    environ = {
        "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/tmp",
    }  # fmt: skip
    config = configuration.load(environ=environ, rootless=True)
    assert config.socket == "/tmp/sandboxd/sandboxd.sock"
    assert config.state_directory == "/s/sandboxd"
    assert config.runtimes_directory == f"{tmp_path}/sandboxd/runtimes"


def test_a_user_has_a_file_of_its_own(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": "/h"}
    configuration.DEFAULT_FILE.write_text("jobs = 3\n")
    assert configuration.load(environ=environ).jobs == 3
    assert configuration.load(environ=environ, rootless=True).jobs == 0
    file = tmp_path / "sandboxd" / configuration.DEFAULT_FILE.name
    file.parent.mkdir()
    file.write_text('jobs = 4\nstate_directory = "/elsewhere"\n')
    config = configuration.load(environ=environ, rootless=True)
    assert (config.jobs, config.state_directory) == (4, "/elsewhere")
