"""What to try next, for each kind of failure: the daemon tells what happened, the client what can be done."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plugctl.arguments import Call
    from plugctl.errors import CallError

_ADVICE = {
    "client.no_daemon": "is plugd running? see: systemctl status plugd; or name its socket with --socket",
    "client.denied": "try as root, or as a member of the socket's group",
    "client.timeout": "wait longer with --timeout",
    "auth.denied": "your role does not allow it; the operators and admins are in plugd's configuration",
    "request.unknown_method": "this plugd may be older than plugctl; try: plugctl version",
    "busy": "try again in a moment",
    "plugin.not_found": "try: plugctl list",
}
_ADVICE_ON_PLUGIN = {
    "plugin.already_loaded": "try: plugctl reload {name}",
    "plugin.in_use": "try: plugctl unload {name} --cascade",
    "plugin.invalid": "try: plugctl check {name}",
    "plugin.timeout": "try: plugctl why {name}",
    "plugin.crashed": "try: plugctl why {name}",
}


def advice(failure: CallError, call: Call | None) -> str:
    """Return what to put behind the failure's message, in parentheses; nothing where there is nothing to say."""
    text = _ADVICE.get(failure.code)
    if text is None and failure.code in _ADVICE_ON_PLUGIN:
        name = _plugin(failure, call)
        text = _ADVICE_ON_PLUGIN[failure.code].format(name=name) if name else None
        if text is not None and call is not None and text == f"try: plugctl {call.verb.name} {name}":
            text = None  # It has just been tried
    return f" ({text})" if text else ""


def _plugin(failure: CallError, call: Call | None) -> str | None:
    """The plugin that the failure is about: by its data, or as the only one that was named."""
    for key in ("plugin", "name"):
        if isinstance(failure.data.get(key), str):
            return str(failure.data[key])
    if call is None:
        return None
    names = call.params.get("names", [])
    return names[0] if len(names) == 1 else call.params.get("name")
