"""Who requires whom."""

import re

_NAME = re.compile(r"[a-z][a-z0-9_.@\-]*")


def name_of(requirement: str) -> str:
    """Return the plugin's name in a requirement such as ``cpu>=1.2``."""
    match = _NAME.match(requirement)
    return match.group() if match else requirement
