"""Uptime and boot time of the host, and who is logged in.

Sources: /proc/uptime, btime in /proc/stat (proc(5)), and utmp(5).
"""

from collections.abc import Iterable

import psutil

from plugd.plugin import Gauge, Plugin, Sample


class System(Plugin):
    """The host as a whole."""

    version = "1.0.0"
    interval = 30.0  # seconds

    uptime = Gauge("system.uptime", unit="s", help="Time since the host booted, suspended time included.")
    boot_time = Gauge("system.boot_time", unit="s", help="When the host booted, in seconds since 1970 (Unix time).")
    users = Gauge("system.user.count", unit="{user}", help="Different users who are logged in.")
    sessions = Gauge("system.session.count", unit="{session}", help="Login sessions that utmp knows.")

    def collect(self) -> Iterable[Sample]:
        """Yield the times and the counts; zero users where the system keeps no utmp."""
        uptime = parse_uptime(read(f"{psutil.PROCFS_PATH}/uptime"))
        if uptime is not None:
            yield self.uptime(uptime)
        try:
            yield self.boot_time(psutil.boot_time())
        except (OSError, RuntimeError):
            pass  # /proc/stat is hidden, or has no btime.
        try:
            users = [each.name for each in psutil.users()]
        except OSError:
            return
        yield self.users(len(set(users)))
        yield self.sessions(len(users))


def read(path: str) -> str:
    """Return a file's text; empty where the host lacks the file or hides it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parse_uptime(text: str) -> float | None:
    """Return the first number of /proc/uptime, in seconds."""
    fields = text.split()
    return float(fields[0]) if fields else None
