"""Is this file a plugin? Every fault of it at once, with its line, before anything of it runs for real."""

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from plugd.metric import Counter, Gauge, Metric
from plugd.plugin import API_VERSION, Plugin, setting
from plugd.worker.analysis import Analysis
from plugd.worker.failure import Fault

# What plugd calls, and how many arguments it gives.
METHODS = {"collect": 0, "start": 0, "stop": 0, "save_state": 0, "load_state": 1, "reconfigure": 0}

INTERVAL_RANGE = (0.01, 86_400.0)  # seconds

# https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax
METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}\Z")
UNIT = re.compile(r"[\x21-\x7e]{1,63}\Z")
LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}\Z")
VERSION = re.compile(r"\d+(\.\d+)*([.\-+a-zA-Z0-9]*)\Z")
REQUIREMENT = re.compile(r"[a-z][a-z0-9_.\-]{0,63}(@[a-z0-9_.\-]{1,64})?\s*((>=|<=|==|!=|>|<)\s*\d[\w.]*\s*,?\s*)*\Z")


def class_name(plugin: str) -> str:
    """Return the class a plugin's file must hold: ``disk_io`` and ``disk-io`` hold ``DiskIo``."""
    stem = plugin.partition("@")[0]
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[_.\-]+", stem))


def find_class(module: ModuleType, analysis: Analysis, plugin: str) -> tuple[type[Plugin] | None, list[Fault]]:
    """Return the plugin's class, or the reason why there is none."""
    wanted = class_name(plugin)
    found = getattr(module, wanted, None)
    lines = analysis.classes
    if found is None:
        others = [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Plugin) and value is not Plugin and name in lines
        ]
        if others:
            return None, [Fault(f"the class must be named {wanted!r}, not {others[0]!r}", lines[others[0]])]
        return None, [Fault(f"no class {wanted!r}")]
    if not isinstance(found, type) or not issubclass(found, Plugin):
        return None, [Fault(f"{wanted!r} is not a subclass of plugd.plugin.Plugin", lines.get(wanted))]
    return found, []


def metrics_of(cls: type[Plugin]) -> dict[str, Metric]:
    """Return the declared metrics by attribute, base classes first."""
    return {name: value for name, value in _attributes(cls) if isinstance(value, Metric)}


def settings_of(cls: type[Plugin]) -> dict[str, setting[Any]]:
    """Return the settings by attribute."""
    return {name: value for name, value in _attributes(cls) if isinstance(value, setting)}


def commands_of(cls: type[Plugin]) -> dict[str, Any]:
    """Return the functions marked as commands, by name."""
    return {
        name: value
        for name, value in _attributes(cls)
        if getattr(value, "__plugd_command__", False) and not name.startswith("_")
    }


def pushes(cls: type[Plugin]) -> bool:
    """Whether the plugin has an ``async def run`` that hands over samples; a command may have that name as well."""
    run = getattr(cls, "run", None)
    is_async = inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run)
    return is_async and not getattr(run, "__plugd_command__", False)


def faults_of(cls: type[Plugin], analysis: Analysis) -> list[Fault]:
    """Return every fault of a plugin's class, in the order of their lines."""
    faults = [
        Fault(message, analysis.lines.get(attribute))
        for check in (_attribute_faults, _metric_faults, _setting_faults, _method_faults)
        for attribute, message in check(cls)
    ]
    faults += _call_faults(cls, analysis)
    return sorted(faults, key=lambda fault: fault.line or 0)


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    seen: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        seen.update(vars(base))
    yield from seen.items()


def _attribute_faults(cls: type[Plugin]) -> Iterator[tuple[str, str]]:
    if type(cls.api) is not int:
        yield "api", f"api must be an integer, not {cls.api!r}"
    elif cls.api != API_VERSION:
        yield "api", f"written for api {cls.api}; this plugd speaks api {API_VERSION}"
    if not isinstance(cls.version, str) or not VERSION.match(cls.version):
        yield "version", f'version must be text such as "1.2", not {cls.version!r}'
    low, high = INTERVAL_RANGE
    if not _is_interval(cls.interval):
        yield "interval", f"interval must be {low} to {high:.0f} seconds, not {cls.interval!r}"
    if cls.timeout is not None and not _is_interval(cls.timeout):
        yield "timeout", f"timeout must be None, or {low} to {high:.0f} seconds, not {cls.timeout!r}"
    if not isinstance(cls.requires, (tuple, list, set, frozenset)) or not all(
        isinstance(name, str) for name in cls.requires
    ):
        yield "requires", 'requires must be a sequence of names: requires = ("cpu",)'
    else:
        for requirement in cls.requires:
            if not REQUIREMENT.match(requirement):
                yield (
                    "requires",
                    f'requires {requirement!r}: neither a name nor a name with versions: "cpu>=1.2"',
                )


