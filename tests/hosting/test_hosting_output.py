"""What a plugin prints: whole lines, cut and limited, over real pipes."""

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from plugd.hosting.output import (
    BURST_SECONDS,
    BYTES_PER_SECOND,
    LAST_LINES,
    LINE_BYTES,
    LINES_PER_SECOND,
    OutputReader,
)

BURST_LINES = BURST_SECONDS * LINES_PER_SECOND

pytestmark = pytest.mark.anyio

DEADLINE = 20.0  # seconds


class Pipe:
    """A pipe that is being read, and what came of it."""

    def __init__(self) -> None:
        read, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        self.lines: list[str] = []
        self.suppressed: list[int] = []
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.reader = OutputReader(read, self.lines.append, self.suppressed.append, self.last)

    def write(self, data: bytes) -> None:
        os.write(self.write_end, data)

    def close(self) -> None:
        """Close the plugin's end."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1


@contextlib.asynccontextmanager
async def pipe() -> AsyncIterator[Pipe]:
    made = Pipe()
    try:
        yield made
    finally:
        made.close()
        made.reader.close()


async def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true"
        await asyncio.sleep(0.001)


async def test_lines_are_handed_on() -> None:
    """Each without its end, in order."""
    async with pipe() as one:
        one.write(b"first\nsecond\nthird\n")
        await until(lambda: len(one.lines) == 3, "three lines")
        assert one.lines == ["first", "second", "third"]
        assert list(one.last) == one.lines


async def test_a_line_may_come_in_pieces() -> None:
    """It is handed on when it is complete."""
    async with pipe() as one:
        for piece in (b"be", b"gin", b"ning and"):
            one.write(piece)
            await asyncio.sleep(0.01)
            assert one.lines == []
        one.write(b" end\nnext")
        await until(lambda: one.lines, "the line")
        assert one.lines == ["beginning and end"]


async def test_an_unfinished_line_is_handed_on_at_the_end() -> None:
    """What a plugin printed before it died, without a line's end, is not lost."""
    async with pipe() as one:
        one.write(b"done\nSegmentation fau")
        one.close()
        await until(lambda: len(one.lines) == 2, "both")
        assert one.lines == ["done", "Segmentation fau"]


async def test_closing_takes_what_is_still_there() -> None:
    """A plugin's last words are read although nobody has been told yet that they are there."""
    async with pipe() as one:
        one.write(b"last words\nand more")
        one.reader.close()
        assert one.lines == ["last words", "and more"]


async def test_closing_twice_is_closing_once() -> None:
    """And a writer that outlives the reader is not waited for."""
    async with pipe() as one:
        one.reader.close()
        one.reader.close()
        with pytest.raises(BrokenPipeError):
            one.write(b"x")


async def test_a_long_line_is_cut() -> None:
    """However long it is, and whether its end ever comes."""
    async with pipe() as one:
        one.write(b"a" * (LINE_BYTES * 3) + b"\n")
        one.write(b"b" * (LINE_BYTES * 3))
        await until(lambda: {line[0] for line in one.lines} == {"a", "b"}, "both")
        assert max(map(len, one.lines)) <= LINE_BYTES
        assert max(map(len, one.last)) <= LINE_BYTES


async def test_empty_lines_are_left_out() -> None:
    """They say nothing."""
    async with pipe() as one:
        one.write(b"\n\n  \n\t\nsomething\n\n")
        await until(lambda: one.lines, "the line")
        one.reader.close()
        assert one.lines == ["something"]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"caf\xc3", b"\x00\x01", b"\x1b[31mred\x1b[0m"])
async def test_any_bytes_are_text_in_the_end(data: bytes) -> None:
    """What is no UTF-8 is escaped; every line can be logged and sent."""
    async with pipe() as one:
        one.write(data + b"\n")
        await until(lambda: one.lines, "the line")
        one.lines[0].encode("utf-8")


async def test_an_ordinary_burst_is_handed_on_whole() -> None:
    """A traceback, or a plugin's greeting, is not cut."""
    async with pipe() as one:
        one.write(b"".join(b"line %d\n" % number for number in range(BURST_LINES)))
        await until(lambda: len(one.lines) == BURST_LINES, "all lines")
        assert one.suppressed == []


async def test_too_many_lines_are_counted_and_left_out() -> None:
    """The first are handed on, the number of the others is told, and the last are kept for `plugctl why`."""
    async with pipe() as one:
        total = 5000
        one.write(b"".join(b"%d\n" % number for number in range(total)))
        one.close()
        await until(lambda: one.lines and int(one.last[-1]) == total - 1, "the end")
        one.reader.close()
        assert one.lines[:BURST_LINES] == [str(number) for number in range(BURST_LINES)]
        assert list(one.last) == [str(number) for number in range(total - LAST_LINES, total)]
        assert len(one.lines) + sum(one.suppressed) == total
        assert len(one.lines) < 2 * BURST_LINES


async def test_a_flood_is_held_back() -> None:
    """Beyond a megabyte a second it is the plugin that waits, and not the daemon that reads."""
    async with pipe() as one:
        total = 20 * 1024 * 1024
        written = [0]

        def flood() -> None:
            block = b"noise\n" * 10_000
            try:
                while written[0] < total:
                    written[0] += os.write(one.write_end, block)
            except OSError:
                pass  # The reader has had enough.

        plugin = threading.Thread(target=flood)
        started = time.monotonic()
        plugin.start()
        try:
            await until(lambda: written[0] > BYTES_PER_SECOND, "the first megabyte")
            for _ in range(20):
                await asyncio.sleep(0.01)
            elapsed = time.monotonic() - started
            assert written[0] <= (elapsed + 2) * BYTES_PER_SECOND
            assert len(one.lines) < 2 * BURST_LINES
        finally:
            one.reader.close()
            await asyncio.to_thread(plugin.join)
        assert sum(one.suppressed) > 0


async def test_after_a_flood_lines_are_handed_on_again() -> None:
    """Rest is given for a second at a time, and then it reads on."""
    async with pipe() as one:
        one.write(b"noise\n" * 5000)
        await until(lambda: one.suppressed, "the number of those left out")
        before = len(one.lines)
        one.write(b"sense\n")
        await until(lambda: "sense" in one.lines or (one.last and one.last[-1] == "sense"), "the line")
        assert len(one.lines) <= before + 1


async def test_two_pipes_do_not_disturb_each_other() -> None:
    """A flood on one of them is nothing to the other."""
    async with pipe() as noisy, pipe() as quiet:
        noisy.write(b"noise\n" * 10_000)
        await until(lambda: noisy.lines, "the noise")
        quiet.write(b"sense\n")
        await until(lambda: quiet.lines, "the line")
        assert quiet.lines == ["sense"]
