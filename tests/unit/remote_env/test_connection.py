from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from raygym.catalog import Region
from raygym.core import Endpoint, Remote, UInt8Array
from raygym.errors import (
    ConfigError,
    FrameTimeout,
    HandshakeRefused,
    RaygymError,
    RemoteFailedToStart,
    SessionLost,
)
from raygym.remote_env.connection import Connection
from raygym.remote_env.readiness import make_ready
from raygym.remote_env.vnc_session import Snapshot, VncStats
from raygym.wire import timing
from raygym.wire.timing import TimingMark
from tests.unit.remote_env.fakes import SPEC

REMOTE = Remote(
    id="r-1",
    runtime="fake",
    vnc=Endpoint(path="/x/vnc.sock"),
    rewarder=Endpoint(path="/x/rewarder.sock"),
)
STRIP = [10, 5]


def now_ms() -> int:
    return round(time.time() * 1000) % 2**32


@dataclass
class FakeVnc:
    """Gives one of the prepared snapshots per wait."""

    ahead: list[TimingMark | None] = field(default_factory=list)
    lost: RaygymError | None = None
    last_arrival_s: float = field(default_factory=time.monotonic)
    stats: VncStats = field(default_factory=VncStats)
    screen_px: tuple[int, int] = (400, 300)
    regions: tuple[Region, ...] = ()
    log: list[str] = field(default_factory=list)
    newest: Snapshot | None = None
    is_closed: bool = False
    watch_error: Exception | None = None

    def watch(self, *regions: Region) -> None:
        if self.watch_error is not None:
            raise self.watch_error
        self.regions = regions

    def request_whole_screen(self) -> None:
        self.log.append("whole screen")
        self.ahead.append(None)

    def wait_frame(self, *, newer_than: int, until_s: float, not_before_s: float = 0.0) -> bool:
        if not self.ahead:
            return False
        mark = self.ahead.pop(0)
        number = 1 if self.newest is None else self.newest.number + 1
        pictures = [np.full((r.height, r.width, 4), 9, np.uint8) for r in self.regions]
        if mark is not None and len(pictures) > 1:
            strip: UInt8Array = np.zeros((8, 352, 3), np.uint8)
            timing.paint(strip, 0, 0, mark)
            pictures[1][:, :, :3] = strip
        self.newest = Snapshot(tuple(pictures), time.monotonic(), number)
        return True

    def take(self) -> Snapshot | None:
        return self.newest

    def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeRewarder:
    manifest: dict[str, Any] | None = None
    clock_skew_s: tuple[float, float] | None = (0.0, 0.0)
    lost: RaygymError | None = None
    last_message_s: float = field(default_factory=time.monotonic)
    is_closed: bool = False
    reset_error: Exception | None = None
    asked: list[tuple[str, int | None, float]] = field(default_factory=list)

    def reset(self, env_id: str, *, seed: int | None, fps: float, timeout_s: float) -> str:
        self.asked.append((env_id, seed, fps))
        if self.reset_error is not None:
            raise self.reset_error
        return "4"

    def close(self) -> None:
        self.is_closed = True


def connect(vnc: FakeVnc, rewarder: FakeRewarder | None, **settings: Any) -> Connection:
    connection = Connection(REMOTE, SPEC, vnc, rewarder, **settings)  # type: ignore[arg-type]
    connection.watch()
    return connection


def with_strip() -> FakeRewarder:
    return FakeRewarder(manifest={"timing_strip": STRIP})


def test_it_watches_the_region_and_the_strip_that_was_promised() -> None:
    vnc = FakeVnc()
    connect(vnc, with_strip())
    assert vnc.regions == (SPEC.region, Region(10, 5, 352, 8))


@pytest.mark.parametrize(
    "rewarder", [None, FakeRewarder(), FakeRewarder(manifest={"timing_strip": None})]
)
def test_without_a_promise_it_watches_the_region_alone(rewarder: FakeRewarder | None) -> None:
    vnc = FakeVnc()
    assert not connect(vnc, rewarder).has_strip
    assert vnc.regions == (SPEC.region,)


def test_a_view_holds_the_region_and_what_the_strip_says() -> None:
    mark = TimingMark(now_ms(), 123, 4)
    vnc = FakeVnc(ahead=[mark])
    connection = connect(vnc, with_strip())
    assert connection.view() is None
    connection.wait_frame(newer_than=0, until_s=0.0)
    view = connection.view()
    assert view is not None
    assert view.mark == mark
    assert view.picture.shape == (3, 4, 4)


def test_a_fresh_view_is_one_that_was_painted_after_the_call() -> None:
    old = TimingMark((now_ms() - 500) % 2**32, 0, 0)
    new = TimingMark((now_ms() + 500) % 2**32, 0, 0)
    connection = connect(FakeVnc(ahead=[old, old, new]), with_strip())
    assert connection.await_fresh_view(timeout_s=1).mark == new


@pytest.mark.parametrize("skew_s", [3.0, -3.0])
def test_the_skew_of_the_clocks_is_taken_out_of_fresh(skew_s: float) -> None:
    remote_ms = now_ms() + round(skew_s * 1000)
    old = TimingMark((remote_ms - 500) % 2**32, 0, 0)
    new = TimingMark((remote_ms + 500) % 2**32, 0, 0)
    rewarder = with_strip()
    rewarder.clock_skew_s = (skew_s - 0.001, skew_s + 0.001)
    connection = connect(FakeVnc(ahead=[old, new]), rewarder)
    assert connection.await_fresh_view(timeout_s=1).mark == new
    assert connection.skew_s == pytest.approx(skew_s)


