"""Durations and sizes as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugd.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("100us", 0.0001),
        ("2d", 172800.0),
        ("1w", 604800.0),
        (" 7 ", 7.0),
        (3, 3.0),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_read_in_seconds(text: object, seconds: float) -> None:
    """A duration with units, or a bare number, becomes seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    ["", " ", "s", "5x", "5 minutes", "-5s", "30m1h", "1s1s", "1e3", "nan", "inf", "\u0661s", True, None, [], {}],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    """Text that is only nearly a duration is refused, and not guessed at."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["9ms", 86401, "1d1s", math.nan, math.inf, 10**400, "999999999999999w", -1])
def test_a_duration_out_of_range_names_the_range(value: object) -> None:
    """Both bounds are in the reason, in people's units."""
    with pytest.raises(ValueError, match="must be between 10ms and 1d, got"):
        parse_duration(value, minimum=0.01, maximum=86400.0)


def test_the_bounds_of_a_duration_are_inclusive() -> None:
    """The shortest and the longest duration are allowed."""
    assert parse_duration("10ms", minimum=0.01, maximum=86400.0) == 0.01
    assert parse_duration("1d", minimum=0.01, maximum=86400.0) == 86400.0


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("64KiB", 65536),
        ("10MB", 10_000_000),
        ("1G", 2**30),
        ("1k", 1024),
        ("1.5 MiB", 1572864),
        ("512", 512),
        ("512B", 512),
        (4096, 4096),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_read_in_bytes(text: object, size_bytes: int) -> None:
    """A size with a unit, or a bare number, becomes bytes; large ones exactly."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("value", ["", "KiB", "-1K", "1KK", "1 kilobyte", 1.5, True, None])
def test_what_is_no_size_is_refused(value: object) -> None:
    """Text that is only nearly a size is refused."""
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(value)


def test_a_size_out_of_range_names_the_range() -> None:
    """Both bounds are in the reason."""
    with pytest.raises(ValueError, match="must be between 1KiB and 16MiB, got '17MiB'"):
        parse_size("17MiB", minimum=1024, maximum=16 * 1024**2)


@given(st.text())
def test_any_text_is_a_finite_duration_or_refused(text: str) -> None:
    """No text raises anything but ValueError, or becomes a negative or infinite duration."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds < math.inf


@given(st.integers(min_value=1, max_value=10**9))
def test_a_formatted_duration_reads_back(milliseconds: int) -> None:
    """What is shown can be written into a configuration."""
    assert parse_duration(f"{milliseconds}ms") == pytest.approx(milliseconds / 1000)
    assert parse_duration(format_duration(float(milliseconds))) == milliseconds


@given(st.integers(min_value=0, max_value=2**50))
def test_a_formatted_size_reads_back(size_bytes: int) -> None:
    """A size that is shown is exactly the size."""
    assert parse_size(format_size(size_bytes)) == size_bytes
