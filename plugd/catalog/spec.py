"""What there is to know of a plugin before anything of it runs."""

from dataclasses import dataclass, field
from typing import Literal

from plugd.config import PluginConfig

Kind = Literal["python", "native", "command"]


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """A plugin as it was found and configured, with the very bytes that are to run.

    Attributes:
        name: the plugin's ID: the file's stem, or ``stem@instance``.
        kind: how it runs.
        path: where it was found; never opened again.
        source: the file's bytes as they were verified; empty when there is a fault.
        sha256: of those bytes, in hexadecimal.
        config: its table of the configuration.
        fault: why it may not run, or None.
    """

    name: str
    kind: Kind
    path: str
    source: bytes = field(repr=False)
    sha256: str
    config: PluginConfig
    fault: str | None = None

    def same_code(self, other: "PluginSpec") -> bool:
        """Whether both would run the same bytes with the same options."""
        return (
            self.sha256 == other.sha256
            and self.fault == other.fault
            and self.config.options == other.config.options
            and self.config.settings == other.config.settings
        )
