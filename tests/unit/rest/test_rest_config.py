"""The gateway's configuration: sources, order, errors, and that the manual has all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sandboxd.errors import ConfigError
from sandboxd_rest.config import Config, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANUAL = Path(__file__).resolve().parents[3] / "docs" / "sandboxd-rest.8.md"


def of(
    text: str = "",
    environ: Mapping[str, str] | None = None,
    /,
    tmp: Path | None = None,
    **flags: Any,
) -> Config:
    file = None
    if tmp is not None:
        file = tmp / "rest.toml"
        file.write_text(text)
    return load(file, environ or {}, flags)


def test_the_defaults_are_pistons() -> None:
    settings = of().piston
    assert (settings.run_timeout, settings.compile_timeout) == (3000, 10_000)
    assert (settings.run_cpu_time, settings.compile_cpu_time) == (3000, 10_000)
    assert (settings.run_memory_limit, settings.compile_memory_limit) == (-1, -1)
    assert (settings.max_process_count, settings.max_open_files) == (64, 2048)
    assert settings.max_file_size == 10_000_000


def test_it_listens_on_the_loopback_interface() -> None:
    assert of().bind == ("127.0.0.1:2000",)
    assert of("", {"PORT": "3000"}).bind == ("127.0.0.1:3000",)
    assert of("", {"PORT": "tcp://10.0.0.1:3000"}).bind == ("127.0.0.1:2000",)


def test_later_sources_win(tmp_path: Path) -> None:
    text = (
        'bind = ["[::1]:1"]\nmax_body_bytes = "1M"\n[piston]\nrun_timeout = 1\nrun_cpu_time = 2\n'
    )
    environ = {"PISTON_BIND_ADDRESS": "0.0.0.0:2", "PISTON_RUN_TIMEOUT": "7"}
    config = of(text, {}, tmp=tmp_path)
    assert (config.bind, config.max_body_bytes) == (("[::1]:1",), 1024**2)
    config = of(text, environ, tmp=tmp_path)
    assert config.bind == ("0.0.0.0:2",)
    assert (config.piston.run_timeout, config.piston.run_cpu_time) == (7, 2)
    environ["SANDBOXD_REST_BIND"] = "127.0.0.1:3, [::1]:3"
    assert of(text, environ, tmp=tmp_path).bind == ("127.0.0.1:3", "[::1]:3")
    assert of(text, environ, tmp=tmp_path, bind=["127.0.0.1:4"]).bind == ("127.0.0.1:4",)


def test_pistons_variables() -> None:
    environ = {
        "PISTON_OUTPUT_MAX_SIZE": "1024",
        "PISTON_COMPILE_MEMORY_LIMIT": "-1",
        "PISTON_LOG_LEVEL": "WARN",
        "PISTON_REPO_URL": "http://127.0.0.1/index",
        "PISTON_LIMIT_OVERRIDES": '{"c++": {"max_process_count": 128}}',
        "PISTON_DATA_DIRECTORY": "/piston",
        "PISTON_OF_SOMEBODY_ELSE": "x",
    }
    config = of("", environ)
    assert config.piston.output_max_size == 1024
    assert config.piston.limit_overrides["c++"].max_process_count == 128
    assert config.piston.repo_url == "http://127.0.0.1/index"
    assert config.log_level == "warning"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PISTON_RUN_TIMEOUT": "3s"}, "PISTON_RUN_TIMEOUT"),
        ({"PISTON_LIMIT_OVERRIDES": "{"}, "PISTON_LIMIT_OVERRIDES"),
        ({"PISTON_LIMIT_OVERRIDES": '{"c": {"run_timeuot": 1}}'}, "run_timeuot"),
        ({"PISTON_LIMIT_OVERRIDES": '{"c": {"run_timeout": "1"}}'}, "run_timeout"),
        ({"PISTON_LIMIT_OVERRIDES": '{"c": 1}'}, "PISTON_LIMIT_OVERRIDES"),
        ({"PISTON_BIND_ADDRESS": "2000"}, "HOST:PORT"),
        ({"SANDBOXD_REST_NOSUCH": "1"}, "SANDBOXD_REST_NOSUCH"),
        ({"SANDBOXD_REST_PISTON": "1"}, "SANDBOXD_REST_PISTON"),
        ({"SANDBOXD_REST_ACCESS_LOG": "maybe"}, "access_log"),
        ({"SANDBOXD_REST_MAX_REQUESTS": "0"}, "max_requests"),
        ({"SANDBOXD_REST_ALLOWED_ORIGINS": "play.example"}, "https://example.org"),
        ({"SANDBOXD_REST_TRUSTED_PROXIES": "proxy"}, "trusted_proxies"),
        ({"SANDBOXD_REST_TLS_KEY": "/key"}, "tls_certificate"),
        ({"SANDBOXD_REST_DEV_TLS": "yes"}, "dev_tls"),
        ({"SANDBOXD_REST_PLAIN_BIND": "127.0.0.1:1"}, "plain_bind"),
        ({"SANDBOXD_REST_DEV_TLS": "true", "SANDBOXD_REST_PLAIN_BIND": "1"}, "HOST:PORT"),
        ({"SANDBOXD_REST_PIFOP": "1"}, "SANDBOXD_REST_PIFOP"),
        (
            {
                "SANDBOXD_REST_DEV_TLS": "true",
                "SANDBOXD_REST_TLS_KEY": "/key",
                "SANDBOXD_REST_TLS_CERTIFICATE": "/certificate",
            },
            "dev_tls",
        ),
    ],
)
def test_what_is_wrong_in_the_environment(environ: Mapping[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of("", environ)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch = 1", "nosuch"),
        ("bind = []", "bind"),
        ("[piston]\nrun_timeuot = 1", "piston.run_timeuot"),
        ("[piston]\nlimit_overrides = {c = {nosuch = 1}}", "nosuch"),
        ("[piston]\nrun_timeout = -2", "run_timeout"),
        ("[pifop]\nmax_input_bytes = '1G'", "pifop.max_input_bytes"),
        ("[pifop]\ninput_timeout_ns = 'soon'", "input_timeout_ns"),
        ("keep_alive_timeout_ns = '5 parsecs'", "keep_alive_timeout_ns"),
        ("bind =", "rest.toml"),
    ],
)
def test_what_is_wrong_in_the_file(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        of(text, {}, tmp=tmp_path)
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "nothing", {})


def test_the_manual_has_every_setting_and_its_default() -> None:
    rows: dict[tuple[str, str], str] = {}
    table = ""
    for line in MANUAL.read_text().splitlines():
        if match := re.match(r"The table `\[(\w+)\]`", line):
            table = match[1]
        cells = [cell.strip(" `") for cell in re.split(r" \|(?= )", line.strip("|"))]
        if line.startswith("| `") and len(cells) == 3:
            rows[table, cells[0]] = cells[1]
    for table, name, value in _settings(Config()):
        assert (table, name) in rows, (table, name)
        shown = rows[table, name]
        if isinstance(value, bool):
            assert shown == str(value).lower(), (table, name)
        elif isinstance(value, int):
            assert value == (int(shown[:-1]) * 10**9 if shown.endswith("s") else int(shown))


def _settings(config: Config) -> Iterator[tuple[str, str, Any]]:
    """(table, key, default) of everything that can be set."""
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if not isinstance(value, msgspec.Struct):
            yield "", name, value
            continue
        for key in value.__struct_fields__:
            yield name, key, getattr(value, key)
