"""The daemon: builds the parts, in the order of their lives, and ends them in the reverse order."""

import contextlib
import faulthandler
import functools
import gc
import os
import resource
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable

import anyio
import structlog

from plugd import __version__, systemd
from plugd.catalog.discovery import Found, discover
from plugd.catalog.lock import read_lock
from plugd.catalog.secrets import with_secrets
from plugd.config import ConfigError, RestartConfig
from plugd.control.access import AccessPolicy
from plugd.control.context import Context
from plugd.control.counts import Counts
from plugd.control.listener import SocketError, SocketInUse, inherited_socket, listening_socket
from plugd.control.server import ControlServer
from plugd.errors import CONFIG_INVALID, CommandError
from plugd.hosting.backoff import BackoffPolicy
from plugd.hosting.cgroups import Cgroups
from plugd.hosting.environment import Environment
from plugd.hosting.events import EventLog
from plugd.hosting.forkserver import ForkServer
from plugd.hosting.registry import Registry
from plugd.hosting.secrets import SecretStore
from plugd.hosting.startlog import StartLog
from plugd.hosting.watch import Watch
from plugd.log import LogRing, configure, flush
from plugd.persistence import Persistence
from plugd.sampling.scheduler import Scheduler
from plugd.sampling.store import MetricStore
from plugd.sampling.subscription import Broker
from plugd.service import Service
from plugd.settings import Settings
from plugd.watchdog import Watchdog

log = structlog.get_logger()

DESCRIPTORS = 65_536  # as many as it lets itself have, if it may
HOLD = 1.0  # seconds at most that clients of a restart wait for all plugins: most are there after a third of it
EXIT_OK = 0
EXIT_IN_USE = 69  # EX_UNAVAILABLE, sysexits.h
EXIT_CANNOT_CREATE = 73  # EX_CANTCREAT


