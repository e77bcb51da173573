"""Both ends of RFB, joined without a socket."""

from __future__ import annotations

import numpy as np
import pytest

from raygym.config import VncOptions
from raygym.errors import HandshakeRefused
from raygym.wire.encoder import Box
from raygym.wire.rfb_client import Connected, RfbClient, RfbEvent, ScreenUpdated
from raygym.wire.rfb_server import KeyEvent, PointerEvent, RfbServer, RfbServerEvent

WIDTH, HEIGHT = 150, 70
LOSSLESS = [
    VncOptions(encoding="raw"),
    VncOptions(encoding="zrle"),
    VncOptions(encoding="zrle", compress_level=0),
    VncOptions(fine_quality_level=None),
    VncOptions(fine_quality_level=None, compress_level=9),
]
LOSSY = [VncOptions(fine_quality_level=90, subsample_level=level) for level in (0, 1, 2)]


class Link:
    """A client and a server, and what each has said."""

    def __init__(
        self,
        options: VncOptions,
        *,
        width: int = WIDTH,
        height: int = HEIGHT,
        password=None,
        exact: Box | None = None,
    ) -> None:
        self.client = RfbClient(password=password, options=options)
        self.server = RfbServer(
            width=width, height=height, name="both", password=password, exact=exact
        )
        self.client_events: list[RfbEvent] = []
        self.server_events: list[RfbServerEvent] = []
        self.exchange()

    def exchange(self) -> None:
        """Carries bytes both ways until there are none."""
        while True:
            to_client, to_server = self.server.data_to_send(), self.client.data_to_send()
            if not to_client and not to_server:
                return
            self.client_events += self.client.receive_data(to_client)
            self.server_events += self.server.receive_data(to_server)

    def show(self, frame: np.ndarray) -> np.ndarray:
        """Sends a frame; returns what the client sees, uint8[H, W, 3]."""
        assert self.server.send_frame(frame)
        self.exchange()
        return self.client.framebuffer[..., :3]


def frames(count: int, *, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """Smooth pictures with a noisy patch that moves, each uint8[height, width, 3]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    background = np.stack([x, y * 3, 255 - x], -1).astype(np.uint8)
    made = []
    for number in range(count):
        frame = background.copy()
        frame[5 : 5 + 9, number * 7 : number * 7 + 11] = random.integers(0, 256, (9, 11, 3))
        made.append(frame)
    return made


@pytest.mark.parametrize("options", LOSSLESS, ids=str)
def test_lossless_frames_arrive_exactly(options):
    link = Link(options)
    for frame in frames(6):
        assert np.array_equal(link.show(frame), frame)
    assert link.client.has_picture


@pytest.mark.parametrize("options", [*LOSSY, VncOptions(fine_quality_level=1)], ids=str)
@pytest.mark.parametrize("exact", [Box(12, 6, 6, 2), Box(0, 0, 150, 70)], ids=str)
def test_the_part_that_must_be_exact_arrives_so_within_lossy_frames(options, exact):
    link = Link(options, exact=exact)
    noise = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for frame in [*frames(4), noise]:
        assert np.array_equal(exact.of(link.show(frame)), exact.of(frame))


def test_a_change_beside_the_exact_part_is_sent_once():
    link = Link(LOSSY[0], exact=Box(0, 0, 6, 2))
    first = frames(1)[0]
    link.show(first)
    second = first.copy()
    second[60:62, 100:104] = 255
    link.show(second)
    boxes = [event for event in link.client_events if isinstance(event, ScreenUpdated)]
    assert boxes[-1].rectangles == 1


@pytest.mark.parametrize("options", LOSSY, ids=str)
def test_lossy_frames_arrive_nearly(options):
    link = Link(options)
    for frame in frames(6):
        error = np.abs(link.show(frame).astype(int) - frame)
        assert 0 < error.mean() < 3


def test_a_grey_picture_was_asked_for_and_came():
    link = Link(VncOptions(fine_quality_level=90, subsample_level=3))
    seen = link.show(frames(1)[0])
    assert np.array_equal(seen[..., 0], seen[..., 2])


@pytest.mark.parametrize(
    "options", [VncOptions(fine_quality_level=None), VncOptions(fine_quality_level=20)], ids=str
)
def test_a_screen_too_wide_for_one_tight_rectangle_arrives(options):
    link = Link(options, width=2600, height=300)
    (frame,) = frames(1, width=2600, height=300)
    error = np.abs(link.show(frame).astype(int) - frame)
    assert error.mean() < (0.001 if options.fine_quality_level is None else 20)
    (update,) = [event for event in link.client_events if isinstance(event, ScreenUpdated)]
    assert (update.width, update.height) == (2600, 300)
    assert update.rectangles > 2


def test_only_the_difference_of_two_frames_crosses():
    link = Link(VncOptions(encoding="raw"))
    for frame in frames(2):
        link.show(frame)
    update = link.client_events[-1]
    assert isinstance(update, ScreenUpdated)
    assert (update.x, update.y, update.width, update.height) == (0, 5, 18, 9)


@pytest.mark.parametrize("password", [None, "secret12", "longer than eight bytes"])
def test_both_ends_agree_on_a_password(password):
    link = Link(VncOptions(), password=password)
    assert link.client_events == [Connected(WIDTH, HEIGHT, "both")]


def test_a_wrong_password_is_refused_at_both_ends():
    client = RfbClient(password="right", options=VncOptions())
    server = RfbServer(width=1, height=1, name="", password="wrong")
    client.receive_data(server.data_to_send())
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    with pytest.raises(HandshakeRefused):
        server.receive_data(client.data_to_send())
    with pytest.raises(HandshakeRefused, match="says 'wrong password'; check the password"):
        client.receive_data(server.data_to_send())


def test_input_crosses_in_order():
    link = Link(VncOptions())
    link.client.key_event(0xFF51, True)
    link.client.pointer_event(4, 3, 1)
    link.client.key_event(0xFF51, False)
    link.exchange()
    assert link.server_events[-3:] == [
        KeyEvent(0xFF51, True),
        PointerEvent(4, 3, 1),
        KeyEvent(0xFF51, False),
    ]
