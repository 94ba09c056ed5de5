"""A runtime that is there: a language in one version, with the commands of its stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sandboxd.engine.job import Held
from sandboxd.protocol.models import Limits
from sandboxd.runtimes.model import Rename, RuntimeFile, StageFile
from sandboxd.runtimes.template import Template

_SHELL: Final = "/bin/bash"
_HOME: Final = "/tmp"  # noqa: S108 - Piston's; each job has its own.
_NO_LIMITS: Final = Limits()
_NO_RENAME: Final = Rename()


@dataclass(frozen=True, slots=True)
class RuntimeStage:
    """How one stage is run. `env` is added to the configured environment."""

    template: Template
    env: Mapping[str, str]
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a client can ask for by `language` or one of `aliases`."""

    language: str
    version: str
    """A semantic version."""
    run: RuntimeStage
    compile: RuntimeStage | None = None
    aliases: tuple[str, ...] = ()
    runtime: str = ""
    """Piston's word for what is behind the language; empty where it has none."""
    environment: str = ""
    """The root file system it runs in; empty for the host's."""
    file_name: str = ""
    extensions: tuple[str, ...] = ()
    rename: Rename = _NO_RENAME
    package: bool = False
    use: Held | None = None
    """What its jobs hold while they run; None where nothing can be taken from under them."""


def from_file(file: RuntimeFile, version: str) -> Runtime:
    """The runtime that a runtime file describes, in the version that was found."""
    return Runtime(
        language=file.language,
        version=version,
        run=_stage(file.run),
        compile=None if file.compile is None else _stage(file.compile),
        aliases=file.aliases,
        runtime=file.runtime,
        environment=file.environment,
        file_name=file.file_name,
        extensions=file.extensions,
        rename=file.rename,
    )


def _stage(stage: StageFile) -> RuntimeStage:
    return RuntimeStage(Template(stage.command), stage.env, stage.limits)


def from_package(
    *,
    language: str,
    version: str,
    directory: str,
    compiled: bool,
    env: Mapping[str, str],
    aliases: tuple[str, ...] = (),
    runtime: str = "",
    compile_limits: Limits = _NO_LIMITS,
    run_limits: Limits = _NO_LIMITS,
    use: Held | None = None,
) -> Runtime:
    """A runtime of an installed package.

    `directory` is the package's inside the sandbox, `env` what its `environment` script left.
    """
    full = {"HOME": _HOME, **env, "PISTON_LANGUAGE": language}
    compile_ = None
    if compiled:
        command = Template((_SHELL, f"{directory}/compile", "{sources}"))
        compile_ = RuntimeStage(command, full, compile_limits)
    run = Template((_SHELL, f"{directory}/run", "{main}", "{args}"))
    return Runtime(
        language=language,
        version=version,
        run=RuntimeStage(run, full, run_limits),
        compile=compile_,
        aliases=aliases,
        runtime=runtime,
        package=True,
        use=use,
    )
