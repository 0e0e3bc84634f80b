"""The kinds of values of the configuration: how each is read, and what it may be.

Durations are float seconds, sizes are bytes. Each reader raises ValueError with what was expected.
"""

import re
from functools import partial
from typing import Annotated, Literal

import msgspec

from plugd.config_reader import Reads
from plugd.units import parse_duration, parse_size, shown

SOCKET_PATH_BYTES = 107  # sun_path holds 108 with its closing zero: unix(7)

ENVIRONMENT_BYTES = 16 * 1024  # of one plugin's variables; they go to the forkserver in one packet
SANDBOX_PATHS = 64  # in each list; the same packet
SANDBOX_PATH_BYTES = 255

_LAST_UID = 2**32 - 2  # the one after it means "no change": setresuid(2)
_USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def read_mode(value: object) -> int:
    """Return the permissions that octal text such as ``"0660"`` means.

    Raises:
        ValueError: it is something else. A number is refused: 660 and 0o660 are easily confused.
    """
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError(f"expected octal permissions as text, such as '0660', got {shown(value)}")
    return int(value, 8)


def read_flush(value: object) -> float:
    """Return seconds: none at all, or a second to a day.

    Raises:
        ValueError: it is something else.
    """
    seconds = parse_duration(value)
    if seconds and not 1.0 <= seconds <= 86400.0:
        raise ValueError(f"must be 0, or between 1s and 1d, got {shown(value)}")
    return seconds


def read_path(value: object, *, longest: int = 4095) -> str:
    """Return a path that is absolute, or begins with ``~/``.

    Raises:
        ValueError: it is something else, or has more bytes than ``longest``.
    """
    if not isinstance(value, str) or not value.startswith(("/", "~/")):
        raise ValueError(f"expected an absolute path, got {shown(value)}")
    if "\0" in value:
        raise ValueError("a path has no NUL characters")
    if len(value.encode()) > longest:
        raise ValueError(f"path of {len(value.encode())} bytes; at most {longest} are possible")
    return value


def read_paths(value: object) -> tuple[str, ...]:
    """Return absolute paths: a worker has no home.

    Raises:
        ValueError: they are something else, or too many.
    """
    if not isinstance(value, list):
        raise ValueError(f"expected an array, got {shown(value)}")  # noqa: TRY004 - as every reader
    if len(value) > SANDBOX_PATHS:
        raise ValueError(f"{len(value)} paths; at most {SANDBOX_PATHS} are possible")
    return tuple([read_absolute_path(path, longest=SANDBOX_PATH_BYTES) for path in value])


def read_absolute_path(value: object, *, longest: int = 4095) -> str:
    """Return a path that is absolute without anybody's home.

    Raises:
        ValueError: it is something else, or has more bytes than ``longest``.
    """
    path = read_path(value, longest=longest)
    if not path.startswith("/"):
        raise ValueError(f"expected an absolute path, got {shown(path)}")
    return path


def read_user(value: object) -> str | int:
    """Return ``"auto"``, a user's name, or a user's number.

    Raises:
        ValueError: it is something else. Whether there is such a user is seen when the worker starts.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_UID:
        return value or "root"
    if not isinstance(value, str) or not _USER_NAME.fullmatch(value):
        raise ValueError(f"expected a user's name or number, or 'auto', got {shown(value)}")
    return value


def read_environment(value: object) -> dict[str, str]:
    """Return variables for a plugin's environment.

    Raises:
        ValueError: they are no table of text, or too much, or a name cannot be one of a variable.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected a table of text, got {shown(value)}")  # noqa: TRY004
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a variable: letters, digits and '_'")
        if name.startswith("PYTHON"):
            raise ValueError(f"{name}: Python is started already, and without such variables")
        if not isinstance(text, str):
            raise ValueError(f"{name}: expected text, got {shown(text)}")  # noqa: TRY004
        if "\0" in text:
            raise ValueError(f"{name}: a variable has no NUL characters")
    size_bytes = sum(len(name.encode()) + len(text.encode()) for name, text in value.items())
    if size_bytes > ENVIRONMENT_BYTES:
        raise ValueError(f"{size_bytes} bytes; at most {ENVIRONMENT_BYTES} are possible")
    return value


LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "text", "json", "journal"]
Interval = Annotated[float, Reads(partial(parse_duration, minimum=0.01, maximum=86400.0))]
Offset = Annotated[float, Reads(partial(parse_duration, maximum=86400.0))]
Flush = Annotated[float, Reads(read_flush)]
Patience = Annotated[float, Reads(partial(parse_duration, minimum=0.1, maximum=3600.0))]
FrameSize = Annotated[int, Reads(partial(parse_size, minimum=1024, maximum=16 * 1024**2))]
QueueSize = Annotated[int, Reads(partial(parse_size, minimum=64 * 1024, maximum=2**40))]
Path = Annotated[str, Reads(read_path)]
AbsolutePath = Annotated[str, Reads(read_absolute_path)]
SocketPath = Annotated[str, Reads(partial(read_path, longest=SOCKET_PATH_BYTES))]
Paths = Annotated[tuple[str, ...], Reads(read_paths)]
Mode = Annotated[int, Reads(read_mode)]
User = Annotated[str | int, Reads(read_user)]
Variables = Annotated[dict[str, str], Reads(read_environment)]
MemorySize = Annotated[int, Reads(partial(parse_size, minimum=16 * 1024**2, maximum=2**46))]
CpuShare = Annotated[float, msgspec.Meta(ge=0.01, le=1024)]
OpenFiles = Annotated[int, msgspec.Meta(ge=16, le=1_000_000)]
Samples = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Depth = Annotated[int, msgspec.Meta(ge=4, le=256)]
