"""A live connection to Xvnc that keeps every byte of the server."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable

import numpy as np

from raygym.config import VncOptions
from raygym.wire.rfb_client import RfbClient, ScreenUpdated
from tests.support.xvnc import Xvnc

QUIET_S = 0.25
DEADLINE_S = 60.0


class Recorder:
    """A client, its socket and what came through it; a context manager.

    Args:
        xvnc: Whom to connect to.
        options: What to ask for.
        password: What to say; None for nothing.
        is_old: Makes client and server speak RFB 3.3.
    """

    def __init__(
        self,
        xvnc: Xvnc,
        options: VncOptions | None = None,
        *,
        password: str | None,
        is_old: bool = False,
    ) -> None:
        self.client = RfbClient(password=password, options=options or VncOptions())
        self.received = bytearray()
        self.updates = 0
        self._socket = xvnc.connect(timeout_s=DEADLINE_S)
        self._is_old = is_old

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def screen(self) -> np.ndarray:
        """uint8[H, W, 3], a view of what the client sees."""
        return self.client.framebuffer[..., :3]

    def send(self, data: bytes = b"") -> None:
        """Sends what the client has to send, and then ``data``."""
        self._socket.sendall(self.client.data_to_send() + data)

    def run(self, *, until_s: float) -> bool:
        """Takes what comes in one read; False if there was nothing before ``until_s``."""
        self.send()
        left_s = max(0.0, until_s - time.monotonic())
        is_ready, _, _ = select.select([self._socket], [], [], left_s)
        if not is_ready:
            return False
        data = self._socket.recv(1 << 18)
        assert data, "Xvnc closed the connection"
        if self._is_old and not self.received:
            assert len(data) == 12
            data = b"RFB 003.003\n"
        self.received += data
        events = self.client.receive_data(data)
        self.updates += sum(isinstance(event, ScreenUpdated) for event in events)
        self.send()
        return True

    def run_until(
        self, is_reached: Callable[[], bool], seen: Callable[[], str] = lambda: ""
    ) -> None:
        """Carries bytes both ways until the condition holds; fails after a deadline.

        The failure tells what ``seen`` returns.
        """
        deadline_s = time.monotonic() + DEADLINE_S
        while not is_reached():
            is_going_on = self.run(until_s=deadline_s)
            assert is_going_on, f"not reached in {DEADLINE_S:g} s, {self.updates} updates; {seen()}"

    def settle(self) -> None:
        """Runs until the whole screen has come and nothing follows."""
        self.run_until(lambda: self.client.has_picture and not self.client.is_updating)
        deadline_s = time.monotonic() + DEADLINE_S
        while self.run(until_s=time.monotonic() + QUIET_S):
            assert time.monotonic() < deadline_s, "the screen does not come to rest"

    def resize(self, width: int, height: int) -> None:
        """Asks Xvnc for another screen size; waits until it is there."""
        layout = struct.pack(">IHHHHI", 0, 0, 0, width, height, 0)
        self.send(struct.pack(">BxHHBx", 251, width, height, 1) + layout)
        self.run_until(lambda: (self.client.width, self.client.height) == (width, height))
