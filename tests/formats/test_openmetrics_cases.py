"""The public parser cases of the OpenMetrics project (tests/testdata/parsers)."""

import json
from pathlib import Path
from typing import Any

import pytest

from plugd.formats.prometheus import parse_openmetrics

CASES = Path(__file__).parents[3] / "shared" / "testdata" / "openmetrics-parser-cases.json"


def cases() -> list[Any]:
    if not CASES.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="../shared/testdata is not here"))]
    return [pytest.param(case, id=case["name"]) for case in json.loads(CASES.read_text())]


@pytest.mark.parametrize("case", cases())
def test_case(case: dict[str, Any]) -> None:
    """A document has faults if and only if its case says that it does not parse."""
    parsed = parse_openmetrics(case["metrics"].encode("utf-8", "surrogateescape"))
    assert (not parsed.faults) is case["test"]["shouldParse"], parsed.faults
