from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from docker.client import DockerClient

import raygym
from raygym.remote_env.realtime_env import RealtimeEnv

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_runtime"
STAY, LEFT, RIGHT = 0, 1, 2


@pytest.fixture
def env(
    engine: DockerClient, gym_core_image: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RealtimeEnv]:
    engine.images.build(
        path=str(EXAMPLE),
        tag=f"example/wall:{raygym.__version__}",
        buildargs={"BASE": gym_core_image},
        network_mode="host",
        timeout=300,
        rm=True,
        forcerm=True,
    )
    monkeypatch.setenv("RAYGYM_RUNTIMES", str(EXAMPLE))
    env = raygym.make("own.Wall-v0", backend="docker")
    assert isinstance(env, RealtimeEnv)
    yield env
    env.close()


def towards_the_ball(picture: np.ndarray) -> int:
    """Plays by looking: the ball is what is white above the bat's line."""
    is_white = picture[:, :, 0] > 128
    ball, bat = np.flatnonzero(is_white[:228].any(0)), np.flatnonzero(is_white[235])
    if not (ball.size and bat.size):
        return STAY
    off_px = ball.mean() - bat.mean()
    return STAY if abs(off_px) < 10 else RIGHT if off_px > 0 else LEFT


@pytest.mark.timeout(400)
def test_the_example_is_built_and_played_as_docs_own_runtimes_says(env: RealtimeEnv):
    observation, _ = env.reset(seed=1)
    assert observation.shape == (240, 320, 3)
    score = 0.0
    for _ in range(500):
        observation, reward, terminated, truncated, info = env.step(towards_the_ball(observation))
        score += reward
        if score >= 2 or terminated or truncated:
            break
    assert (score >= 2, info["outcome"]) == (True, "ok"), info
