"""Completions for bash, zsh and fish, made from the table of commands."""

from __future__ import annotations

from sandboxctl import exitcodes
from sandboxctl.commands import TOP, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxctl.options import Command, CommandSpec, Option
    from sandboxctl.stdio import Stdio


def run(command: Command, stdio: Stdio) -> int:
    """Print the script for the shell that was named."""
    stdio.out({"bash": bash, "zsh": zsh, "fish": fish}[command.args[0]]())
    return exitcodes.OK


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _groups() -> list[CommandSpec]:
    """The commands that are followed by another word."""
    return [command for command in TOP.commands.values() if command.commands]


def bash() -> str:
    """A function for bash's `complete -F`."""
    cases = "".join(_bash_case(spec) for spec in leaves())
    cases += "".join(_bash_group(spec) for spec in _groups())
    first = "|".join(f'"{spec.name}"' for spec in _groups())
    last = "|".join(f'"{spec.name}"' for spec in leaves())
    return f"""\
_sandboxctl() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{command:+$command }}${{COMP_WORDS[i]}}" in
            {first}) command=${{COMP_WORDS[i]}} ;;
            {last}) command="${{command:+$command }}${{COMP_WORDS[i]}}"; break ;;
        esac
    done
    for ((; i < COMP_CWORD; i++)); do
        if [[ $command == run && ${{COMP_WORDS[i]}} == -- ]]; then
            _sandboxctl_program $((i + 1))
            return
        fi
    done
    COMPREPLY=()
    case $command in
        "") COMPREPLY=($(compgen -W '{_bash_words(TOP)}' -- "$cur")) ;;
{cases}    esac
}}
_sandboxctl_program() {{
    if declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif ((COMP_CWORD == $1)); then
        COMPREPLY=($(compgen -c -- "${{COMP_WORDS[COMP_CWORD]}}"))
    else
        COMPREPLY=($(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}"))
    fi
}}
complete -F _sandboxctl sandboxctl
"""


def _bash_words(spec: CommandSpec) -> str:
    return " ".join([*spec.commands, *spec.words, *(option.name for option in spec.options)])


def _bash_group(spec: CommandSpec) -> str:
    words = _bash_words(spec)
    return f"""\
        {spec.name}) COMPREPLY=($(compgen -W '{words}' -- "$cur")) ;;
"""


def _bash_case(spec: CommandSpec) -> str:
    values = "".join(_bash_value(option) for option in spec.options if option.metavar)
    if spec.files:
        values += """\
                *) if [[ $cur != -* ]]; then COMPREPLY=($(compgen -f -- "$cur")); return; fi ;;&
"""
    return f"""\
        {_quote(spec.name)})
            case $prev in
{values}                *) COMPREPLY=($(compgen -W '{_bash_words(spec)}' -- "$cur")) ;;
            esac ;;
"""


def _bash_value(option: Option) -> str:
    how = "COMPREPLY=()"
    if option.files:
        how = 'COMPREPLY=($(compgen -f -- "$cur"))'
    elif option.choices:
        how = f"COMPREPLY=($(compgen -W '{' '.join(option.choices)}' -- \"$cur\"))"
    names = f"{option.name}|{option.short}" if option.short else option.name
    return f"                {names}) {how} ;;\n"


def zsh() -> str:
    """A function for zsh's `compdef`."""
    functions = "".join(_zsh_function(spec) for spec in (*_groups(), TOP))
    return f"""\
#compdef sandboxctl
{functions}if [[ $funcstack[1] == _sandboxctl ]]; then
    _sandboxctl "$@"
else
    compdef _sandboxctl sandboxctl
fi
"""


def _zsh_function(spec: CommandSpec) -> str:
    """The function for a command with commands: what follows is told apart by its word."""
    name = f"_sandboxctl_{spec.name}" if spec.name else "_sandboxctl"
    commands = "\n".join(
        f"        {_quote(f'{inner.word}:{inner.summary}')}" for inner in spec.commands.values()
    )
    cases = "".join(_zsh_case(inner) for inner in spec.commands.values())
    options = " ".join(_quote(_zsh_option(option)) for option in spec.options)
    return f"""\
{name}() {{
    local state
    local -a commands=(
{commands}
    )
    _arguments -C {options} \\
        '1:command:->command' '*::argument:->argument'
    case $state in
        command) _describe command commands ;;
        argument)
            case $words[1] in
{cases}            esac ;;
    esac
}}
"""


def _zsh_case(spec: CommandSpec) -> str:
    if spec.commands:
        return f"{'':16}{spec.word}) _sandboxctl_{spec.name} ;;\n"
    arguments = [_quote(_zsh_option(option)) for option in spec.options]
    if spec.name == "run":
        arguments += ["'(-)1:program:_command_names -e'", "'*::argument:_normal'"]
    elif spec.words:
        arguments.append(_quote(f"1:word:({' '.join(spec.words)})"))
    elif spec.files:
        arguments.append("'*:file:_files'")
    joined = f" \\\n{'':20}".join(["_arguments -S", *arguments])
    return f"{'':16}{spec.word})\n{'':18}{joined} ;;\n"


def _zsh_option(option: Option) -> str:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", " ")
    spec = f"{'*' if option.repeat else ''}{option.name}[{text}]"
    if not option.metavar:
        return spec
    action = ""
    if option.files:
        action = "_files"
    elif option.choices:
        action = f"({' '.join(option.choices)})"
    return f"{spec}:{option.metavar.replace('[', '').replace(']', '')}:{action}"


def fish() -> str:
    """Lines of fish's `complete`."""
    lines = ["complete -c sandboxctl -f"]
    lines += [
        f"complete -c sandboxctl -n __fish_use_subcommand {_fish_option(option)}"
        for option in TOP.options
    ]
    lines += _fish_commands(TOP, "not __fish_seen_subcommand_from " + " ".join(TOP.commands))
    return "\n".join(lines) + "\n"


def _fish_commands(spec: CommandSpec, when: str) -> list[str]:
    lines = []
    for inner in spec.commands.values():
        lines.append(
            f"complete -c sandboxctl -n {_quote(when)} -a {inner.word} -d {_quote(inner.summary)}"
        )
        seen = f"__fish_seen_subcommand_from {inner.word}"
        if spec.name:
            seen = f"__fish_seen_subcommand_from {spec.word}; and {seen}"
        elif around := [group.word for group in _groups() if inner.word in group.commands]:
            seen = f"{seen}; and not __fish_seen_subcommand_from {' '.join(around)}"
        if inner.commands:
            lines += _fish_commands(
                inner, f"{seen}; and not __fish_seen_subcommand_from {' '.join(inner.commands)}"
            )
        else:
            lines += _fish_command(inner, f"complete -c sandboxctl -n {_quote(seen)}")
    return lines


def _fish_command(spec: CommandSpec, seen: str) -> list[str]:
    lines = [f"{seen} {_fish_option(option)}" for option in spec.options]
    if spec.words:
        lines.append(f"{seen} -a '{' '.join(spec.words)}'")
    if spec.files:
        lines.append(f"{seen} -F")
    if spec.name == "run":
        lines.append(f"{seen} -a '(__fish_complete_subcommand)'")
    return lines


def _fish_option(option: Option) -> str:
    text = f"-l {option.name.removeprefix('--')} -d {_quote(option.help)}"
    if option.short:
        text = f"-s {option.short.removeprefix('-')} {text}"
    if option.files:
        text += " -r -F"
    elif option.choices:
        text += f" -x -a '{' '.join(option.choices)}'"
    elif option.metavar:
        text += " -x"
    return text
