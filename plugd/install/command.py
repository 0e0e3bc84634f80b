"""The command lines of ``plugd install`` and ``plugd uninstall``."""

import argparse
import json
import os
import sys
from typing import NoReturn

from plugd.install.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE, InstallError
from plugd.install.installer import Installer
from plugd.install.manager import Manager
from plugd.install.steps import Step
from plugd.install.tree import Tree
from plugd.log import escape

EXIT_INTERRUPTED = 130  # 128 and SIGINT, as shells have it

_EPILOG = """\
exit codes:
  0   done, or nothing to do
  64  wrong usage
  69  refused: not on this system, or not with this plugd; nothing was changed
  71  a step failed; running it again goes on, and uninstall takes back what was done
  77  not root
"""


class Outcome:
    """What has been done, told line by line, or as one object with ``--json``."""

    def __init__(self, verb: str, *, dry_run: bool, as_json: bool) -> None:
        self._verb = verb
        self._dry_run = dry_run
        self._as_json = as_json
        self._steps: list[Step] = []

    def tell(self, step: Step) -> None:
        """Tell of a step that has been done, or would be."""
        self._steps.append(step)
        if not self._as_json:
            _print(step.text(done=not self._dry_run))

    def end(self, notes: list[str], nothing: str) -> None:
        """Tell what there is to be known at the end; ``nothing`` where there were no steps."""
        if self._as_json:
            self._object(notes)
            return
        for note in notes:
            _print(f"note: {note}")
        if not self._steps:
            _print(nothing)

    def fail(self, error: InstallError) -> int:
        """Tell why it was not done, or not to its end; return the status."""
        if self._as_json:
            self._object([], error)
        text = f"plugd {self._verb}: {error}"
        _print(f"{text} (try: {error.remedy})" if error.remedy else text, error=True)
        return error.status

    def _object(self, notes: list[str], error: InstallError | None = None) -> None:
        shown: dict[str, object] = {"dry_run": self._dry_run, "changes": [step.as_dict() for step in self._steps]}
        shown["notes"] = notes
        if error is not None:
            shown["error"] = {"message": str(error), "remedy": error.remedy, "status": error.status}
        print(json.dumps(shown, indent=2), flush=True)


def main(verb: str, arguments: list[str]) -> int:
    """Install or uninstall, and return the status to exit with.

    Args:
        verb: "install" or "uninstall".
        arguments: those after it.

    Raises:
        SystemExit: after ``--help`` or wrong usage.
    """
    os.umask(0o022)  # Directories and links have no mode given.
    parser = _parser(verb)
    options = parser.parse_args(arguments)
    if options.root is not None and verb == "install" and options.now:
        parser.error("--now starts plugd, and with --root nothing runs")
    outcome = Outcome(verb, dry_run=options.dry_run, as_json=options.json)
    try:
        if options.root is not None and not os.path.isdir(options.root):
            raise InstallError(f"cannot {verb}: there is no directory {options.root}", EXIT_REFUSED)
        tree = Tree(options.root or "/")
        manager = Manager(tree, live=options.root is None)
        installer = Installer(tree, manager, os.geteuid(), dry_run=options.dry_run, tell=outcome.tell)
        if verb == "install":
            outcome.end(installer.install(now=options.now), "nothing to do: plugd is installed")
        else:
            outcome.end(installer.uninstall(purge=options.purge), "nothing to do: plugd is not installed")
    except InstallError as error:
        return outcome.fail(error)
    except KeyboardInterrupt:
        _print(f"plugd {verb}: interrupted; running it again goes on", error=True)
        return EXIT_INTERRUPTED
    return EXIT_OK


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _print(f"{self.prog}: {message}", error=True)
        raise SystemExit(EXIT_USAGE)


def _parser(verb: str) -> argparse.ArgumentParser:
    description = (
        "Make this plugd, as pip or pipx has installed it, a service of systemd: its units, its user, a default "
        "configuration, completions and manual pages. What is there already, and as it should be, is left alone."
        if verb == "install"
        else "Take away what plugd install has made. Configuration, state and files that have been changed stay."
    )
    parser = _Parser(
        prog=f"plugd {verb}",
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if verb == "install":
        parser.add_argument("--now", action="store_true", help="start plugd, too; restart it after an upgrade")
    else:
        parser.add_argument(
            "--purge", action="store_true", help="also configuration, secrets, state, the user and the group plugd"
        )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument(
        "--root", metavar="DIR", help="the file system in DIR, such as an image's; nothing is started or stopped"
    )
    parser.add_argument("--json", action="store_true", help="tell it as JSON")
    return parser


def _print(line: str, *, error: bool = False) -> None:
    # Paths are anybody's text, and must not drive the terminal.
    print(escape(line), file=sys.stderr if error else sys.stdout, flush=True)
