"""How often a plugin collects, and how long that may take: the configuration's word, the plugin's, or the default."""

from typing import NamedTuple

from plugd.catalog.spec import PluginSpec
from plugd.hosting.environment import Environment
from plugd.hosting.generation import Description

USUAL_INTERVAL = 10.0  # seconds; of a plugin of which nothing is known yet


class Timing(NamedTuple):
    """Durations in seconds."""

    interval: float  # between ticks
    timeout: float  # of a collection
    offset: float  # by which ticks come after the aligned instant


def timing_of(spec: PluginSpec, description: Description | None, environment: Environment) -> Timing:
    """Return the timing of a plugin; ``description`` is None while none of it is running."""
    own_interval = description.interval if description else USUAL_INTERVAL
    interval = spec.config.interval or environment.default_interval or own_interval
    own_timeout = description.timeout if description else None
    timeout = spec.config.timeout or own_timeout or environment.default_timeout
    return Timing(interval, timeout or min(max(interval, 1.0), 30.0), spec.config.offset or 0.0)
