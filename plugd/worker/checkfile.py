"""Try a plugin's file without a daemon: ``python -m plugd.worker.checkfile PATH``, what ``plugctl check PATH`` runs.

It is loaded, opened and collected from once, in a process that is confined as a worker is and ends with this one. The
outcome goes to stdout as JSON, ``{name, ok, faults, samples, duration}``; what the plugin prints goes to stderr.
"""

import contextlib
import os
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from plugd.descendants import descendants_of
from plugd.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from plugd.rpc.codec import WORKER_LIMITS, Decoder, FrameError, MessageError, encode_request
from plugd.rpc.message import Notification, Response
from plugd.sealed import SealedCopy
from plugd.worker.command_run import ending_of
from plugd.worker.main import run
from plugd.worker.searchpath import clean_search_path
from plugd.worker.series import DEFAULT_BUDGET, DEFAULT_SAMPLES

KINDS = {".py": "python", ".so": "native"}
PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_.\-]{0,63}\Z")
STEP_TIMEOUT = 10.0  # seconds to load, to open, and to collect where the plugin does not say
MEMORY_BYTES = 256 * 1024 * 1024
OPEN_FILES = 256
PROCESSES = 64
STRANGER = 65519  # the last of the users that plugd gives to plugins where it is root
RECEIVE_BYTES = 64 * 1024
REAP_PERIOD = 0.005  # seconds
USABLE_BYTES = 64 * 1024 * 1024  # of a file, as in a plugin directory

Fault = dict[str, Any]


class Refused(Exception):  # noqa: N818 - it says what became of the plugin
    """The plugin has faults, or did not survive.

    Attributes:
        faults: ``{message, path, line}`` each.
    """

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


def main() -> int:
    """Check the file that the command line names; return 0 if it is a plugin, else 1."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # Nothing that the plugin starts gets away.
    clean_search_path()
    report = check(sys.argv[1])
    os.write(1, msgspec.json.encode(report) + b"\n")
    return 0 if report["ok"] else 1


def check(path: str) -> dict[str, Any]:
    """Return what becomes of a plugin's file: ``{name, ok, faults, samples, duration}``; ``duration`` in seconds."""
    path = os.path.abspath(path)
    stem, suffix = os.path.splitext(os.path.basename(path))
    report = {"name": stem, "ok": False, "faults": [], "samples": None, "duration": None}
    try:
        samples, duration = _try(stem, path, suffix)
    except Refused as refused:
        return report | {"faults": refused.faults}
    return report | {"ok": True, "samples": samples, "duration": duration}


def _try(name: str, path: str, suffix: str) -> tuple[int, float]:
    if suffix not in KINDS:
        raise Refused([_fault(path, f"neither {' nor '.join(KINDS)}: a plugin is one or the other")])
    if not PLUGIN_NAME.match(name):
        raise Refused([_fault(path, "not a plugin's name: a lowercase letter, then letters, digits and _ . -")])
    try:
        # Without O_NONBLOCK a FIFO would wait for somebody to write.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused([_fault(path, "not a regular file")])
            data = file.read(USABLE_BYTES + 1)
        if len(data) > USABLE_BYTES:
            raise Refused([_fault(path, f"larger than {USABLE_BYTES} bytes")])
        image = SealedCopy(data, path)
    except OSError as error:
        raise Refused([_fault(path, f"cannot be read: {(error.strerror or str(error)).lower()}")]) from error
    with _Trial(name, path, image) as trial:
        loaded = trial.ask(
            "load",
            {
                "name": name,
                "kind": KINDS[suffix],
                "path": path,
                "source": data if KINDS[suffix] == "python" else b"",
                "options": {},
                "settings": {},
                "budget": DEFAULT_BUDGET,
                "samples": DEFAULT_SAMPLES,
            },
        )
        trial.ask("start", {})
        started = time.monotonic()
        collected = trial.ask("collect", {}, _timeout(loaded))
        duration = time.monotonic() - started
        trial.ask("stop", {})
    try:
        return len(collected["values"]) // 8, duration
    except (LookupError, TypeError) as error:
        raise Refused([_fault(path, "collect gave a malformed answer")]) from error


