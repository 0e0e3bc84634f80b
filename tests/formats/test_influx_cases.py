"""Decode cases of InfluxData's line-protocol-corpus."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from plugd.formats.influx import Point, points

CASES = Path(__file__).parents[3] / "shared" / "testdata" / "influx-line-protocol-cases.json"


def cases() -> list[Any]:
    if not CASES.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="../shared/testdata is not here"))]
    return [pytest.param(case, id=case["input"]["key"]) for case in json.loads(CASES.read_text())]


def as_bytes(text: str | dict[str, str]) -> bytes:
    return text.encode() if isinstance(text, str) else base64.b64decode(text["binary"])


def as_case(point: Point) -> dict[str, Any]:
    return {
        "time": point.time,
        "name": point.measurement,
        "tags": [{"key": key, "value": value} for key, value in point.tags],
        "fields": [{"key": field.key, "value": {field.type: field.value}} for field in point.fields],
    }


@pytest.mark.parametrize("case", cases())
def test_case(case: dict[str, Any]) -> None:
    """An output gives the points its case gives, or a fault where that has an error."""
    given = case["input"]
    precision = given["precision"].removeprefix("1")
    found = points(as_bytes(given["text"]), precision=precision, default_time=given["defaultTime"])
    if "error" in case["output"]:
        assert found.faults
    else:
        assert not found.faults
        assert [as_case(point) for point in found.points] == case["output"]["result"]
