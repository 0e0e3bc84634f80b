"""plugd's command line: flags, ``--check-config`` and exit codes."""

import argparse
import contextlib
import os
import sys
from typing import NoReturn, get_args

from plugd import __version__
from plugd.catalog.lock import read_lock
from plugd.config import ConfigError, Fault, LogFormat, LogLevel
from plugd.journal import Entry, Journal, leads_to_journal
from plugd.log import escape
from plugd.log_text import journal_entry
from plugd.settings import Flags, Settings, resolve

EXIT_OK = 0
EXIT_USAGE = 64  # EX_USAGE of sysexits.h
EXIT_IN_USE = 69  # EX_UNAVAILABLE: another plugd owns the socket
EXIT_CONFIG = 78  # EX_CONFIG

INCLUDE_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")

_STDOUT = 1
_STDERR = 2

_EPILOG = """\
A flag wins over the configuration, and the configuration over the defaults. No file at all is valid, too.

as a service:
  plugd install     have systemd run this plugd; see plugd install --help
  plugd uninstall   take that back

signals:
  SIGTERM, SIGINT   stop
  SIGHUP            reload the configuration and what changed of the plugins

exit codes:
  0   stopped as asked
  64  wrong usage
  69  another plugd owns the socket, and keeps serving
  73  the control socket cannot be made
  78  the configuration is not valid; every fault is listed
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon and return its exit code.

    Args:
        arguments: those after the program's name; None: the process's own.

    Raises:
        SystemExit: after ``--help``, ``--version`` or wrong usage.
    """
    _open_standard_descriptors()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in ("install", "uninstall"):
        from plugd.install import command  # The daemon has no use for it.

        return command.main(arguments[0], arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        settings = resolve(_flags(options), dict(os.environ), os.geteuid())
        if settings.lock is not None:
            read_lock(settings.lock)
        if options.check_config and (faults := _program_faults(settings)):
            raise ConfigError(faults)
    except ConfigError as error:
        _tell(error.faults)
        if not options.check_config:
            _turn_clients_away()
        return EXIT_CONFIG
    if options.check_config:
        _print(_valid(settings), _STDOUT)
        return EXIT_OK
    from plugd.daemon import run

    return run(settings)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _print(f"{_mark()}{self.prog}: {message}", _STDERR)
        raise SystemExit(EXIT_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="plugd",
        description="A host-metrics daemon whose plugins run in processes of their own. Runs in the foreground.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # an abbreviation that a script relies on would break with the next flag
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="configuration file; drop-ins are plugd.d/*.toml beside it (default: /etc/plugd/plugd.toml "
        "for root, ~/.config/plugd/plugd.toml for others)",
    )
    parser.add_argument(
        "--plugin-dir",
        metavar="DIR",
        action="append",
        help="directory of plugins, instead of all others; may be repeated, and the first that has a plugin wins",
    )
    parser.add_argument(
        "--lock",
        metavar="FILE",
        help="run only the plugins in this output of `plugctl lock`, with the same sha256",
    )
    parser.add_argument("--socket", metavar="PATH", help="control socket")
    parser.add_argument("--state-dir", metavar="DIR", help="directory of what outlives the daemon")
    parser.add_argument("--log-level", metavar="LEVEL", choices=get_args(LogLevel), help=", ".join(get_args(LogLevel)))
    parser.add_argument(
        "--log-format",
        metavar="FORMAT",
        choices=get_args(LogFormat),
        help="text, json, journal, or auto: journal where stderr is systemd's journal, text on a terminal, "
        "otherwise json",
    )
    parser.add_argument("--check-config", action="store_true", help="check the configuration and stop")
    parser.add_argument(
        "--include-dir",
        action="version",
        version=INCLUDE_DIR,
        help="show the directory of plugd.h, for the compiler of a native plugin, and stop",
    )
    parser.add_argument("--version", action="version", version=f"plugd {__version__}")
    return parser


def _flags(options: argparse.Namespace) -> Flags:
    return Flags(
        config=options.config,
        plugin_dirs=None if options.plugin_dir is None else tuple(options.plugin_dir),
        lock=options.lock,
        socket=options.socket,
        state_dir=options.state_dir,
        log_level=options.log_level,
        log_format=options.log_format,
    )


def _program_faults(settings: Settings) -> list[Fault]:
    from plugd.catalog.check import command_faults  # A start does without: it finds the same in its own time.

    return command_faults(settings)


def _turn_clients_away() -> None:
    """Tell those who wait at a socket of systemd's; the faults themselves are for the log, which not all may read."""
    from plugd.control.refusal import turn_away
    from plugd.errors import CONFIG_INVALID, CommandError
    from plugd.systemd import listen_sockets

    message = "plugd cannot start: its configuration is not valid; journalctl -t plugd says why"
    turn_away(listen_sockets(), CommandError(CONFIG_INVALID, message))


def _valid(settings: Settings) -> str:
    return f"configuration is valid: {' '.join(settings.config_files) or 'no file, all defaults'}"


def _tell(faults: list[Fault]) -> None:
    """Say what is wrong with the configuration: in the journal by its own protocol, if stderr is that."""
    if leads_to_journal(_STDERR):
        with contextlib.closing(Journal()) as journal:
            if all(journal.send(_entry(fault)) for fault in faults) and journal.flush():
                return
    for fault in faults:
        _print(f"{_mark()}{fault}", _STDERR)


def _entry(fault: Fault) -> Entry:
    facts = {"file": fault.file, "key": fault.key, "reason": fault.reason}
    return journal_entry({"level": "error", "event": "configuration_invalid", **facts}, escape(str(fault)))


def _mark() -> str:
    return "<3>" if leads_to_journal(_STDERR) else ""  # sd-daemon(3): an error


def _print(line: str, fd: int) -> None:
    # File names and keys are anybody's text, and must not drive the terminal.
    text = escape(line).encode(errors="backslashreplace")
    with contextlib.suppress(OSError):  # nobody listens; the exit code says it too
        os.write(fd, text + b"\n")


def _open_standard_descriptors() -> None:
    """Open /dev/null in the place of a closed stdin, stdout or stderr.

    Otherwise the next file that is opened takes its number, and is written to by whoever means stderr.
    """
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
