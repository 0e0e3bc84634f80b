"""What the daemon knows, in the shapes that the wire has: docs/protocol.md."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from plugd.descendants import children_of
from plugd.errors import PLUGIN_INVALID, CommandError
from plugd.hosting.changes import BACKOFF, FAILED, PAUSED, QUARANTINED, RUNNING, STARTING
from plugd.hosting.cost import GONE, Cost, cost_of
from plugd.hosting.events import EventLog
from plugd.hosting.supervisor import Supervisor
from plugd.rpc.codec import Encoded, encode_array, encode_map
from plugd.sampling.patterns import Patterns
from plugd.sampling.rows import Rows
from plugd.sampling.slices import Work, in_slices
from plugd.sampling.store import MetricStore

PIECE_BYTES = 32 * 1024  # of a large answer, at least


def list_row(supervisor: Supervisor) -> dict[str, Any]:
    """Return a plugin as ``list`` has it."""
    spec, current = supervisor.spec, supervisor.current
    description = current.description if current else None
    return {
        "name": supervisor.name,
        "kind": spec.kind,
        "state": supervisor.state,
        "version": (description.version or None) if description else None,
        "api": description.api if description else None,
        "description": description.text if description else None,
        "path": spec.path,
        "sha256": spec.sha256,
        "generation": supervisor.number,
        "pid": current.worker.pid if current else None,
        "interval": supervisor.timing.interval,
        "loaded_at": current.loaded_at if current else None,
        "collects": supervisor.counters.collects,
        "failures": supervisor.counters.failures,
        "last_error": supervisor.failure.message if supervisor.failure else None,
    }


async def encoded_stats(
    head: Mapping[str, Any], supervisors: Sequence[Supervisor], store: MetricStore, patterns: Sequence[str] | None
) -> Encoded:
    """Return ``head``, ``plugins`` and ``metrics`` as ``stats`` has them.

    It is made in slices, between which others are served. The rows of a plugin are of one collection all the same,
    and those of all plugins are what was the latest when it was asked for.
    """
    return await in_slices(_stats(head, supervisors, store, None if patterns is None else Patterns(patterns)))


def _stats(
    head: Mapping[str, Any], supervisors: Sequence[Supervisor], store: MetricStore, patterns: Patterns | None
) -> Work[Encoded]:
    rows: list[bytes] = []
    piece: list[bytes] = []  # of rows, which are joined when they are enough to be sent together
    total = joined = 0
    wanted: set[str] = set()
    for plugin, latest in store.collections():
        length, chunks = yield from Rows(plugin, latest).select(patterns)
        yield
        if not length:
            continue
        wanted.add(plugin)
        total += length
        for chunk in chunks:
            piece.append(chunk)
            joined += len(chunk)
            if joined >= PIECE_BYTES:
                rows.append(b"".join(piece))
                piece, joined = [], 0
    rows.append(b"".join(piece))
    plugins = {}
    for each in supervisors:
        if patterns is None or each.name in wanted or (yield from patterns.learn(each.name)):
            plugins[each.name] = yield from _plugin_stats(each, store)
            yield
    return encode_map({**head, "plugins": plugins, "metrics": encode_array(total, rows)})


def _plugin_stats(supervisor: Supervisor, store: MetricStore) -> Work[dict[str, Any]]:
    """A plugin's own figures; durations in seconds."""
    counters = supervisor.counters
    durations = sorted(counters.durations)
    cost = (yield from _cost_of_tree(supervisor.worker.pid)) if supervisor.worker else GONE
    return {
        "state": supervisor.state,
        "collects": counters.collects,
        "failures": counters.failures,
        "timeouts": counters.timeouts,
        "skipped": counters.skipped,
        "restarts": counters.restarts,
        "dropped": counters.dropped,
        "malformed": counters.malformed,
        "late": counters.late,
        "late_max": counters.late_max,
        "duration_last": counters.duration_last,
        "duration_p50": percentile(durations, 0.50),
        "duration_p99": percentile(durations, 0.99),
        "cpu_seconds": counters.ended_cpu_seconds + cost.cpu_seconds,
        "memory_bytes": cost.memory_bytes,
        "series": store.count(supervisor.name),
    }


def _cost_of_tree(pid: int) -> Work[Cost]:
    """As :func:`plugd.hosting.tree.cost_of_tree`, one process after the other."""
    cpu_seconds, memory_bytes = 0.0, 0
    waiting = [pid]
    while waiting:
        child = waiting.pop()
        cost = cost_of(child)
        waiting += children_of(child, cost.threads)
        cpu_seconds += cost.cpu_seconds
        memory_bytes += cost.memory_bytes
        if waiting:
            yield
    return Cost(cpu_seconds, memory_bytes)


