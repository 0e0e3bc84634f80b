"""The values of the configuration that name secrets: credentials, as systemd.exec(5) has them."""

import re
from typing import Annotated

from plugd.config_reader import Reads
from plugd.units import shown

MAXIMUM_CREDENTIALS = 64  # of one plugin
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")  # the name of a file, and an ID by systemd.exec(5)


def read_credentials(value: object) -> tuple[str, ...]:
    """Return names of credentials, each once.

    Raises:
        ValueError: they are something else, or too many. Whether there are such credentials is seen when the plugin
            is started.
    """
    if not isinstance(value, list):
        raise ValueError(f"expected an array of names, got {shown(value)}")  # noqa: TRY004 - as every reader
    for name in value:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{shown(name)} is no name of a credential: letters, digits and _ . @ + -")
    if len(value) > MAXIMUM_CREDENTIALS:
        raise ValueError(f"{len(value)} credentials; at most {MAXIMUM_CREDENTIALS} are possible")
    return tuple(dict.fromkeys(value))


Credentials = Annotated[tuple[str, ...], Reads(read_credentials)]
