"""What there is to know of a plugin before anything of it runs."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import msgspec

from plugd.catalog.programs import Program
from plugd.config import Config, PluginConfig, WorkerLimitsConfig
from plugd.sealed import SealedCopy

Kind = Literal["python", "native", "command"]


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A program that is a plugin: what is run, and how.

    Attributes:
        argv: its arguments, the name that it is called by first.
        program: the file that is executed. Two of the same bytes are the same program, whenever they were written.
        format: of what it prints.
        mode: ``oneshot`` or ``daemon``.
        cwd: where it runs.
        state: a directory of its own, which is made for it to write in; None: none.
        autoconf: whether it is asked first if it can work here.
    """

    argv: tuple[str, ...]
    program: Program = field(compare=False)
    format: str
    mode: str
    cwd: str = "/"
    state: str | None = None
    autoconf: bool = False

    def as_params(self) -> dict[str, object]:
        """Return it as a worker is told of it."""
        return {
            "argv": self.argv,
            "path": self.program.path,
            "sha256": self.program.sha256,
            "identity": self.program.identity,
            "binary": self.program.binary,
            "format": self.format,
            "mode": self.mode,
            "cwd": self.cwd,
            "autoconf": self.autoconf,
        }


class Credential(NamedTuple):
    """One secret, as it was when it was looked for.

    Attributes:
        name: as the configuration has it.
        path: of the file that holds it.
        digest: of its value; of no use outside of this process.
    """

    name: str
    path: str
    digest: bytes


class Secrets(NamedTuple):
    """What one plugin may read, and all others may not.

    Attributes:
        directory: of all plugins' credentials, without symbolic links; None where there are none, or the daemon may
            not read them: then there is nothing to be kept from anybody.
        credentials: those of this plugin.
    """

    directory: str | None
    credentials: tuple[Credential, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginSpec:
    """A plugin as it was found and configured, with the very bytes that are to run.

    Attributes:
        name: the plugin's ID: the file's stem, or ``stem@instance``.
        kind: how it runs.
        path: where it was found; never opened again.
        source: the file's bytes as they were verified; empty when there is a fault, or an image.
        sha256: of those bytes, in hexadecimal.
        config: its table of the configuration.
        fault: why it may not run, or None.
        limits: what it may take: its own table and the one for all, put together.
        user: who it runs as: its own word or the one for all.
        image: of a native plugin, the bytes as they were verified, sealed in memory: its worker maps them from there.
        command: of a plugin that is a program, what is run.
        secrets: what it alone may read; None where nobody has looked.
    """

    name: str
    kind: Kind
    path: str
    source: bytes = field(repr=False)
    sha256: str
    config: PluginConfig
    fault: str | None = None
    limits: WorkerLimitsConfig = field(default_factory=WorkerLimitsConfig)
    user: str | int = "auto"
    image: SealedCopy | None = field(default=None, repr=False, compare=False)
    command: CommandSpec | None = None
    secrets: Secrets | None = None

    def with_defaults(self, config: Config) -> "PluginSpec":
        """Return it with what the configuration says for all plugins, where it has no word of its own."""
        own = {key: value for key, value in msgspec.structs.asdict(self.config.limits).items() if value is not None}
        limits = msgspec.structs.replace(config.limits, **own)
        return replace(self, limits=limits, user=config.workers.user if self.config.user is None else self.config.user)

    def same_code(self, other: "PluginSpec") -> bool:
        """Whether both would run the same bytes with the same options, confined in the same way."""
        return (
            self.sha256 == other.sha256
            and self.command == other.command
            and self.fault == other.fault
            and self.config.options == other.config.options
            and self.config.settings == other.config.settings
            and self.same_confinement(other)
        )

    def fingerprint(self) -> str:
        """Return a hash of what :meth:`same_code` compares, for those that come after this process."""
        config, command = self.config, None
        if self.command is not None:
            its = self.command
            command = (its.argv, its.format, its.mode, its.cwd, its.state, its.autoconf)
        code = (self.sha256, command, self.fault)
        bounds = (self.limits, self.user, config.environment, config.sandbox)
        everything = msgspec.to_builtins((code, config.options, config.settings, bounds), order="deterministic")
        return hashlib.sha256(repr(everything).encode(errors="backslashreplace")).hexdigest()

    def same_confinement(self, other: "PluginSpec") -> bool:
        """Whether both would run within the same bounds; a worker cannot be given wider ones."""
        return (
            self.limits == other.limits
            and self.user == other.user
            and self.config.environment == other.config.environment
            and self.config.sandbox == other.config.sandbox
            and self.secrets == other.secrets
        )
