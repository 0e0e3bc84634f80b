"""Plugins as text: the list of them, what one of them offers, why it is as it is, and what is wrong with its file."""

from __future__ import annotations

from plugctl.text import BOLD, DIM, GREEN, RED, STATE_COLOURS, Style, block, fields, printable, table
from plugctl.units import duration, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEALTHY = ("running", "starting", "stopping", "paused")


def plugins(result: list[dict[str, Any]], style: Style) -> list[str]:
    """Draw the answer to ``list``; of a plugin in trouble, its last error stands for its description."""
    return table(
        ("NAME", "STATE", "KIND", "VERSION", "PID", "EVERY", "COLLECTS", "FAILURES", "DESCRIPTION"),
        [
            (
                plugin["name"],
                plugin["state"],
                plugin["kind"],
                plugin["version"],
                plugin["pid"],
                duration(plugin["interval"]),
                plugin["collects"],
                plugin["failures"],
                _about(plugin),
            )
            for plugin in result
        ],
        style,
        right="PID EVERY COLLECTS FAILURES",
        colours={"STATE": STATE_COLOURS},
    )


def description(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``describe``."""
    requires = [str(name) for name in result.get("requires") or ()]
    timeout = result.get("timeout")
    lines = fields(
        [
            ("name", result["name"]),
            ("about", result.get("description") or None),
            ("kind", result.get("kind")),
            ("version", f"{result['version']} (api {result.get('api')})" if result.get("version") else None),
            ("state", f"{result.get('state')}, generation {result.get('generation')}"),
            ("path", result.get("path")),
            ("sha256", result.get("sha256")),
            ("interval", duration(result.get("interval"))),
            ("timeout", None if timeout is None else duration(timeout)),
            ("requires", ", ".join(requires) or None),
            *[("unconfined", reason) for reason in result.get("unconfined") or ()],
            *[("ignored", setting["ignored"]) for setting in result.get("settings") or () if setting.get("ignored")],
        ],
        style,
    )
    sections = (
        (
            ("METRIC", "KIND", "UNIT", "LABELS", "HELP"),
            [
                (
                    metric["name"],
                    metric["kind"],
                    metric["unit"],
                    ", ".join(metric.get("labels") or ()),
                    metric.get("help"),
                )
                for metric in result.get("metrics") or ()
            ],
        ),
        (
            ("COMMAND", "PARAMETERS", "HELP"),
            [
                (command["name"], _parameters(command.get("parameters") or ()), command.get("help"))
                for command in result.get("commands") or ()
            ],
        ),
        (
            ("SETTING", "TYPE", "VALUE", "FROM", "DEFAULT", "ALLOWED", "HELP"),
            [
                (
                    setting["name"],
                    setting.get("type"),
                    setting.get("value"),
                    setting.get("origin"),
                    setting.get("default"),
                    _allowed(setting),
                    setting.get("help"),
                )
                for setting in result.get("settings") or ()
            ],
        ),
        (("OPTION", "VALUE"), sorted((result.get("options") or {}).items())),
    )
    for header, rows in sections:
        if rows:
            lines += ["", *table(header, rows, style)]
    return lines


def reasons(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``why``: the reason first, then what supports it."""
    told = printable(result.get("summary") or f"{result['name']} is {result['state']}.")
    lines = [told.replace(result["state"], style.state(result["state"]), 1)]
    since, retry = result.get("since"), result.get("next_retry")
    lines += fields(
        [
            ("since", None if since is None else f"{moment(since)} ({duration(max(style.now - since, 0))} ago)"),
            ("generation", result.get("generation")),
            ("pid", result.get("pid")),
            ("exit", result.get("exit")),
            ("says", result.get("notice")),
            ("malformed", result.get("malformed")),
            ("last error", error_text(result.get("last_error"))),
            ("next retry", None if retry is None else f"{moment(retry)} (in {duration(max(retry - style.now, 0))})"),
        ],
        style,
    )
    if result.get("traceback"):
        lines += ["", style.paint("traceback", BOLD), *block(result["traceback"])]
    if result.get("output"):
        lines += ["", style.paint("output", BOLD)]
        for line in result["output"]:
            lines += block(line)
    if result.get("events"):
        rows = [
            (moment(event["time"]), event.get("generation"), event["from"], event["to"], event.get("cause"))
            for event in result["events"]
        ]
        colours = {"FROM": STATE_COLOURS, "TO": STATE_COLOURS}
        lines += ["", *table(("TIME", "GENERATION", "FROM", "TO", "CAUSE"), rows, style, colours=colours)]
    return lines


def check(result: dict[str, Any], style: Style) -> list[str]:
    """Draw the answer to ``check``: ``path:line: message`` for each fault, as compilers have it."""
    lines = []
    for fault in result.get("faults") or ():
        place = ":".join([str(part) for part in (fault.get("path"), fault.get("line")) if part is not None])
        lines.append(printable(f"{place}: {fault['message']}" if place else fault["message"]))
    if result["ok"]:
        samples, took = result.get("samples"), result.get("duration")
        proof = "" if samples is None else f": {samples} samples"
        if proof and took is not None:
            proof += f" in {duration(took)}"
        lines.append(f"{printable(result['name'])} {style.paint('ok', GREEN)}{style.paint(printable(proof), DIM)}")
    else:
        lines.append(f"{printable(result['name'])} {style.paint('invalid', RED)}")
    return lines


def error_text(error: Any) -> str | None:
    """Return the text of an error that is told as text or as an error object."""
    if isinstance(error, dict):
        return str(error.get("message") or error)
    return None if error is None else str(error)


def _about(plugin: dict[str, Any]) -> str | None:
    if plugin["last_error"] and plugin["state"] not in _HEALTHY:
        return error_text(plugin["last_error"])
    return plugin["description"]  # type: ignore[no-any-return]


def _parameters(parameters: Any) -> str:
    texts = []
    for parameter in parameters:
        text = str(parameter["name"])
        if parameter.get("type"):
            text += f": {parameter['type']}"
        texts.append(text if parameter.get("required", True) else f"[{text} = {parameter.get('default')}]")
    return ", ".join(texts)


def _allowed(setting: dict[str, Any]) -> str | None:
    if setting.get("choices"):
        return " | ".join([str(choice) for choice in setting["choices"]])
    minimum, maximum = setting.get("minimum"), setting.get("maximum")
    if minimum is None and maximum is None:
        return None
    return f"{'' if minimum is None else minimum} … {'' if maximum is None else maximum}".strip()
