"""Shell completion, made of the table of verbs; the names of plugins are asked of the daemon."""

from __future__ import annotations

from plugctl.errors import OK
from plugctl.verbs import GLOBALS, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plugctl.arguments import Call
    from plugctl.output import Output
    from plugctl.verbs import Option, Verb

# The shell expands what it is given as words: nothing but names may come through.
_NAMES = "plugctl list --timeout 1 2>/dev/null | awk 'NR > 1 && $1 ~ /^[A-Za-z0-9_.@-]+$/ { print $1 }'"

_BASH = """\
# bash completion of plugctl
_plugctl() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} verb= words= index word
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        case $word in
            {global_values}) ((index++)) ;;
            -*) ;;
            *) verb=$word; break ;;
        esac
    done
    case ${{COMP_WORDS[COMP_CWORD-1]}} in
        --socket) COMPREPLY=($(compgen -f -- "$current")); return ;;
        --daemon-user) COMPREPLY=($(compgen -u -- "$current")); return ;;
    esac
    case $verb in
        '') words="{verbs}" ;;
{cases}
    esac
    case $verb in
        {named}) words+=" $({names})" ;;
        {files}) COMPREPLY=($(compgen -f -- "$current") $(compgen -W "$words {global_flags}" -- "$current")); return ;;
    esac
    COMPREPLY=($(compgen -W "$words {global_flags}" -- "$current"))
}}
complete -F _plugctl plugctl
"""


def run(call: Call, output: Output) -> int:
    """Print the script for a shell.

    Raises:
        UsageError: for none that is known.
    """
    scripts = {"bash": bash, "zsh": zsh, "fish": fish}
    shell = call.params["shell"]
    if shell not in scripts:
        from plugctl.arguments import UsageError

        raise UsageError(f"no completion for {shell!r}: bash, zsh or fish", call.verb)
    output.lines(scripts[shell]().splitlines())
    return OK


def bash() -> str:
    """Return the script for bash."""
    cases = [
        f'        {verb.name}) words="{" ".join(_flags(verb.options) + _choices(verb))}" ;;' for verb in VERBS.values()
    ]
    return _BASH.format(
        verbs=" ".join(VERBS),
        cases="\n".join(cases),
        named="|".join([verb.name for verb in VERBS.values() if _takes_name(verb)]),
        names=_NAMES,
        files="|".join([verb.name for verb in VERBS.values() if _takes_file(verb)]),
        global_flags=" ".join(_flags(GLOBALS)),
        global_values="|".join([flag for option in GLOBALS if option.metavar for flag in option.flags]),
    )


def zsh() -> str:
    """Return the script for zsh, which can run bash's."""
    # From $fpath it is loaded in the middle of the first completion, which would end without any words.
    first = "[[ $funcstack[1] != _plugctl ]] || _bash_complete -F _plugctl"
    return f"#compdef plugctl\nautoload -U +X bashcompinit && bashcompinit\n{bash()}{first}\n"


def fish() -> str:
    """Return the script for fish."""
    lines = ["# fish completion of plugctl", "complete -c plugctl -f"]
    lines += [_fish_option(option, "") for option in GLOBALS]
    for verb in VERBS.values():
        lines.append(f"complete -c plugctl -n __fish_use_subcommand -a {verb.name} -d {_quoted(verb.help)}")
        condition = f" -n '__fish_seen_subcommand_from {verb.name}'"
        lines += [_fish_option(option, condition) for option in verb.options]
        if _takes_file(verb):
            lines.append(f"complete -c plugctl{condition} -F")
        choices = [f"({_NAMES})"] if _takes_name(verb) else _choices(verb)
        if choices:
            lines.append(f"complete -c plugctl{condition} -a {_quoted(' '.join(choices))}")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option, condition: str) -> str:
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    value = " -r" if option.metavar else ""
    words = {"PATH": " -F", "USER": " -a '(__fish_complete_users)'"}.get(option.metavar, "")
    return f"complete -c plugctl{condition} {' '.join(flags)}{value}{words} -d {_quoted(option.help)}"


def _takes_name(verb: Verb) -> bool:
    """Whether a verb's first argument is a plugin that is there."""
    return (
        bool(verb.positionals)
        and verb.positionals[0].parameter in ("name", "names", "patterns")
        and verb.name != "load"  # what is loaded already cannot be loaded
    )


def _takes_file(verb: Verb) -> bool:
    """Whether a verb's first argument is a file."""
    return bool(verb.positionals) and verb.positionals[0].parameter == "file"


def _choices(verb: Verb) -> list[str]:
    """What may stand as the verb's first argument, where it is one of a few words."""
    words = {"shell": ["bash", "zsh", "fish"], "topic": list(VERBS)}
    return words.get(verb.positionals[0].parameter, []) if verb.positionals else []


def _flags(options: list[Option] | tuple[Option, ...]) -> list[str]:
    return [flag for option in options for flag in option.flags]


def _quoted(text: str) -> str:
    """The text in fish's single quotes, in which only a quote and a backslash mean something."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
