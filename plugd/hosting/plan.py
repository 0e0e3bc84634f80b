"""What a reload is to do: decided from what is there and what is wanted, before anything is done."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from plugd.catalog.spec import PluginSpec


class Plan(NamedTuple):
    """What a reload does: names, sorted."""

    load: list[str]
    reload: list[str]
    reschedule: list[str]
    unload: list[str]
    unchanged: list[str]


def plan_of(
    there: Mapping[str, PluginSpec],
    found: Mapping[str, PluginSpec],
    away: Collection[str],
    asked_for: Collection[str] = (),
) -> Plan:
    """Return what makes the plugins that are there those that were found.

    Args:
        there: the loaded ones, as they run.
        found: as they are on disk and configured now.
        away: those that somebody has unloaded; they are not loaded again for being found.
        asked_for: those that somebody has loaded though they are disabled.
    """
    plan = Plan([], [], [], [], [])
    for name, spec in sorted(found.items()):
        if _is_gone(spec, there.get(name), asked_for):
            continue
        if name not in there:
            if name not in away:
                plan.load.append(name)
        elif not spec.same_code(there[name]):
            plan.reload.append(name)
        elif spec.config != there[name].config:
            plan.reschedule.append(name)
        else:
            plan.unchanged.append(name)
    plan.unload.extend(
        sorted(name for name in there if name not in found or _is_gone(found[name], there[name], asked_for))
    )
    return plan


def _is_gone(spec: PluginSpec, there: PluginSpec | None, asked_for: Collection[str]) -> bool:
    """Whether a plugin should not be there: disabled, or its file deleted though its configuration is left."""
    if not spec.config.enabled:
        return spec.name not in asked_for
    return there is not None and bool(there.path) and not spec.path