def _is_interval(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return INTERVAL_RANGE[0] <= value <= INTERVAL_RANGE[1]


def _metric_faults(cls: type[Plugin]) -> Iterator[tuple[str, str]]:
    names: dict[str, str] = {}
    for attribute, metric in metrics_of(cls).items():
        where = f"metric {metric.name!r}"
        if not isinstance(metric, (Gauge, Counter)):
            yield attribute, f"{where}: must be a Gauge or a Counter"
        if not isinstance(metric.name, str) or not METRIC_NAME.match(metric.name):
            yield attribute, f"{where}: not a metric name: a letter, then letters, digits and _ . - /"
            continue
        if metric.name in names:
            yield attribute, f"{where}: declared twice, as {names[metric.name]!r} and {attribute!r}"
        names[metric.name] = attribute
        if not isinstance(metric.unit, str) or not UNIT.match(metric.unit):
            yield attribute, f"{where}: not a UCUM unit: {metric.unit!r}"
        if not isinstance(metric.help, str):
            yield attribute, f"{where}: help must be text, not {metric.help!r}"
        for label in metric.labels:
            if not isinstance(label, str) or not LABEL_NAME.match(label):
                yield attribute, f"{where}: not a label name: {label!r}"
        for parameter in metric.parameters:
            if isinstance(parameter, str) and LABEL_NAME.match(parameter) and not parameter.isidentifier():
                yield (
                    attribute,
                    f'{where}: label {parameter!r} is no Python word: labels={{"word": "{parameter}"}}',
                )
        if any(label in metric.labels[:number] for number, label in enumerate(metric.labels)):
            yield attribute, f"{where}: a label is declared twice"


def _setting_faults(cls: type[Plugin]) -> Iterator[tuple[str, str]]:
    for name, value in settings_of(cls).items():
        if value.choices and value.default not in value.choices:
            yield name, f"setting {name!r}: the default {value.default!r} is not among its choices"
        bounded = value.minimum is not None or value.maximum is not None
        if bounded and not isinstance(value.default, (int, float)):
            yield name, f"setting {name!r}: bounds are for numbers, and the default is {value.default!r}"
        elif bounded:
            low = value.minimum is not None and value.default < value.minimum
            high = value.maximum is not None and value.default > value.maximum
            if low or high:
                yield name, f"setting {name!r}: the default {value.default!r} is out of its bounds"


def _method_faults(cls: type[Plugin]) -> Iterator[tuple[str, str]]:
    if cls.collect is Plugin.collect and not pushes(cls):
        yield "collect", "no collect() method"
    for name, count in METHODS.items():
        method = inspect.getattr_static(cls, name, None)
        if method is None:
            continue  # One that a plugin need not have.
        if isinstance(method, (staticmethod, classmethod)):
            continue
        if not callable(method):
            yield name, f"{name} must be a method"
            continue
        if _takes(method, 1 + count):
            continue
        try:
            inspect.signature(method).bind(None, *[None] * count)
        except TypeError:
            yield name, f"{name}() must take {count or 'no'} argument{'s' * (count != 1)} besides self"
    for name, function in commands_of(cls).items():
        if isinstance(inspect.getattr_static(cls, name), (staticmethod, classmethod)):
            yield name, f"command {name}() must be a method that takes self"
        elif not _takes(function, 1) and not inspect.signature(function).parameters:
            yield name, f"command {name}() must take self"


def _takes(function: object, count: int) -> bool:
    """Whether a function plainly takes so many arguments: signatures are dear, and few are out of the ordinary."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_argcount == count and not code.co_kwonlyargcount


def _call_faults(cls: type[Plugin], analysis: Analysis) -> Iterator[Fault]:
    """Look at every ``self.metric(value, label=…)`` of the class for labels that are not the declared ones."""
    metrics = metrics_of(cls)
    for call in analysis.calls:
        metric = metrics.get(call.attribute)
        if metric is None:
            continue
        where = f"metric {metric.name!r}"
        unknown = [name for name in call.keywords if name not in metric.parameters]
        if unknown:
            declared = ", ".join(metric.parameters) or "none"
            yield Fault(f"{where}: no label {', '.join(map(repr, unknown))} (declared: {declared})", call.line)
        if call.open_ended:
            continue  # What else there is is known when it runs.
        missing = [name for name in metric.parameters if name not in call.keywords]
        if missing:
            yield Fault(f"{where}: label {', '.join(map(repr, missing))} missing", call.line)
        if call.values != 1:
            yield Fault(f"{where}: takes one value, then labels by name", call.line)
