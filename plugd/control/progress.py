"""How far a request is, told to the client that waits for it."""

import asyncio
from typing import TYPE_CHECKING, Self

from plugd.plugin import Progress
from plugd.rpc.codec import encode_notification

if TYPE_CHECKING:
    from plugd.control.session import Session

PERIOD = 0.1  # seconds between two notifications


class Teller:
    """Sends notifications ``progress``: ten a second at most, the latest of several, and none to who does not read.

    Args:
        session: of the client.
        request: the id of its request.
    """

    def __init__(self, session: "Session", request: int) -> None:
        self._session = session
        self._request = request
        self._latest: Progress | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def tell(self, progress: Progress) -> None:
        """Tell of it, now or in a moment."""
        self._latest = progress
        if self._timer is None:
            self._send()

    def _send(self) -> None:
        self._timer = None
        if self._latest is not None:
            if self._session.notify(self._encode):
                self._latest = None
            self._timer = asyncio.get_running_loop().call_later(PERIOD, self._send)

    def _encode(self) -> bytes:
        assert self._latest is not None
        return encode_notification("progress", {"request": self._request, **self._latest._asdict()})