def percentile(ordered: Sequence[float], fraction: float) -> float | None:
    """Return the nearest-rank percentile of ordered values; None where there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] if ordered else None


def describe(supervisor: Supervisor, details: Any, values: Any) -> dict[str, Any]:
    """Return a plugin as ``describe`` has it.

    Args:
        supervisor: of the plugin.
        details: what its worker says of commands, settings and options; None where none is running.
        values: those of its settings now.
    """
    row = list_row(supervisor)
    report = {
        key: row[key]
        for key in (
            "name",
            "kind",
            "version",
            "api",
            "description",
            "path",
            "sha256",
            "state",
            "generation",
            "interval",
        )
    }
    report |= {"timeout": supervisor.timing.timeout, "offset": supervisor.timing.offset}
    description = supervisor.current.description if supervisor.current else None
    report["unconfined"] = list(description.unconfined) if description else []
    report["requires"] = list(description.requires) if description else []
    report["metrics"] = [metric._asdict() for metric in supervisor.current.metrics] if supervisor.current else []
    try:
        report["commands"] = details["commands"] if details else []
        settings = details["settings"] if details else []
        report["settings"] = [_setting(supervisor, setting, values) for setting in settings]
        report["options"] = details["options"] if details else None
        report["options_schema"] = details["options_schema"] if details else None
    except (LookupError, TypeError, AttributeError) as error:
        raise CommandError(PLUGIN_INVALID, f"cannot describe plugin {supervisor.name!r}: a malformed answer") from error
    return report


def with_origin(supervisor: Supervisor, setting: str | None, values: Any) -> dict[str, Any]:
    """Return the value of a setting, or those of all by name, each as ``{value, origin}``."""
    if setting is not None:
        return {"value": values, "origin": supervisor.calls.origin(setting)}
    if not isinstance(values, dict):
        raise CommandError(PLUGIN_INVALID, f"cannot read plugin {supervisor.name!r}: a malformed answer")
    return {name: {"value": value, "origin": supervisor.calls.origin(name)} for name, value in values.items()}


def _setting(supervisor: Supervisor, setting: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    name = setting["name"]
    refused = supervisor.current.refused if supervisor.current else {}
    return {
        **setting,
        "value": values.get(name),
        "origin": supervisor.calls.origin(name),
        "ignored": refused.get(name),
    }


def why(supervisor: Supervisor, events: EventLog) -> dict[str, Any]:
    """Return why a plugin is in the state it is in."""
    failure = supervisor.failure
    worker = supervisor.worker
    return {
        "name": supervisor.name,
        "state": supervisor.state,
        "generation": supervisor.number,
        "summary": summary(supervisor, time.time()),
        "since": supervisor.since,
        "pid": worker.pid if worker else None,
        "last_error": failure.message if failure else None,
        "last_error_time": failure.time if failure else None,
        "traceback": failure.traceback if failure else None,
        "exit": failure.exit if failure else None,
        "notice": supervisor.remarks.notice,
        "malformed": supervisor.remarks.fault or None,
        "output": list(worker.last_output) if worker else list(failure.output) if failure else [],
        "next_retry": supervisor.next_retry,
        "events": [event.as_dict() for event in events.of(supervisor.name)[-20:]],
    }


def summary(supervisor: Supervisor, now: float) -> str:
    """Tell a plugin's state in plain words."""
    name, cause = supervisor.name, supervisor.cause
    wait = f" in {max(0.0, supervisor.next_retry - now):.0f} s" if supervisor.next_retry else ""
    counters = supervisor.counters
    match supervisor.state:
        case "running":
            text = f"{name} is running: {counters.collects} collections, {counters.failures} failures."
            if supervisor.failure:
                text += f" Last failure: {supervisor.failure.message}"
            if counters.malformed:
                text += f" Malformed lines in its output: {counters.malformed}; {supervisor.remarks.fault}."
            if counters.dropped:
                text += f" {counters.dropped} samples over a limit were dropped"
                labels = ", ".join(f"label {label} of {metric}" for metric, label in supervisor.exploding.items())
                text += f": too many values of {labels}." if labels else "."
            return text
        case "paused":
            return f"{name} is {cause}." + (f" It goes on by itself{wait}." if wait else "")
        case "backoff":
            return f"{name} failed: {cause}. It is tried again{wait}."
        case "quarantined":
            return f"{name} failed too often and is quarantined: {cause}. It is tried again{wait}; `resume` tries now."
        case "failed":
            return f"{name} cannot run as it is: {cause}. Mend it, then reload."
        case _:
            return f"{name} is {supervisor.state}: {cause}."


def status_plugins(supervisors: Sequence[Supervisor]) -> dict[str, Any]:
    """Return how many plugins are in which state."""
    states: dict[str, int] = {}
    for each in supervisors:
        states[each.state] = states.get(each.state, 0) + 1
    order = (RUNNING, STARTING, PAUSED, BACKOFF, QUARANTINED, FAILED)
    known = {state: states[state] for state in order if state in states}
    return {"total": len(supervisors), "states": known | states}


def problems(supervisors: Sequence[Supervisor]) -> list[dict[str, Any]]:
    """Return the plugins that somebody should look after."""
    return [
        {
            "name": each.name,
            "state": each.state,
            "last_error": each.failure.message if each.failure else None,
        }
        for each in supervisors
        if each.state in (BACKOFF, QUARANTINED, FAILED) or each.failing
    ]
