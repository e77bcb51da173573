"""Stand-ins for a Remote and its Connection, driven by the test."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raygym.catalog import EnvSpec, Region
from raygym.config import VncOptions
from raygym.core import Endpoint, Remote
from raygym.errors import RemoteFailedToStart, SessionLost
from raygym.remote_env.connection import View
from raygym.remote_env.controls import Input
from raygym.remote_env.readiness import Ready
from raygym.remote_env.slot import Slot
from raygym.remote_env.slot_config import SlotConfig
from raygym.remote_env.vnc_session import VncStats
from raygym.wire.rewarder_client import RewardBatch
from raygym.wire.timing import TimingMark

SPEC = EnvSpec(
    id="test.Fake-v0",
    runtime="fake",
    title="Fake",
    fps=20,
    region=Region(0, 0, 4, 3),
    actions=((), ("ArrowLeft",), ("ArrowUp", "ArrowLeft")),
    max_episode_s=60,
)


def batch(reward: float = 0.0, *, done: bool = False, count: int = 1, **info: Any) -> RewardBatch:
    return RewardBatch(
        reward=reward,
        done=done,
        info=info,
        count=count,
        episode_id="0",
        texts=[],
        newest_sent_at_s=None,
    )


@dataclass
class FakeConnection:
    """Gives the frames and rewards that a test put into it."""

    log: list[str] = field(default_factory=list)
    batches: deque[RewardBatch] = field(default_factory=deque)
    sent: list[Input] = field(default_factory=list)
    lost: str | None = None
    episode: int = 0
    number: int = 1
    brightness: int = 10
    mark: TimingMark | None = None
    arrived_s: float = 0.0
    reset_error: Exception | None = None
    is_closed: bool = False
    skew_s: float | None = 0.0
    vnc_stats: VncStats = field(default_factory=VncStats)

    def frame(self, brightness: int) -> None:
        self.number += 1
        self.brightness = brightness

    def view(self) -> View:
        pixels = np.full((3, 4, 4), self.brightness, np.uint8)
        return View(pixels, self.mark, self.arrived_s, self.number)

    def await_fresh_view(self, *, timeout_s: float) -> View:
        self.number += 1
        return self.view()

    def wait_frame(self, *, newer_than: int, not_before_s: float = 0.0, until_s: float) -> bool:
        if self.lost:
            raise SessionLost(self.lost)
        return self.number > newer_than

    def send(self, inputs: Iterable[Input]) -> None:
        if self.lost:
            raise SessionLost(self.lost)
        self.sent += inputs

    def pop(self) -> RewardBatch:
        return self.batches.popleft() if self.batches else batch(count=0)

    def reset(self, *, seed: int | None, timeout_s: float) -> str:
        self.log.append(f"reset {seed}")
        if self.reset_error is not None:
            raise self.reset_error
        self.episode += 1
        return str(self.episode)

    def await_episode(self, *, after: str, timeout_s: float) -> str:
        self.log.append(f"await after {after}")
        self.episode += 1
        return str(self.episode)

    def lost_reason(self) -> str | None:
        return self.lost

    def close(self) -> None:
        self.is_closed = True


class FakeRemotes:
    """A Backend and a ``make_ready`` in one; ``connections`` in order of their start."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.running: list[str] = []
        self.released: list[str] = []
        self.taken: set[str] = set()
        self.worn: set[str] = set()
        self.episodes: list[tuple[str, int]] = []
        self.start_errors: deque[Exception] = deque()
        self.ready_errors: deque[Exception] = deque()
        self.on_start: Callable[[], None] = lambda: None
        self.is_closed = False
        self.is_leasing = False
        self.seeds: list[int | None] = []

    def start(self, runtime: str, *, client_id: str) -> Remote:
        self.on_start()
        if self.start_errors:
            raise self.start_errors.popleft()
        remote = Remote(
            id=f"r-{len(self.connections)}",
            runtime=runtime,
            vnc=Endpoint(path="/x/vnc.sock"),
            rewarder=None,
        )
        self.connections.append(FakeConnection())
        self.running.append(remote.id)
        return remote

    def remove(self, remote_id: str) -> None:
        if remote_id in self.running:
            self.running.remove(remote_id)

    def list(self) -> list[Remote]:
        return []

    def release(self, remote_id: str) -> None:
        self.running.remove(remote_id)
        self.released.append(remote_id)

    def holds(self, remote_id: str) -> bool:
        return remote_id not in self.taken

    def lease_id(self, remote_id: str) -> str:
        return f"{remote_id}:7" if self.is_leasing else ""

    def note_episode(self, remote_id: str, steps: int, seconds: float) -> bool:
        self.episodes.append((remote_id, steps))
        return remote_id in self.worn

    def log_tail(self, remote_id: str, *, lines: int = 50) -> str:
        return ""

    def close(self) -> None:
        self.is_closed = True

    def make_ready(
        self,
        remote: Remote,
        spec: EnvSpec,
        *,
        seed: int | None,
        options: VncOptions | None,
        timeout_s: float,
        silence_timeout_s: float = 10.0,
        log_tail: Callable[[], str] = str,
    ) -> Ready:
        if self.ready_errors:
            raise self.ready_errors.popleft()
        self.seeds.append(seed)
        connection = self.connections[int(remote.id.removeprefix("r-"))]
        return Ready(connection, "0", connection.view())  # type: ignore[arg-type]

    def slot(self, **settings: Any) -> Slot:
        config = SlotConfig(spec=SPEC, screen_px=(8, 8), client_id="c", **settings)
        return Slot(
            config,
            self,  # type: ignore[arg-type]
            make_ready=self.make_ready,
            sleep=lambda _: None,
        )


def failed(message: str) -> RemoteFailedToStart:
    return RemoteFailedToStart(message)
