"""What a freshly forked process does to become a worker."""

import os
import signal
import sys
import time

from plugd.prctl import PR_SET_NAME, PR_SET_PDEATHSIG, prctl


def set_process_name(name: str) -> None:
    """Set the name that ps and top show (/proc/PID/comm); the kernel keeps 15 bytes."""
    prctl(PR_SET_NAME, name.encode()[:15])


def die_with(daemon_pid: int, intermediate_pid: int) -> None:
    """Have the kernel kill this process when the daemon dies, however that dies.

    The process was forked twice, so that its parent becomes the daemon (a child subreaper) and not the
    forkserver, which may be replaced. The death signal is the one of the parent at the time of the call:
    it must wait until the intermediate process is gone.
    """
    while os.getppid() == intermediate_pid:
        time.sleep(0.00005)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != daemon_pid:
        os._exit(1)  # The daemon died before the kernel knew whom to watch.


def detach(rpc: int, stdout: int, stderr: int, *further: int) -> int:
    """Make the descriptors of a worker: nothing to read, its output to the daemon, one RPC socket; no others.

    Returns: the RPC socket's descriptor: 3, out of the way of a plugin that writes to its standard streams. Further
    ones come behind it.
    """
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    # Moved out of the way first: any of them may be one of the numbers that are filled.
    high = [_above(descriptor) for descriptor in (null, stdout, stderr, rpc, *further)]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number, inheritable=number < 3)
    os.closerange(len(high), _descriptor_limit())
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    # A line at a time, so that what a plugin printed before it died is not lost.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    return 3


def default_signals() -> None:
    """Undo what the forkserver, or whoever started the daemon, did to signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _above(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16)


def _descriptor_limit() -> int:
    """One above the highest open descriptor: closing a million that are not open takes a tenth of a second."""
    return max(int(name) for name in os.listdir("/proc/self/fd")) + 1
