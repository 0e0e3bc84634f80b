"""Why plugd was not installed or uninstalled, and the exit statuses that say so."""

EXIT_OK = 0
EXIT_USAGE = 64  # EX_USAGE of sysexits.h
EXIT_REFUSED = 69  # EX_UNAVAILABLE: not here, or not with this plugd; nothing has been changed
EXIT_FAILED = 71  # EX_OSERR: a step failed; what was done before it is recorded
EXIT_NOT_ROOT = 77  # EX_NOPERM


class InstallError(Exception):
    """It cannot be done, or not to its end.

    Attributes:
        status: what plugd exits with; unless it is EXIT_FAILED, nothing has been changed.
        remedy: what to do about it, in a sentence or a command; may be empty.
    """

    def __init__(self, message: str, status: int, remedy: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.remedy = remedy
