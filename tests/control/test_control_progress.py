"""Progress, as it is told to a client: not too often, and only as fast as it reads."""

from collections.abc import Callable
from typing import Any, cast

import msgpack
import pytest
from control_rig import until

from plugd.control import progress
from plugd.control.progress import Teller
from plugd.plugin import Progress

pytestmark = pytest.mark.anyio


class Reader:
    """A session whose client reads, or does not."""

    def __init__(self) -> None:
        self.reads = True
        self.asked = 0
        self.told: list[dict[str, Any]] = []

    def notify(self, encode: Callable[[], bytes]) -> bool:
        self.asked += 1
        if self.reads:
            kind, method, (params,) = msgpack.unpackb(encode())
            assert (kind, method, params.pop("request")) == (2, "progress", 7)
            self.told.append(params)
        return self.reads


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr(progress, "PERIOD", 0.01)
    return Reader()


def teller(reader: Reader) -> Teller:
    return Teller(cast("Any", reader), 7)


async def test_the_first_is_told_at_once_and_of_the_next_the_latest(reader: Reader) -> None:
    """What comes in between is left out."""
    with teller(reader) as told:
        for number in range(1000):
            told.tell(Progress(float(number), 1000.0, "x"))
        assert reader.told == [{"done": 0.0, "total": 1000.0, "text": "x"}]
        await until(lambda: len(reader.told) == 2, "the latest")
        assert reader.told[1]["done"] == 999.0


async def test_what_has_been_told_is_not_told_again(reader: Reader) -> None:
    """A command that is silent costs nothing."""
    with teller(reader) as told:
        told.tell(Progress(1.0))
        await until(lambda: told._timer is None, "the end of the timer")
        assert reader.asked == 1
        told.tell(Progress(2.0))
        assert [params["done"] for params in reader.told] == [1.0, 2.0]


async def test_who_does_not_read_is_told_the_latest_in_the_end(reader: Reader) -> None:
    """Nothing is queued for it meanwhile."""
    reader.reads = False
    with teller(reader) as told:
        for number in range(100):
            told.tell(Progress(float(number)))
        await until(lambda: reader.asked > 3, "attempts")
        assert reader.told == []
        reader.reads = True
        await until(lambda: bool(reader.told), "the latest")
        assert [params["done"] for params in reader.told] == [99.0]


async def test_nothing_is_told_after_the_end(reader: Reader) -> None:
    """The answer comes last."""
    with teller(reader) as told:
        told.tell(Progress(1.0))
        told.tell(Progress(2.0))
    assert told._timer is not None
    assert told._timer.cancelled()
    assert len(reader.told) == 1