def test_without_a_strip_a_whole_new_screen_is_fresh() -> None:
    vnc = FakeVnc()
    assert connect(vnc, None).await_fresh_view(timeout_s=1).number == 1
    assert vnc.log == ["whole screen"]


def test_a_strip_that_cannot_be_read_is_told() -> None:
    connection = connect(FakeVnc(ahead=[None, None]), with_strip())
    with pytest.raises(FrameTimeout, match="2 frames came whose timing strip could not be read"):
        connection.await_fresh_view(timeout_s=1)


def test_a_loss_is_told_in_the_words_of_its_session() -> None:
    vnc, rewarder = FakeVnc(), with_strip()
    connection = connect(vnc, rewarder)
    assert connection.lost_reason() is None
    rewarder.lost = SessionLost("rewarder gone")
    assert connection.lost_reason() == "rewarder gone"
    vnc.lost = SessionLost("screen gone")
    assert connection.lost_reason() == "screen gone"


def test_silence_is_a_loss() -> None:
    vnc, rewarder = FakeVnc(), with_strip()
    connection = connect(vnc, rewarder, silence_timeout_s=2.0)
    vnc.last_arrival_s -= 3
    assert connection.lost_reason() == "no frame for 3.0 s"
    rewarder.last_message_s -= 3
    assert connection.lost_reason() == "no message on the reward channel for 3.0 s"


def test_a_screen_that_promised_no_strip_may_stand_still() -> None:
    vnc = FakeVnc()
    vnc.last_arrival_s -= 1000
    assert connect(vnc, FakeRewarder()).lost_reason() is None


def test_a_screen_alone_has_no_episodes_and_no_rewards() -> None:
    connection = connect(FakeVnc(), None)
    assert connection.reset(seed=1, timeout_s=1) is None
    assert connection.await_episode(after="0", timeout_s=1) is None
    assert connection.pop() is None
    assert connection.skew_s is None


def test_closing_closes_both_sessions() -> None:
    vnc, rewarder = FakeVnc(), with_strip()
    connect(vnc, rewarder).close()
    assert vnc.is_closed
    assert rewarder.is_closed


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeVnc, FakeRewarder]:
    """Puts fakes in the place of both sessions."""
    vnc, rewarder = FakeVnc(), with_strip()
    vnc.ahead.append(TimingMark((now_ms() + 60_000) % 2**32, 0, 0))
    home = "raygym.remote_env.readiness"
    monkeypatch.setattr(f"{home}.VncSession", lambda *_, **__: vnc)
    monkeypatch.setattr(f"{home}.RewarderSession", lambda *_, **__: rewarder)
    return vnc, rewarder


def ready(remote: Remote = REMOTE, **settings: Any):  # type: ignore[no-untyped-def]
    return make_ready(remote, SPEC, seed=5, options=None, timeout_s=1, **settings)


def test_ready_means_connected_reset_and_seen(sessions: tuple[FakeVnc, FakeRewarder]) -> None:
    result = ready()
    assert result.episode_id == "4"
    assert result.view.number == 1
    assert sessions[1].asked == [(SPEC.id, 5, SPEC.fps)]
    assert not sessions[0].is_closed


def test_an_error_names_the_layer_ends_with_the_log_and_closes_everything(
    sessions: tuple[FakeVnc, FakeRewarder],
) -> None:
    sessions[1].reset_error = SessionLost("the game crashed")
    with pytest.raises(RemoteFailedToStart) as caught:
        ready(log_tail=lambda: "chromium: out of memory")
    message = str(caught.value)
    assert "reset failed" in message
    assert "the game crashed" in message
    assert message.endswith("Its log ends:\nchromium: out of memory")
    assert caught.value.layer == "reset"
    assert sessions[0].is_closed
    assert sessions[1].is_closed


def test_a_first_picture_that_is_missing_or_too_small_is_named(
    sessions: tuple[FakeVnc, FakeRewarder],
) -> None:
    sessions[0].ahead.clear()
    with pytest.raises(RemoteFailedToStart, match="first picture failed"):
        ready()
    sessions[0].watch_error = SessionLost("the screen is 1x1")
    with pytest.raises(RemoteFailedToStart, match=r"first picture failed.*1x1"):
        ready()


def test_layers_that_refuse_are_named(
    sessions: tuple[FakeVnc, FakeRewarder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise HandshakeRefused("wrong password")

    home = "raygym.remote_env.readiness"
    monkeypatch.setattr(f"{home}.RewarderSession", refuse)
    with pytest.raises(RemoteFailedToStart, match=r"describe failed.*wrong password"):
        ready()
    assert sessions[0].is_closed
    monkeypatch.setattr(f"{home}.VncSession", refuse)
    with pytest.raises(RemoteFailedToStart, match=r"RFB handshake failed.*wrong password"):
        ready()


def test_a_remote_without_a_screen_is_a_mistake_of_the_caller() -> None:
    blind = Remote(id="r-2", runtime="", vnc=None, rewarder=REMOTE.rewarder)
    with pytest.raises(ConfigError, match="has none"):
        ready(blind)
