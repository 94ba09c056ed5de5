"""Completions for bash, zsh and fish, made from the table of options."""

from __future__ import annotations

from sandboxctl import exitcodes
from sandboxctl.options import COMMANDS

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


def bash() -> str:
    """A function for bash's `complete -F`."""
    cases = "".join(_bash_case(spec) for spec in COMMANDS.values())
    return f"""\
_sandboxctl() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {"|".join(COMMANDS)}) command=${{COMP_WORDS[i]}}; break ;;
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
        "") COMPREPLY=($(compgen -W '{" ".join(COMMANDS)} --socket --help --version' -- "$cur")) ;;
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


def _bash_case(spec: CommandSpec) -> str:
    words = " ".join([*spec.words, *(option.name for option in spec.options)])
    values = "".join(_bash_value(option) for option in spec.options if option.metavar)
    return f"""\
        {spec.name})
            case $prev in
{values}                *) COMPREPLY=($(compgen -W '{words}' -- "$cur")) ;;
            esac ;;
"""


def _bash_value(option: Option) -> str:
    how = "COMPREPLY=()"
    if option.files:
        how = 'COMPREPLY=($(compgen -f -- "$cur"))'
    elif option.choices:
        how = f"COMPREPLY=($(compgen -W '{' '.join(option.choices)}' -- \"$cur\"))"
    return f"                {option.name}) {how} ;;\n"


def zsh() -> str:
    """A function for zsh's `compdef`."""
    commands = "\n".join(
        f"        {_quote(f'{spec.name}:{spec.summary}')}" for spec in COMMANDS.values()
    )
    cases = "".join(_zsh_case(spec) for spec in COMMANDS.values())
    return f"""\
#compdef sandboxctl
_sandboxctl() {{
    local state
    local -a commands=(
{commands}
    )
    _arguments -C '--socket[socket of the daemon]:path:_files' '--help' '--version' \\
        '1:command:->command' '*::argument:->argument'
    case $state in
        command) _describe command commands ;;
        argument)
            case $words[1] in
{cases}            esac ;;
    esac
}}
if [[ $funcstack[1] == _sandboxctl ]]; then
    _sandboxctl "$@"
else
    compdef _sandboxctl sandboxctl
fi
"""


def _zsh_case(spec: CommandSpec) -> str:
    arguments = [_quote(_zsh_option(option)) for option in spec.options]
    if spec.name == "run":
        arguments += ["'(-)1:program:_command_names -e'", "'*::argument:_normal'"]
    elif spec.words:
        arguments.append(_quote(f"1:word:({' '.join(spec.words)})"))
    joined = f" \\\n{'':20}".join(["_arguments -S", *arguments])
    return f"{'':16}{spec.name})\n{'':18}{joined} ;;\n"


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
    names = " ".join(COMMANDS)
    lines = [
        "complete -c sandboxctl -f",
        "complete -c sandboxctl -n __fish_use_subcommand -l socket -r -F",
        "complete -c sandboxctl -n __fish_use_subcommand -l help",
        "complete -c sandboxctl -n __fish_use_subcommand -l version",
    ]
    for spec in COMMANDS.values():
        lines.append(
            f"complete -c sandboxctl -n 'not __fish_seen_subcommand_from {names}'"
            f" -a {spec.name} -d {_quote(spec.summary)}"
        )
        seen = f"complete -c sandboxctl -n '__fish_seen_subcommand_from {spec.name}'"
        lines += [f"{seen} {_fish_option(option)}" for option in spec.options]
        if spec.words:
            lines.append(f"{seen} -a '{' '.join(spec.words)}'")
        if spec.name == "run":
            lines.append(f"{seen} -a '(__fish_complete_subcommand)'")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    text = f"-l {option.name.removeprefix('--')} -d {_quote(option.help)}"
    if option.files:
        text += " -r -F"
    elif option.choices:
        text += f" -x -a '{' '.join(option.choices)}'"
    elif option.metavar:
        text += " -x"
    return text
