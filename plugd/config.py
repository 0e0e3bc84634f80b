"""The configuration: typed, frozen, and checked as a whole.

Every value has a default, so that no file at all is a valid configuration. These classes are data and nothing
else: what the values lead to is done by those who read them. Durations are float seconds, sizes are bytes.
"""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import msgspec

from plugd.config_commands import Arguments, Command, Format, ProgramMode, contradictions
from plugd.config_credentials import Credentials
from plugd.config_reader import ConfigReader
from plugd.config_values import (
    AbsolutePath,
    Count,
    CpuShare,
    Depth,
    Flush,
    FrameSize,
    Interval,
    LogFormat,
    LogLevel,
    MemorySize,
    Mode,
    Name,
    Offset,
    OpenFiles,
    Path,
    Paths,
    Patience,
    QueueSize,
    Samples,
    SocketPath,
    User,
    Variables,
)
from plugd.settings_files import (
    ConfigError,
    Document,
    Fault,
    Merged,
    format_key,
    merge,
    parse,
    read_documents,
)

__all__ = [
    "Config",
    "ConfigError",
    "ControlConfig",
    "DefaultsConfig",
    "Document",
    "Fault",
    "ImportConfig",
    "LimitsConfig",
    "LoadedConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "MuninImportConfig",
    "NagiosImportConfig",
    "PluginConfig",
    "PluginLimitsConfig",
    "RestartConfig",
    "SamplingConfig",
    "SandboxConfig",
    "WorkerLimitsConfig",
    "WorkersConfig",
    "load",
    "merge",
    "parse",
    "validate",
]


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[control.limits]``: what one client, and all of them together, may take."""

    request_bytes: FrameSize = 64 * 1024
    """The largest request."""
    depth: Depth = 32
    """How deeply arrays and maps may be nested in a request."""
    elements: Count = 4096
    """How many values a request may hold in all."""
    partial_request: Patience = 5.0
    """Seconds between the first byte of a request and its last."""
    write: Patience = 30.0
    """Seconds that a client may take nothing of what waits for it."""
    unread_bytes: QueueSize = 8 * 1024**2
    """Bytes of answers that may wait for a client to read them; one more answer and it is gone."""
    idle: Patience = 600.0
    """Seconds that a connection may have nothing under way: no request, no subscription, nothing to be read."""
    ping: Patience = 30.0
    """Seconds without anything sent, after which a connection with subscriptions is sent a ``ping``."""
    connections: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 256
    """Connections at one time; one of them is kept for root."""
    connections_per_uid: Count = 32
    """Connections of one user at one time."""
    requests_in_flight: Count = 64
    """Requests of one connection that are not answered yet."""
    subscriptions: Count = 16
    """Subscriptions of one connection."""
    subscriptions_per_uid: Count = 64
    """Subscriptions of one user."""
    queue: Count = 256
    """Notifications that wait for a slow subscriber before the oldest are dropped."""


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[control]``: the control socket, and who may do what with it."""

    mode: Mode = 0o660
    """Permissions of the socket: who may open it at all."""
    group: Name | None = None
    """Group that the socket is given to; None: the daemon's own."""
    operators: tuple[Name, ...] = ()
    """Groups whose members may reload, pause, resume, call, set and check."""
    admins: tuple[Name, ...] = ()
    """Groups whose members may do everything. Root and the daemon's own user always may."""
    limits: LimitsConfig = LimitsConfig()


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[log]``: what is logged on stderr, and how."""

    level: LogLevel = "info"
    format: LogFormat = "auto"
    """``auto`` is text on a terminal, otherwise JSON."""


class DefaultsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[defaults]``: for every plugin that has no such key of its own; None: the plugin's own word."""

    interval: Interval | None = None
    timeout: Interval | None = None


class SamplingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[sampling]``: what the daemon keeps of the samples."""

    points: Count = 60
    """Latest points kept of every series."""
    flush: Flush = 60.0
    """Seconds between two writes of them to the state directory; 0: only when the daemon stops."""


class WorkerLimitsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[limits]``: what one plugin may take, for all that have no such key of their own."""

    memory: MemorySize = 256 * 1024**2
    """Bytes that a worker may have resident with all that it starts, and may allocate itself."""
    cpu: CpuShare = 0.5
    """Share of one core outside of the daemon's requests."""
    open_files: OpenFiles = 256
    """Open descriptors of a process."""
    processes: Count = 64
    """Processes and threads of the plugin."""
    samples: Samples = 20_000
    """Samples of one collection, beyond which the rest is dropped and counted."""
    series: Samples = 10_000
    """Series of one metric, beyond which new ones are dropped and counted."""
    output_lines: Count = 20
    """Lines a second that are logged of what a plugin prints; the rest is counted."""


class PluginLimitsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[plugins.NAME.limits]``: the keys of ``[limits]``, for one plugin; None: as there."""

    memory: MemorySize | None = None
    cpu: CpuShare | None = None
    open_files: OpenFiles | None = None
    processes: Count | None = None
    samples: Samples | None = None
    series: Samples | None = None
    output_lines: Count | None = None


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[plugins.NAME.sandbox]``: which files a plugin may reach, beyond what its user may: landlock(7)."""

    enabled: bool = True
    write: Paths = ()
    """Files, and directories with all below them, that may be written; without them: none."""
    read: Paths | None = None
    """What may be read besides what Python itself needs; None: everything."""


class WorkersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[workers]``: how plugins run that say nothing else."""

    user: User = "auto"
    """The user; ``auto``: one of its own for each plugin if the daemon is root, otherwise the daemon's."""


class RestartConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[restart]``: when a plugin that crashed, or overran its deadline, is started again; durations in seconds."""

    delay: Patience = 2.0
    """Before the first attempt; each further one waits twice as long."""
    delay_max: Interval = 300.0
    settled: Interval = 60.0
    """Of good behaviour, after which the next failure is the first again."""
    failures: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5
    """Within the window: quarantine."""
    window: Interval = 600.0
    quarantine: Interval = 3600.0
    """Until the next attempt of a plugin in quarantine."""


class PluginConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[plugins.NAME]``: one plugin, or one instance of it (``[plugins."disk@data"]``)."""

    enabled: bool = True
    interval: Interval | None = None
    """Seconds between two collections; None: that of ``[defaults]``, else the plugin's own."""
    timeout: Interval | None = None
    """Seconds that a collection may take; None: that of ``[defaults]``, else the plugin's own."""
    offset: Offset | None = None
    """Seconds from the start of each interval to the collection; None: chosen by the scheduler."""
    options: dict[str, Any] = {}
    """For the plugin's ``Options`` class, which checks them; every value can go over the wire."""
    settings: dict[str, Any] = {}
    """First values of the plugin's settings, as ``plugctl set`` would set them."""
    user: User | None = None
    """Who the plugin runs as; None: that of ``[workers]``."""
    environment: Variables = {}
    """Variables of its environment, which has nothing of the daemon's."""
    credentials: Credentials = ()
    """Names of the secrets that it may read, and no other plugin that does not name them."""
    limits: PluginLimitsConfig = PluginLimitsConfig()
    sandbox: SandboxConfig = SandboxConfig()
    command: Command = ()
    """A program and its arguments, which are the plugin then: an absolute path, or a name in a fixed PATH; no shell."""
    format: Format | None = None
    """How that program says what it measures."""
    mode: ProgramMode | None = None
    """``oneshot``: run for each collection; ``daemon``: it goes on. None: usual for the format."""
    cwd: AbsolutePath | None = None
    """Where the program runs; None: ``/``."""


class MuninImportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[import.munin]``: a directory of Munin's plugins, each as the plugin ``munin.NAME``."""

    directory: AbsolutePath | None = None
    """The directory, mostly ``/etc/munin/plugins``; None: none is imported."""
    conf_dir: AbsolutePath = "/etc/munin/plugin-conf.d"
    """Munin's own configuration of its plugins: environment, user, timeout."""
    only: tuple[Name, ...] = ("*",)
    """Glob patterns for their file names; those that none fits are left out."""
    except_: tuple[Name, ...] = msgspec.field(default=(), name="except")
    """Glob patterns for those that are left out."""
    interval: Interval = 60.0
    timeout: Interval | None = None
    user: User | None = None
    """Who they run as where Munin's configuration says nothing; None: that of ``[workers]``."""
    autoconf: bool = False
    """Whether those are refused that say by ``autoconf`` that they cannot work on this host."""


class NagiosImportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[import.nagios]``: a directory of Nagios plugins, or NRPE's commands, each as the plugin ``nagios.NAME``."""

    directory: AbsolutePath | None = None
    """The directory, mostly ``/usr/lib/nagios/plugins``; None: none is imported."""
    commands: tuple[AbsolutePath, ...] = ()
    """Files, or directories of ``*.cfg``, with lines ``command[NAME]=PROGRAM ARGUMENT...`` as NRPE has them."""
    arguments: Arguments = {}
    """Arguments of the programs in the directory, by file name."""
    only: tuple[Name, ...] = ("check_*",)
    """Glob patterns for the names; those that none fits are left out. Lines of ``commands`` all fit."""
    except_: tuple[Name, ...] = msgspec.field(default=(), name="except")
    """Glob patterns for those that are left out."""
    interval: Interval = 60.0
    timeout: Interval | None = None
    user: User | None = None


class ImportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[import]``: whole directories of plugins that other programs run."""

    munin: MuninImportConfig = MuninImportConfig()
    nagios: NagiosImportConfig = NagiosImportConfig()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration. None means: whatever is usual for this user (``plugd.paths``)."""

    plugin_dirs: tuple[Path, ...] | None = None
    """Directories searched for plugins; of two plugins with one name the first is taken."""
    lock: Path | None = None
    """File with the sha256 of every plugin that may run, as ``plugctl lock`` prints it; None: no such list."""
    socket: SocketPath | None = None
    state_dir: Path | None = None
    credentials_dir: Path | None = None
    """Directory of the plugins' secrets; None: what systemd has for the unit, else ``credentials`` beside the
    configuration."""
    control: ControlConfig = ControlConfig()
    log: LogConfig = LogConfig()
    defaults: DefaultsConfig = DefaultsConfig()
    sampling: SamplingConfig = SamplingConfig()
    limits: WorkerLimitsConfig = WorkerLimitsConfig()
    workers: WorkersConfig = WorkersConfig()
    restart: RestartConfig = RestartConfig()
    plugins: dict[str, PluginConfig] = {}
    import_: ImportConfig = msgspec.field(default=ImportConfig(), name="import")


class LoadedConfig(NamedTuple):
    """A configuration, and where it comes from."""

    config: Config
    path: str | None
    """The main file, whether it exists or not."""
    files: tuple[str, ...]
    """The files that were read, in order; later ones win."""


def load(path: str | None, *, required: bool) -> LoadedConfig:
    """Read and check the configuration.

    Args:
        path: the main file; its drop-ins are ``plugd.d/*.toml`` beside it. None: the defaults.
        required: whether it is a fault that the main file does not exist.

    Raises:
        ConfigError: with every fault of every file. Values are checked when all files can be parsed.
    """
    documents = [] if path is None else read_documents(path, required=required)
    config = validate(merge(documents))
    return LoadedConfig(config, path, tuple(document.file for document in documents))


def validate(merged: Merged) -> Config:
    """Return the configuration that a merged table means.

    Raises:
        ConfigError: with every fault.
    """
    reader = ConfigReader(merged)
    config: Config = reader.struct(Config, merged.table, ())
    faults = reader.faults or list(_contradictions(config, merged))
    if faults:
        raise ConfigError(faults)
    return config


def _contradictions(config: Config, merged: Merged) -> Iterator[Fault]:
    """Yield what does not go together; where a value is at fault already, nothing is said of others."""
    for name, plugin in config.plugins.items():
        for part, reason in contradictions(name, plugin):
            key = ("plugins", name, part)
            yield Fault(merged.origin(key), format_key(key), reason)
