"""What a real Xvnc sent (see tests/golden/record.py) gives the picture that it meant."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from raygym.config import VncOptions
from raygym.wire.rfb_client import Connected, DesktopResized, RfbClient, ScreenUpdated

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = sorted(path.name.removesuffix(".rfb.gz") for path in GOLDEN.glob("*.rfb.gz"))
LOSSLESS = [name for name in NAMES if "jpeg" not in name]


def stream(name: str) -> bytes:
    return gzip.decompress((GOLDEN / f"{name}.rfb.gz").read_bytes())


def picture(name: str) -> np.ndarray:
    image = cv2.imread(str(GOLDEN / f"{name}.png"))
    assert image is not None
    return image[..., ::-1]


def new_client() -> RfbClient:
    return RfbClient(password="golden12", options=VncOptions())


def feed(client: RfbClient, data: bytes, chunk_bytes: int) -> list:
    events = []
    for begin in range(0, len(data), chunk_bytes):
        events += client.receive_data(data[begin : begin + chunk_bytes])
        client.data_to_send()
    return events


def test_every_kind_was_recorded():
    assert {"raw", "zrle", "zrle_3_3", "tight_lossless", "tight_resized", "tight_jpeg"} < set(NAMES)


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_stream_gives_the_very_picture(name):
    client = new_client()
    client.receive_data(stream(name))
    assert client.has_picture
    assert np.array_equal(client.framebuffer[..., :3], picture(name))


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(LOSSLESS)))
def test_a_lossy_stream_gives_nearly_the_picture(name):
    client = new_client()
    client.receive_data(stream(name))
    error = client.framebuffer[..., :3].astype(float) - picture(name)
    assert client.has_picture
    assert 0 < (error**2).mean() < 20


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_gives_the_same_whole_and_byte_by_byte(name):
    whole, bytewise = new_client(), new_client()
    data = stream(name)
    events = whole.receive_data(data)
    # The raw stream is long and all alike: its end comes in odd pieces.
    said = feed(bytewise, data[:120_000], 1) + feed(bytewise, data[120_000:], 7)
    assert said == events
    assert np.array_equal(bytewise.framebuffer, whole.framebuffer)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_a_stream_gives_the_same_cut_at_random(name, seed):
    cuts = random.Random(seed)
    whole, cut = new_client(), new_client()
    data = stream(name)
    events = whole.receive_data(data)
    said, begin = [], 0
    while begin < len(data):
        end = begin + int(cuts.paretovariate(0.5))
        said += cut.receive_data(bytearray(data[begin:end]))
        begin = end
    assert said == events
    assert np.array_equal(cut.framebuffer, whole.framebuffer)


def test_every_byte_of_a_stream_is_accounted_for():
    data = stream("tight_lossless")
    events = new_client().receive_data(data)
    updates = [event for event in events if isinstance(event, ScreenUpdated)]
    handshake_bytes = 12 + 2 + 16 + 4 + 24 + len(events[0].name)
    assert sum(update.bytes for update in updates) == len(data) - handshake_bytes


def test_a_resize_is_seen_in_its_place():
    events = new_client().receive_data(stream("tight_resized"))
    assert isinstance(events[0], Connected)
    assert DesktopResized(240, 180) in events[2:-2]
