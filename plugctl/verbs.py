"""Every verb of plugctl, in one table: name, help, arguments, and what carries it out.

Parsing, help and shell completion are all made of it. What carries a verb out is named as
``module:function`` and imported when it is called, so that a call pays for its own verb alone.
"""

from __future__ import annotations

from plugctl.units import parse_count, parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ONE = "1"
OPTIONAL = "?"
ANY = "*"
SOME = "+"


class Positional:
    """An argument without a flag; ``count`` is one of ONE, OPTIONAL, ANY, SOME, the last two as lists."""

    __slots__ = ("count", "help", "metavar", "parameter")

    def __init__(self, parameter: str, metavar: str, count: str, help: str) -> None:
        self.parameter = parameter
        self.metavar = metavar
        self.count = count
        self.help = help


class Option:
    """A flag; with a ``metavar``, it takes a value, which ``convert`` checks."""

    __slots__ = ("convert", "flags", "help", "metavar", "parameter")

    def __init__(
        self,
        flags: str,
        parameter: str,
        help: str,
        metavar: str = "",
        convert: Callable[[str], object] = str,
    ) -> None:
        self.flags = flags.split()
        self.parameter = parameter
        self.help = help
        self.metavar = metavar
        self.convert = convert


class Verb:
    """A verb: a request with a renderer for its result, or a function that does more than that.

    Args:
        name: what is typed.
        help: one line.
        arguments: positionals in their order, and options, in any.
        render: ``module:function`` that draws the result of the method of the same name.
        run: ``module:function`` that does it all: it is given the call and the output, and returns a status.
        detail: further sentences for the verb's own help.
    """

    __slots__ = ("detail", "help", "name", "options", "positionals", "render", "run")

    def __init__(
        self,
        name: str,
        help: str,
        *arguments: Positional | Option,
        render: str = "",
        run: str = "",
        detail: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.positionals = [argument for argument in arguments if isinstance(argument, Positional)]
        self.options = [argument for argument in arguments if isinstance(argument, Option)]
        self.render = render
        self.run = run
        self.detail = detail


GLOBALS = (
    Option("--socket", "socket", "the daemon's socket (default: $PLUGD_SOCKET, then the usual places)", "PATH"),
    Option(
        "--daemon-user",
        "daemon_user",
        "trust a daemon of this user, besides root and you (default: $PLUGD_DAEMON_USER)",
        "USER",
    ),
    Option("--json", "json", "print the result as JSON"),
    Option("--timeout", "timeout", "how long to wait for an answer (default: 30)", "S", parse_duration),
    Option("-h --help", "help", "show help, of a verb if one is given, and exit"),
    Option("--version", "show_version", "show the version of plugctl and exit"),
)

_NAME = Positional("name", "NAME", ONE, "a plugin's name")
_NAMES = Positional("names", "NAME", ANY, "names of plugins (default: all)")
_SOME_NAMES = Positional("names", "NAME", SOME, "names of plugins")
_PATTERNS = Positional("patterns", "PATTERN", ANY, "plugins or metrics, such as cpu or 'system.disk.*' (default: all)")

VERBS = {
    verb.name: verb
    for verb in (
        Verb("list", "list the plugins and their states", render="plugins:plugins"),
        Verb("status", "tell how the daemon is", render="daemon:status"),
        Verb("stats", "show what plugins cost and their latest metrics", _PATTERNS, render="metrics:stats"),
        Verb("describe", "show a plugin's metrics, commands and settings", _NAME, render="plugins:description"),
        Verb("why", "tell why a plugin is in its state", _NAME, render="plugins:reasons"),
        Verb(
            "logs",
            "show the latest log lines, of one plugin or of all",
            Positional("name", "NAME", OPTIONAL, "a plugin's name"),
            Option("-n --lines", "lines", "how many (default: 50, at most 500)", "N", parse_count),
            render="daemon:logs",
        ),
        Verb(
            "watch",
            "show samples as they are collected, until interrupted",
            _PATTERNS,
            Option("--events", "events", "show changes of state, too"),
            Option("--interval", "interval", "at most one sample of a series in this time", "DURATION", parse_duration),
            run="watch:run",
            detail="With --json, each notification is one object on one line.",
        ),
        Verb(
            "check",
            "check a plugin's file without loading it",
            Positional("name", "NAME", ONE, "a plugin's name; or the path of a file, which needs no daemon"),
            run="local:check",
            detail="A path has a '/' in it, or ends in .py or .so. Every fault of the file is told.",
        ),
        Verb("load", "load plugins", _SOME_NAMES, run="changes:run"),
        Verb(
            "unload",
            "unload plugins",
            _SOME_NAMES,
            Option("--cascade", "cascade", "unload what requires them as well"),
            run="changes:run",
        ),
        Verb(
            "reload",
            "reload plugins, or whatever has changed",
            Positional("names", "NAME", ANY, "plugins to reload, changed or not (default: whatever has changed)"),
            Option("--dry-run", "dry_run", "only tell what would be done"),
            run="changes:run",
            detail="Without names, the configuration and the plugin directories are read again.",
        ),
        Verb(
            "pause",
            "stop collecting",
            _NAMES,
            Option("--for", "duration", "resume by itself after this time, such as 20m", "DURATION", parse_duration),
            Option("--reason", "reason", "why: kept, and told by `plugctl why`", "TEXT"),
            render="values:paused",
        ),
        Verb("resume", "collect again", _NAMES, render="values:resumed"),
        Verb(
            "get",
            "show a plugin's settings, or one of them",
            _NAME,
            Positional("setting", "SETTING", OPTIONAL, "a setting's name (default: all)"),
            Option("--origin", "origin", "tell also where each value is from"),
            run="settings:show",
        ),
        Verb(
            "set",
            "change a plugin's setting",
            _NAME,
            Positional("setting", "SETTING", ONE, "a setting's name; SETTING=VALUE is both"),
            Positional("value", "VALUE", OPTIONAL, "its new value"),
            Option("--persist", "persist", "keep it when plugd starts anew"),
            Option("--unset", "unset", "forget what it was set to: back to the configuration, or the default"),
            run="settings:change",
        ),
        Verb(
            "call",
            "call a plugin's command",
            _NAME,
            Positional("command", "COMMAND", ONE, "a command's name"),
            Positional("arguments", "ARG", ANY, "arguments; KEY=VALUE is one by name"),
            Option(
                "--deadline", "deadline", "how long it may take (default: 30s, at most 1h)", "DURATION", parse_duration
            ),
            run="calls:run",
            detail="Write -- before arguments that start with a dash. Ctrl-C cancels the command.",
        ),
        Verb(
            "lock",
            "print which plugins are loaded, with the sha256 of each: for plugd --lock, and for verify",
            run="lock:write",
            detail="The same plugins give the same text. One that cannot be locked is told, and is status 1.",
        ),
        Verb(
            "verify",
            "tell whether the plugins that are loaded are those of a lock",
            Positional("file", "FILE", ONE, "what plugctl lock, or plugctl list --json, has printed"),
            run="lock:verify",
            detail="Where they differ, there is a line for each difference, and the status is 1.",
        ),
        Verb("ping", "ask whether the daemon answers", render="values:value"),
        Verb("version", "show the versions of plugctl and of the daemon", run="local:version"),
        Verb(
            "completion",
            "print a script that completes plugctl's command lines",
            Positional("shell", "SHELL", ONE, "bash, zsh or fish"),
            run="completion:run",
            detail="bash: source <(plugctl completion bash)",
        ),
        Verb(
            "help",
            "show help, of a verb if one is given",
            Positional("topic", "VERB", OPTIONAL, "a verb"),
            run="local:show_help",
        ),
    )
}

BARE = Verb("status", "tell in a few lines how the daemon is", render="daemon:brief")
"""What is done where no verb is given."""
