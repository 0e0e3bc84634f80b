"""Which plugins are being started, on disk: should plugd or the machine die of one, the next start names it."""

import json
import os

import structlog

log = structlog.get_logger()

FILE_NAME = "starting.json"


class StartLog:
    """A small file in the state directory; without one, or where it cannot be written, nothing is noted.

    Its methods block for as long as the disk takes, and are called from threads.
    """

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, FILE_NAME)
        self._names: set[str] = set()
        self._descriptor = -1
        self.suspects = self._read()

    def open(self) -> None:
        """Begin anew; what the last run left has been read."""
        try:
            os.makedirs(os.path.dirname(self._path), 0o700, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.debug("start_log_unavailable", path=self._path, reason=error.strerror)

    def close(self) -> None:
        """End it: nothing is being started any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def begin(self, name: str) -> None:
        """Note that a plugin is being started, before anything of it runs."""
        self._names.add(name)
        self._write(synchronous=True)

    def end(self, name: str) -> None:
        """Note that it has been, or that it could not be."""
        self._names.discard(name)
        self._write(synchronous=False)

    def _write(self, *, synchronous: bool) -> None:
        if self._descriptor < 0:
            return
        data = json.dumps(sorted(self._names)).encode()
        try:
            os.pwrite(self._descriptor, data, 0)
            os.ftruncate(self._descriptor, len(data))
            if synchronous:
                os.fdatasync(self._descriptor)
        except OSError as error:
            log.warning("start_log_failed", reason=error.strerror)
            self.close()

    def _read(self) -> list[str]:
        try:
            with open(self._path, "rb") as file:
                names = json.load(file)
        except (OSError, ValueError):
            return []  # The last run ended in order, or there was none.
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
