"""A person looks in: TigerVNC's viewer shows what a remote shows while an agent plays."""

from __future__ import annotations

import time

import pytest

import raygym
from raygym.catalog import load_catalog
from raygym.remote_env.process_backend import ProcessBackend
from raygym.runtimes.catch import TIMING_STRIP_PX as CATCH_STRIP_PX
from raygym.runtimes.flashgames.task import TIMING_STRIP_PX as FLASH_STRIP_PX
from raygym.wire import timing
from tests.support.viewer import viewers
from tests.support.xvnc import running_xvnc


@pytest.fixture
def open_viewer(tmp_path):
    """Returns a function that opens a viewer on a remote's directory, full screen."""
    with viewers(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("env_id", "place"),
    [("flashgames.NeonRace-v0", FLASH_STRIP_PX), ("test.Catch-v0", CATCH_STRIP_PX)],
    ids=["Xvnc", "our own server"],
)
def test_tigervnc_s_viewer_shows_the_game_while_an_agent_plays(
    tmp_path, open_viewer, env_id, place
):
    catalog = load_catalog()
    spec = catalog.env(env_id)
    size_px = catalog.runtime(spec.runtime).screen_px
    backend = ProcessBackend()
    try:
        env = raygym.make(env_id, backend=backend, render_mode="rgb_array")
        env.reset(seed=1)
        desk_dir = tmp_path / "desk"
        desk_dir.mkdir()
        with running_xvnc(desk_dir, password="desk", width=size_px[0], height=size_px[1]) as xvnc:
            directory = backend.directory(env.remote_id)
            desk = open_viewer(directory, size_px, xvnc.display, xvnc.path)
            before = desk.marks(place, count=1)
            for _ in range(round(spec.fps)):
                *_, terminated, truncated, _ = env.step(env.action_space.sample())
                if terminated or truncated:
                    env.reset()
            after = desk.marks(place, count=2)

        ages = [timing.age_ms(time.time(), mark.painted_at_ms) for mark in (*before, *after)]
        assert ages[-1] < ages[0], "the picture in the viewer goes on"
        assert after[-1].input_count != before[0].input_count, "the agent's keys are seen to arrive"
        env.close()
    finally:
        backend.close()
