"""The secrets of a plugin, as its worker finds them: files of a directory that is for this worker alone."""

import os
from collections.abc import Iterator, Mapping

VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5); the worker's own, not the daemon's


class Credentials(Mapping[str, bytes]):
    """Values by name. Whoever prints it, sees the names only."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> bytes:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(f"no credential {name!r}: [plugins.NAME] credentials does not have it") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<credentials: {', '.join(sorted(self._values)) or 'none'}>"


def read_credentials(environ: Mapping[str, str]) -> Credentials:
    """Return what the worker was given; nothing where the environment names no directory.

    Raises:
        OSError: it cannot be read.
    """
    directory = environ.get(VARIABLE)
    return Credentials(
        {} if directory is None else {name: _read(f"{directory}/{name}") for name in os.listdir(directory)}
    )


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()
