"""Quantities, as people read and write them."""

import math

import pytest

from plugctl.units import duration, moment, number, parse_count, parse_duration, quantity, rate, size


@pytest.mark.parametrize(
    ("value", "unit", "kind", "text"),
    [
        (0, "By", "gauge", "0 B"),
        (1023, "By", "gauge", "1023 B"),
        (1024, "By", "gauge", "1.0 KiB"),
        (1023.99 * 1024, "By", "gauge", "1.0 MiB"),
        (21.5 * 2**20, "By", "gauge", "21.5 MiB"),
        (5 * 2**40, "By", "counter", "5.0 TiB"),
        (2, "KiBy", "gauge", "2.0 KiB"),
        (273600, "s", "gauge", "3d 4h"),
        (0.5, "1", "gauge", "0.5"),
        (250, "1", "gauge", "250"),
        (12, "1", "counter", "12"),
        (41.25, "Cel", "gauge", "41.25 °C"),
        (3_200_000_000, "Hz", "gauge", "3.2 GHz"),
        (1234567, "{packet}", "counter", "1,234,567"),
        (2048, "By/s", "gauge", "2.0 KiB/s"),
        (7, "{operation}/s", "gauge", "7/s"),
        (12.5, "V", "gauge", "12.50 V"),
        (None, "By", "gauge", "-"),
    ],
)
def test_a_value_is_told_in_its_unit(value: float | None, unit: str, kind: str, text: str) -> None:
    """UCUM units become what people read."""
    assert quantity(value, unit, kind) == text


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("system.cpu.utilization", "gauge", "50.0%"),
        ("cache.ratio", "gauge", "50.0%"),
        ("fraction", "gauge", "50.0%"),
        ("hw.battery.charge", "gauge", "50.0%"),
        ("system.cpu.load_average.1m", "gauge", "0.5"),
        ("system.utilization.peaks", "gauge", "0.5"),
        ("hw.battery.discharge", "gauge", "0.5"),
        ("system.cpu.utilization", "counter", "0.5"),
    ],
)
def test_percent_are_for_what_is_named_a_share(name: str, kind: str, text: str) -> None:
    """The unit 1 alone does not say so: it is that of every number without a dimension."""
    assert quantity(0.5, "1", kind, name) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(2048, "By", "2.0 KiB/s"), (0.25, "s", "25.0%"), (3, "{packet}", "3/s"), (2, "1", "2/s"), (None, "By", "-")],
)
def test_a_rate_is_per_second(value: float | None, unit: str, text: str) -> None:
    """Seconds per second are a share of the time."""
    assert rate(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.00025, "250 µs"),
        (0.0125, "12 ms"),
        (0.0015, "1.5 ms"),
        (0.9999, "1 s"),
        (12.5, "12.5 s"),
        (59.99, "1m"),
        (61, "1m 1s"),
        (3600, "1h"),
        (7260, "2h 1m"),
        (86399.9, "1d"),
        (273600, "3d 4h"),
        (-90, "-1m 30s"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    """Rounding never shows sixty of anything."""
    assert duration(seconds) == text


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e300])
def test_no_float_is_too_strange(value: float) -> None:
    """Whatever a plugin measured, it can be shown."""
    for text in (
        quantity(value, "s"),
        quantity(value, "By"),
        quantity(value, "1", "gauge", "ratio"),
        number(value),
        moment(value),
    ):
        assert text


def test_numbers_keep_the_digits_that_matter() -> None:
    """Large ones are grouped, small ones not rounded away."""
    assert [number(value) for value in (0, 12345, 12345.6, 123.45, 1.5, 0.00123)] == [
        "0",
        "12,345",
        "12,346",
        "123.5",
        "1.50",
        "0.00123",
    ]
    assert size(None) == "-"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("20m", 1200.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
        ("1m30", 90.0),
    ],
)
def test_durations_are_written_as_people_do(text: str, seconds: float) -> None:
    """A number alone is seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "5x", "-5", "1..5s", "nan", "inf", "1e9999", "99999999999"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Neither is zero one, to wait for."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "x", "9" * 5000])
def test_a_count_is_a_whole_number_above_zero(text: str) -> None:
    """Nothing else is."""
    with pytest.raises(ValueError, match="whole number"):
        parse_count(text)
