"""Help and usage, drawn by argparse from the table of verbs; parsing is done elsewhere, without it."""

import argparse

from plugctl.verbs import ANY, GLOBALS, OPTIONAL, SOME, VERBS, Option, Positional, Verb

_EPILOG = """\
environment:
  PLUGD_SOCKET        the daemon's socket, where --socket is not given
  PLUGD_DAEMON_USER   a user whose daemon is trusted, where --daemon-user is not given
  NO_COLOR            set to anything: no colours

exit status:
  0 done   1 the request failed   2 usage   3 no daemon at that socket
  4 denied   5 not found   6 timed out

`plugctl` alone tells in a few lines how the daemon is; `plugctl help VERB` tells more about a verb.
"""


def help_text(verb: Verb | None) -> str:
    """Return the help of a verb, or of plugctl as a whole."""
    return _parser(verb).format_help().rstrip("\n")


def usage(verb: Verb | None) -> str:
    """Return the line that tells how a verb, or plugctl, is called."""
    return _parser(verb).format_usage().rstrip("\n")


def _parser(verb: Verb | None) -> argparse.ArgumentParser:
    return _overview() if verb is None else _detail(verb)


def _overview() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plugctl",
        usage="plugctl [--socket PATH] [--daemon-user USER] [--json] [--timeout S] VERB ...",
        description="Ask plugd, and tell it what to do.",
        epilog=_EPILOG,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(parser.add_argument_group("options, before or after the verb"), GLOBALS)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for verb in VERBS.values():
        verbs.add_parser(verb.name, help=verb.help, add_help=False)
    return parser


def _detail(verb: Verb) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"plugctl {verb.name}",
        description=f"{verb.help[0].upper()}{verb.help[1:]}. {verb.detail}",
        epilog="Global options (--socket, --daemon-user, --json, --timeout): see plugctl help.",
        add_help=False,
    )
    if verb.positionals:
        _add_positionals(parser.add_argument_group("arguments"), verb.positionals)
    if verb.options:
        _add_options(parser.add_argument_group("options"), verb.options)
    return parser


def _add_positionals(group: argparse._ArgumentGroup, positionals: list[Positional]) -> None:
    for positional in positionals:
        nargs = positional.count if positional.count in (ANY, OPTIONAL, SOME) else None
        group.add_argument(
            positional.parameter, metavar=positional.metavar, nargs=nargs, help=_escaped(positional.help)
        )


def _add_options(group: argparse._ArgumentGroup, options: list[Option] | tuple[Option, ...]) -> None:
    for option in options:
        text = _escaped(option.help)
        if option.metavar:
            group.add_argument(*option.flags, dest=option.parameter, metavar=option.metavar, help=text)
        else:
            group.add_argument(*option.flags, dest=option.parameter, action="store_true", help=text)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
