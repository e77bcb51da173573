from __future__ import annotations

import math

import pytest

from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.remote_env.realtime_env import RealtimeEnv
from raygym.remote_env.slot import Slot
from tests.unit.remote_env.fakes import FakeRemotes, batch, failed


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def remotes() -> FakeRemotes:
    return FakeRemotes()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def env(remotes: FakeRemotes, clock: Clock) -> RealtimeEnv:
    return RealtimeEnv(remotes.slot(), fps=10, clock=clock)


def record_waits(slot: Slot, clock: Clock) -> list[tuple[float, float]]:
    """Makes the slot's waits end at once and at their end; returns them as they come."""
    waits: list[tuple[float, float]] = []

    def wait_frame(*, not_before_s: float, until_s: float) -> float:
        waits.append((not_before_s, until_s))
        clock.now_s = until_s
        return until_s

    slot.wait_frame = wait_frame  # type: ignore[method-assign]
    return waits


def test_reset_and_step_return_what_gymnasium_wants(env: RealtimeEnv, remotes: FakeRemotes) -> None:
    observation, info = env.reset(seed=3)
    assert env.observation_space.contains(observation)
    assert info["outcome"] == "ok"
    assert remotes.seeds == [3]
    remotes.connections[0].batches.append(batch(1.5, done=True))
    observation, reward, terminated, truncated, info = env.step(1)
    assert env.observation_space.contains(observation)
    assert (reward, terminated, truncated) == (1.5, True, False)
    assert info["episode_score"] == 1.5


def test_each_step_waits_for_a_frame_around_its_deadline(
    remotes: FakeRemotes, clock: Clock
) -> None:
    slot = remotes.slot()
    env = RealtimeEnv(slot, fps=10, clock=clock)
    waits = record_waits(slot, clock)
    env.reset()
    env.step(0)
    assert waits[0] == (pytest.approx(100.075), pytest.approx(100.15))


def test_the_schedule_starts_anew_with_each_reset(remotes: FakeRemotes, clock: Clock) -> None:
    slot = remotes.slot()
    env = RealtimeEnv(slot, fps=10, clock=clock)
    waits = record_waits(slot, clock)
    env.reset()
    clock.now_s = 500.0
    env.reset()
    env.step(0)
    assert waits[0][1] == pytest.approx(500.15)


def test_a_step_before_a_reset_is_a_mistake(env: RealtimeEnv) -> None:
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)


def test_a_lost_remote_raises_out_of_no_step(env: RealtimeEnv, remotes: FakeRemotes) -> None:
    env.reset()
    remotes.connections[0].lost = "gone"
    *_, terminated, truncated, info = env.step(0)
    assert (terminated, truncated, info["outcome"]) == (False, True, "infra_failure")
    assert (env.remotes_started, env.remotes_lost) == (1, 1)
    env.reset()
    assert env.step(0)[4]["outcome"] == "ok"
    assert env.remote_id == "r-1"


def test_a_reset_that_finds_no_remote_raises(env: RealtimeEnv, remotes: FakeRemotes) -> None:
    remotes.start_errors.extend([failed("x")] * 3)
    with pytest.raises(RemoteFailedToStart):
        env.reset()


def test_rendering_gives_the_whole_region(remotes: FakeRemotes) -> None:
    env = RealtimeEnv(remotes.slot(), fps=10, render_mode="rgb_array")
    env.reset()
    picture = env.render()
    assert picture is not None
    assert picture.shape == (3, 4, 3)
    assert RealtimeEnv(remotes.slot(), fps=10).render() is None


def test_settings_that_make_no_sense_are_refused(remotes: FakeRemotes) -> None:
    with pytest.raises(ConfigError, match="render_mode"):
        RealtimeEnv(remotes.slot(), fps=10, render_mode="human")
    with pytest.raises(ConfigError, match="fps"):
        RealtimeEnv(remotes.slot(), fps=0)


def test_the_frame_rate_of_renderings_is_the_rate_of_steps(remotes: FakeRemotes) -> None:
    assert RealtimeEnv(remotes.slot(), fps=5).metadata["render_fps"] == 5
    assert RealtimeEnv(remotes.slot(), fps=math.inf).metadata["render_fps"] == 20


def test_closing_ends_the_remote_and_the_backend_that_belongs_to_it(remotes: FakeRemotes) -> None:
    env = RealtimeEnv(remotes.slot(), fps=10, backend=remotes)  # type: ignore[arg-type]
    env.reset()
    env.close()
    env.close()
    assert remotes.running == []
    assert remotes.is_closed
