"""Temperatures, fans and battery of the hardware.

Sources: /sys/class/hwmon, /sys/class/thermal and /sys/class/power_supply (sysfs(5)), by way of psutil. Names follow
the hardware part of the conventions (hw.*). Virtual machines have none of it, and no samples.
"""

from collections.abc import Iterable

import psutil

from plugd.plugin import Gauge, Plugin, Sample

SENSOR = {"id": "hw.id", "name": "hw.name"}
LIMIT = {**SENSOR, "limit": "hw.limit_type"}


class Sensors(Plugin):
    """What the hardware measures of itself."""

    version = "1.0.0"
    interval = 30.0  # seconds

    temperature = Gauge("hw.temperature", unit="Cel", labels=SENSOR, help="Temperature at a sensor.")
    temperature_limit = Gauge(
        "hw.temperature.limit",
        unit="Cel",
        labels=LIMIT,
        help="Temperature that the hardware calls high (high.degraded) or critical (high.critical).",
    )
    fan_speed = Gauge("hw.fan.speed", unit="rpm", labels=SENSOR, help="Revolutions of a fan per minute.")
    battery_charge = Gauge("hw.battery.charge", unit="1", help="Charge of the battery, 1 when it is full.")
    battery_time_left = Gauge(
        "hw.battery.time_left", unit="s", help="Time until the battery is empty, while it discharges."
    )

    def collect(self) -> Iterable[Sample]:
        """Yield what there is: temperatures with their limits, fans, and the battery.

        One kind's driver may fail, or say what is no number: the others' samples are no worse for it.
        """
        for samples in (self.collect_temperatures, self.collect_fans, self.collect_battery):
            try:
                yield from samples()
            except (OSError, ValueError):
                continue

    def collect_temperatures(self) -> Iterable[Sample]:
        """Yield each sensor's temperature and what its hardware calls too warm."""
        for chip, temperatures in psutil.sensors_temperatures().items():
            for index, sensor in enumerate(temperatures):
                sensor_id, name = f"{chip}:{index}", sensor.label or chip
                if sensor.current is not None:
                    yield self.temperature(sensor.current, id=sensor_id, name=name)
                for limit, value in (("high.degraded", sensor.high), ("high.critical", sensor.critical)):
                    if value is not None:
                        yield self.temperature_limit(value, id=sensor_id, name=name, limit=limit)

    def collect_fans(self) -> Iterable[Sample]:
        """Yield the speed of each fan."""
        for chip, fans in psutil.sensors_fans().items():
            for index, fan in enumerate(fans):
                yield self.fan_speed(fan.current, id=f"{chip}:{index}", name=fan.label or chip)

    def collect_battery(self) -> Iterable[Sample]:
        """Yield the charge of the battery, and how long it will last while it is in use."""
        battery = psutil.sensors_battery()
        if battery is not None:
            yield self.battery_charge(battery.percent / 100)
            if battery.secsleft is not None and battery.secsleft >= 0:  # negative: plugged in, or unknown
                yield self.battery_time_left(battery.secsleft)