class _Trial:
    """A worker for one plugin, and the channel to it; nothing of it is left behind."""

    def __init__(self, name: str, path: str, image: SealedCopy) -> None:
        self._path = path
        self._last_id = 0
        self._decoder = Decoder(WORKER_LIMITS)
        self._channel, theirs = socket.socketpair()
        own_pid = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            self._channel.close()
            _be_the_worker(name, own_pid, [theirs.detach(), os.dup(2), os.dup(2), os.dup(image.descriptor)])
        theirs.close()

    def __enter__(self) -> "_Trial":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._kill()
        while left := descendants_of(os.getpid()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            time.sleep(REAP_PERIOD)

    def ask(self, method: str, params: dict[str, Any], timeout: float = STEP_TIMEOUT) -> Any:
        """Return the answer to a request.

        Raises:
            Refused: it is an error; there was none in time; or the process died.
        """
        self._last_id += 1
        end = time.monotonic() + timeout
        try:
            self._channel.settimeout(timeout)
            self._channel.sendall(encode_request(self._last_id, method, params))
            while True:
                message = self._decoder.next_message()
                if isinstance(message, Response) and message.id == self._last_id:
                    break
                if message is not None and not isinstance(message, Notification):
                    raise Refused([_fault(self._path, f"{method}: it sent a message out of turn")])
                if message is None:
                    self._channel.settimeout(max(end - time.monotonic(), 0.001))
                    self._decoder.feed(self._receive())
        except TimeoutError as error:
            raise Refused([_fault(self._path, f"{method} took longer than {timeout:g} s")]) from error
        except (FrameError, MessageError) as error:
            raise Refused([_fault(self._path, f"{method}: it broke its protocol: {error}")]) from error
        except (EOFError, ConnectionError) as error:
            raise Refused([_fault(self._path, f"{method}: {self._how_it_ended()}")]) from error
        if message.error is not None:
            raise Refused(_faults(self._path, message.error))
        return message.result

    def _receive(self) -> bytes:
        data = self._channel.recv(RECEIVE_BYTES)
        if not data:
            raise EOFError
        return data

    def _how_it_ended(self) -> str:
        return f"the plugin's process {ending_of(os.waitstatus_to_exitcode(self._kill()))}"

    def _kill(self) -> int:
        """End what is left of the worker, and of what it has started; return how it ended."""
        if self._pid == 0:
            return 0
        # A process that dies closes its channel first: it shall be told how it died, and not that it was killed.
        end = time.monotonic() + 0.5
        while (ended := os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
            if time.monotonic() > end:
                break
            time.sleep(0.002)
        try:
            os.killpg(self._pid, signal.SIGKILL)  # Its session is its own.
        except (ProcessLookupError, PermissionError):
            pass  # It has ended, or not come that far, or changed its user: the next line is for those.
        if ended is None:
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return status


def _be_the_worker(name: str, parent: int, descriptors: list[int]) -> None:
    """Run as a worker does, confined as by default; never return."""
    status = 1
    try:
        run(name, _rules(name), parent, 0, descriptors)
        status = 0
    finally:
        os._exit(status)


def _rules(name: str) -> dict[str, Any]:
    """What a worker confines itself to by default; see ``plugd.hosting.confinement``."""
    return {
        "uid": STRANGER if os.geteuid() == 0 and _can_change_user() else None,
        "user": None,
        "environment": _environment(os.environ, name),
        "cgroup": None,
        "memory": MEMORY_BYTES,
        "open_files": OPEN_FILES,
        "processes": PROCESSES,
        "sandbox": {"write": (), "read": None},
        "notes": [],
    }


def _environment(own: Mapping[str, str], name: str) -> dict[str, str]:
    kept = {key: own[key] for key in ("TZ",) if key in own}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": "/", "PLUGD_PLUGIN": name, **kept}


def _can_change_user() -> bool:
    """Whether this process, which is root, may become another user: it may not in some containers."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(STRANGER, STRANGER, STRANGER)
            os.setresuid(STRANGER, STRANGER, STRANGER)
        except OSError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return status == 0


def _timeout(loaded: Any) -> float:
    timeout = loaded.get("timeout") if isinstance(loaded, dict) else None
    return float(timeout) if isinstance(timeout, (int, float)) and timeout > 0 else STEP_TIMEOUT


def _faults(path: str, error: Any) -> list[Fault]:
    """The faults that an error names, or the error as the only one."""
    if not isinstance(error, dict):
        return [_fault(path, f"failed: {error!r:.200}")]
    data = error.get("data")
    data = data if isinstance(data, dict) else {}
    faults = data.get("faults")
    return faults or [_fault(path, str(error.get("message", "failed")), data.get("line"))]


def _fault(path: str, message: str, line: Any = None) -> Fault:
    return {"message": message, "path": path, "line": line}


if __name__ == "__main__":
    sys.exit(main())