def run(settings: Settings) -> int:
    """Run until a signal says to stop; return the exit status."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, DESCRIPTORS)), hard))
    if sys.stderr is not None:
        faulthandler.enable()  # The watchdog ends what hangs with SIGABRT: where it hung is in the journal then.
    ring = LogRing()
    configure(settings.config.log.level, settings.config.log.format, ring)
    control = settings.config.control
    try:
        with contextlib.ExitStack() as stack:
            handed = systemd.listen_sockets()
            if handed:
                listener, path = stack.enter_context(inherited_socket(handed, settings.socket, control.mode))
                # As if --socket had named it: it stays in force over a reload, whatever the configuration says.
                settings = settings._replace(socket=path, flags=settings.flags._replace(socket=path))
            else:
                listener = stack.enter_context(listening_socket(settings.socket, control.mode, control.group))
            cgroups = stack.enter_context(Cgroups.take())
            secrets = stack.enter_context(SecretStore(settings.runtime_dir))
            return anyio.run(Daemon(settings, ring, cgroups, secrets, inherited=bool(handed)).serve, listener)
    except SocketInUse as error:
        log.error("socket_in_use", socket=str(error))
        return EXIT_IN_USE
    except SocketError as error:
        log.error("socket_failed", reason=str(error))
        return EXIT_CANNOT_CREATE
    finally:
        flush()


class Daemon:
    """One run of plugd.

    Args:
        settings: the configuration and the flags.
        ring: that the log is kept in.
        cgroups: of the workers.
        secrets: of the plugins.
        inherited: whether clients can have connected before it started, since another holds the socket.
    """

    def __init__(
        self, settings: Settings, ring: LogRing, cgroups: Cgroups, secrets: SecretStore, *, inherited: bool
    ) -> None:
        self._settings = settings
        self._ring = ring
        self._inherited = inherited
        self._cgroups = cgroups
        self._secrets = secrets
        self._context: Context

    async def serve(self, listener: socket.socket) -> int:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads."""
        sampling = self._settings.config.sampling
        events, store, scheduler, counts = EventLog(), MetricStore(sampling.points), Scheduler(), Counts()
        kept = Persistence(self._settings.state_dir, events, store, sampling.points, sampling.flush)
        async with anyio.create_task_group() as tasks, ForkServer() as forkserver, kept:
            watch = Watch(forkserver.children)
            startlog = StartLog(self._settings.state_dir)
            environment = Environment(
                forkserver=forkserver,
                tasks=tasks,
                sink=store,
                ticker=scheduler,
                events=events,
                watch=watch,
                startlog=startlog,
                backoff=_backoff(self._settings.config.restart),
                default_interval=self._settings.config.defaults.interval,
                default_timeout=self._settings.config.defaults.timeout,
                own=counts.samples,
                saved=kept.settings,
                states=kept.states,
                secrets=self._secrets,
                cgroups=self._cgroups,
            )
            kept.notes.extend(self._cgroups.notes)
            registry = Registry(environment, self._discover)
            service = Service(registry, events)
            self._context = Context(
                settings=self._settings,
                registry=registry,
                store=store,
                scheduler=scheduler,
                broker=Broker(store, events),
                events=events,
                ring=self._ring,
                policy=_policy(self._settings),
                reload_settings=self._reload_settings,
                reloading=service.reloading,
                started_at=time.time(),
                started_monotonic=time.monotonic(),
                boot_id=uuid.uuid4().hex,
                counts=counts,
                notes=kept.notes,
            )
            log.info("plugd_started", version=__version__, pid=os.getpid(), socket=self._settings.socket)
            for suspect in startlog.suspects:
                log.warning("plugd_died_while_starting", plugin=suspect)
                events.record(suspect, 0, "", "", "the last plugd ended while this plugin was being started", None)
            startlog.open()
            tasks.start_soon(scheduler.run)
            tasks.start_soon(watch.run)
            watchdog_seconds = systemd.watchdog_seconds()
            if watchdog_seconds is not None:
                tasks.start_soon(Watchdog(watchdog_seconds, scheduler.overdue, forkserver.answers).run)
            with contextlib.ExitStack() as ending:
                signals = ending.enter_context(anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
                async with ControlServer(listener, self._context, tasks) as server:
                    await self._run_until_stopped(registry, service, server, signals, kept)
                    ending.enter_context(service.stopping())
                    tasks.start_soon(_hasten, server, signals)
                await kept.points.flush()  # While there are any.
                await registry.stop()
            startlog.close()
            tasks.cancel_scope.cancel()
        log.info("plugd_stopped")
        return EXIT_OK

    async def _run_until_stopped(
        self,
        registry: Registry,
        service: Service,
        server: ControlServer,
        signals: AsyncIterator[signal.Signals],
        kept: Persistence,
    ) -> None:
        async with anyio.create_task_group() as starting:
            started = anyio.Event()
            starting.start_soon(self._start, registry, service, kept, started)
            starting.start_soon(self._open, server, started)
            async for number in signals:
                if number == signal.SIGHUP:
                    starting.start_soon(self._reload)
                    continue
                log.info("signal_received", signal=number.name)
                starting.cancel_scope.cancel()
                break

    async def _open(self, server: ControlServer, started: anyio.Event) -> None:
        """Let clients in: at once, or where they wait on a socket that is not ours, when their plugins are there."""
        with anyio.move_on_after(HOLD if self._inherited else 0):
            await started.wait()
        server.open()

    async def _start(self, registry: Registry, service: Service, kept: Persistence, started: anyio.Event) -> None:
        with service.busy():
            await kept.points.restore()
            await registry.start()
        started.set()
        gc.collect()
        gc.freeze()  # The parts live as long as the process: no collection need look at them again.
        running = sum(each.state == "running" for each in registry.all())
        total = len(registry.all())
        service.ready()
        hint = (
            "plugctl stats"
            if self._settings.flags.socket is None
            else f"plugctl --socket {self._settings.socket} stats"
        )
        log.info("plugd_ready", running=running, plugins=total, series=len(self._context.store), try_now=hint)

    async def _reload(self) -> None:
        """Do what ``plugctl reload`` does: SIGHUP has nobody to answer to but the log."""
        try:
            with self._context.reloading():
                discover = await self._reload_settings(dry_run=False)
                result = await self._context.registry.reload(None, discover=discover)
        except CommandError:
            return  # It has been logged.
        log.info("reloaded", **{key: result[key] for key in ("loaded", "reloaded", "unloaded")},
                 failed=[each["name"] for each in result["failed"]])  # fmt: skip

    async def _reload_settings(self, dry_run: bool) -> Callable[[], Found]:
        try:
            settings = await anyio.to_thread.run_sync(self._read_settings)
        except ConfigError as error:
            raise _invalid(
                "cannot reload: the configuration is invalid, and the old one stays in force", error
            ) from error
        if not dry_run:
            self._settings = self._context.settings = settings
            self._context.policy = _policy(settings)
            configure(settings.config.log.level, settings.config.log.format, self._ring)
        return functools.partial(_find, settings)

    def _read_settings(self) -> Settings:
        """Read them anew; where the socket and the state are was settled at the start."""
        settings = self._settings.reload_config()
        if settings.lock is not None:
            read_lock(settings.lock)
        return settings._replace(socket=self._settings.socket, state_dir=self._settings.state_dir)

    def _discover(self) -> Found:
        return _find(self._settings)


async def _hasten(server: ControlServer, signals: AsyncIterator[signal.Signals]) -> None:
    """Take it from a second signal that nobody wants to wait for clients."""
    async for number in signals:
        if number != signal.SIGHUP:
            server.hasten()


def _find(settings: Settings) -> Found:
    """Find the plugins by these settings; blocks on the disk."""
    config = settings.config
    try:
        lock = read_lock(settings.lock) if settings.lock is not None else None
    except ConfigError as error:
        raise _invalid("cannot tell which plugins may run: the lock is invalid", error) from error
    found = discover(settings.plugin_dirs, config.plugins, lock, imports=config.import_, state_dir=settings.state_dir)
    specs = {name: spec.with_defaults(config) for name, spec in found.specs.items()}
    return found._replace(specs={name: with_secrets(spec, settings.credentials_dir) for name, spec in specs.items()})


def _invalid(what: str, error: ConfigError) -> CommandError:
    faults = [str(fault) for fault in error.faults]
    return CommandError(CONFIG_INVALID, f"{what}: {'; '.join(faults)}", {"faults": faults})


def _backoff(restart: RestartConfig) -> BackoffPolicy:
    return BackoffPolicy(
        first=restart.delay,
        cap=restart.delay_max,
        settled=restart.settled,
        offences=restart.failures,
        window=restart.window,
        quarantine=restart.quarantine,
    )


def _policy(settings: Settings) -> AccessPolicy:
    control = settings.config.control
    return AccessPolicy.of(os.getuid(), control.operators, control.admins)
