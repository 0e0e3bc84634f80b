"""get and set: a plugin's settings, where their values are from, and how long they last."""

from __future__ import annotations

from plugctl.render.values import value
from plugctl.session import session
from plugctl.text import Style, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plugctl.arguments import Call
    from plugctl.output import Output


def show(call: Call, output: Output) -> int:
    """Show a setting, or all of them.

    Raises:
        CallError: the request failed.
    """
    with session(call) as client:
        result: Any = client.request("get", call.params)
    if not call.params.get("origin"):
        output.result(result, value)
    elif "setting" in call.params:
        output.result(result, lambda row, style: origins({call.params["setting"]: row}, style))
    else:
        output.result(result, origins)
    return 0


def change(call: Call, output: Output) -> int:
    """Set a setting (``SETTING VALUE``, ``SETTING=VALUE``) or, with ``--unset``, forget it; show what it is then.

    Raises:
        UsageError: a value is missing, or there is one too many.
        CallError: the request failed.
    """
    from plugctl.arguments import UsageError

    params = dict(call.params)
    method = "unset" if params.pop("unset", False) else "set"
    if method == "unset" and ("value" in params or "persist" in params):
        what = "VALUE" if "value" in params else "--persist"
        raise UsageError(f"set: --unset goes without {what}", call.verb)
    if method == "set" and "value" not in params:
        setting, equals, text = params["setting"].partition("=")
        if not equals:
            raise UsageError("set: VALUE is missing", call.verb)
        params |= {"setting": setting, "value": text}
    with session(call) as client:
        result: Any = client.request(method, params)
    output.result(result, value)
    return 0


def origins(result: dict[str, Any], style: Style) -> list[str]:
    """Draw values with their origins."""
    rows = [(name, _text(row["value"]), row["origin"]) for name, row in result.items()]
    return table(("SETTING", "VALUE", "FROM"), rows, style)


def _text(thing: Any) -> str:
    if isinstance(thing, dict | list):
        from plugctl.jsontext import json_text

        return json_text(thing)
    return "\n".join(value(thing, Style())) or "-"
