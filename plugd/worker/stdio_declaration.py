"""What a program that speaks plugd's protocol says of itself in its answer to ``load``; all faults of it at once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from plugd.metric import Counter, Gauge, Metric
from plugd.worker.failure import Fault
from plugd.worker.native_declaration import LABELS, USUAL_INTERVAL, CommandRow
from plugd.worker.native_values import TYPE_NAMES, Parameter, convert
from plugd.worker.validation import INTERVAL_RANGE, LABEL_NAME, METRIC_NAME, REQUIREMENT, UNIT, VERSION

ROWS = 2000  # of each kind

_KINDS: dict[object, type[Metric]] = {"gauge": Gauge, "counter": Counter}
_TYPES = {name: number for number, name in TYPE_NAMES.items()}

T = TypeVar("T")


class Declaration(NamedTuple):
    """A program's own words, checked."""

    version: str
    description: str
    interval: float
    timeout: float | None
    requires: tuple[str, ...]
    metrics: tuple[Metric, ...]
    options: tuple[Parameter, ...]
    settings: tuple[Parameter, ...]
    commands: tuple[CommandRow, ...]
    reconfigurable: bool


def read_declaration(answer: Any) -> tuple[Declaration, list[Fault]]:
    """Return what an answer to ``load`` declares, and everything that is wrong with it; it may be anything."""
    reader = _Reader()
    declaration = reader.read(text(answer) if isinstance(answer, dict) else {})
    if not isinstance(answer, dict):
        reader.faults.insert(0, f"load: expected a map, got {_brief(answer)}")
    return declaration, [Fault(message) for message in reader.faults]


def text(value: Any) -> Any:
    """Return a value with text where it has bytes: some libraries of other languages know only those."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {text(key): text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [text(each) for each in value]
    return value


class _Reader:
    """Reads one answer; its faults are collected as it goes."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def read(self, answer: dict[str, Any]) -> Declaration:
        interval = self._duration("interval", answer.get("interval"))
        return Declaration(
            version=self._matching("version", answer.get("version", "0"), VERSION.match),
            description=self._text("description", answer.get("description", "")),
            interval=USUAL_INTERVAL if interval is None else interval,
            timeout=self._duration("timeout", answer.get("timeout")),
            requires=tuple(
                self._matching("requires", each, REQUIREMENT.match) for each in self._list("requires", answer)
            ),
            metrics=self._rows("metrics", answer, self._metric, lambda metric: metric.name),
            options=self._rows("options", answer, self._parameter, lambda option: option.name),
            settings=self._rows("settings", answer, self._parameter, lambda setting: setting.name),
            commands=self._rows("commands", answer, self._command, lambda command: command.name),
            reconfigurable=bool(answer.get("reconfigurable", False)),
        )

    def _rows(
        self, what: str, answer: dict[str, Any], read: Callable[[str, dict[str, Any]], T], name_of: Callable[[T], str]
    ) -> tuple[T, ...]:
        rows: dict[str, T] = {}
        for position, row in enumerate(self._list(what, answer)):
            where = f"{what}[{position}]"
            if not isinstance(row, dict):
                self.faults.append(f"{where}: expected a map, got {_brief(row)}")
                continue
            value = read(where, row)
            if name_of(value) in rows:
                self.faults.append(f"{where}: {name_of(value)!r} is declared twice")
            rows[name_of(value)] = value
        return tuple(rows.values())

    def _metric(self, where: str, row: dict[str, Any]) -> Metric:
        name = self._matching(f"{where}.name", row.get("name"), METRIC_NAME.match)
        kind = _KINDS.get(row.get("kind", "gauge"))
        if kind is None:
            self.faults.append(f"{where}.kind: expected gauge or counter, got {_brief(row['kind'])}")
        labels = [
            self._matching(f"{where}.labels", each, LABEL_NAME.match) for each in self._list("labels", row, where)
        ]
        if len(set(labels)) < len(labels) or len(labels) > LABELS:
            self.faults.append(f"{where}.labels: a label comes twice, or there are more than {LABELS}")
        unit = self._matching(f"{where}.unit", row.get("unit", "1"), UNIT.match)
        return (kind or Gauge)(name, unit=unit, labels=labels, help=self._text(f"{where}.help", row.get("help", "")))

    def _command(self, where: str, row: dict[str, Any]) -> CommandRow:
        return CommandRow(
            self._word(f"{where}.name", row.get("name")),
            self._text(f"{where}.help", row.get("help", "")),
            self._rows("parameters", row, self._parameter, lambda parameter: parameter.name),
            len,  # It is not called: the program is asked by name.
        )

    def _parameter(self, where: str, row: dict[str, Any]) -> Parameter:
        kind = _TYPES.get(row.get("type", "str"))
        if kind is None:
            self.faults.append(f"{where}.type: expected {', '.join(_TYPES)}, got {_brief(row['type'])}")
        parameter = Parameter(
            name=self._word(f"{where}.name", row.get("name")),
            help=self._text(f"{where}.help", row.get("help", "")),
            type=_TYPES["str"] if kind is None else kind,
            optional=bool(row.get("optional", False)),
            initial=row.get("default"),
            minimum=self._number(f"{where}.minimum", row.get("minimum")),
            maximum=self._number(f"{where}.maximum", row.get("maximum")),
            choices=tuple(self._list("choices", row, where)),
        )
        if parameter.initial is not None and kind is not None:
            try:
                return parameter._replace(initial=convert(parameter, parameter.initial, strict=True))
            except (ValueError, TypeError) as error:
                self.faults.append(f"{where}.default: {error}")
        return parameter

    def _list(self, what: str, row: dict[str, Any], where: str = "") -> Sequence[Any]:
        value = row.get(what) or []
        if not isinstance(value, list) or len(value) > ROWS:
            self.faults.append(f"{where}.{what}".lstrip(".") + f": expected an array of at most {ROWS}")
            return []
        return value

    def _text(self, where: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        self.faults.append(f"{where}: expected text, got {_brief(value)}")
        return ""

    def _word(self, where: str, value: Any) -> str:
        return self._matching(where, value, lambda word: word.isidentifier() and len(word) <= 64)

    def _matching(self, where: str, value: Any, matches: Callable[[str], Any]) -> str:
        if isinstance(value, str) and matches(value):
            return value
        self.faults.append(f"{where}: {'missing' if value is None else f'{_brief(value)} is none'}")
        return "?"

    def _number(self, where: str, value: Any) -> float | None:
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        self.faults.append(f"{where}: expected a number, got {_brief(value)}")
        return None

    def _duration(self, where: str, value: Any) -> float | None:
        low, high = INTERVAL_RANGE
        number = self._number(where, value)
        if number is None or low <= number <= high:
            return None if number is None else float(number)
        self.faults.append(f"{where}: expected {low} to {high:.0f} seconds, got {number}")
        return None


def _brief(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
