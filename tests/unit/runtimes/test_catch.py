from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raygym.catalog import Catalog, load_catalog
from raygym.errors import ConfigError
from raygym.runtimes import catch
from raygym.runtimes.catch import ENV_ID, SIZE_PX, TIMING_STRIP_PX, CatchGame, CatchTask
from raygym.runtimes.painted_screen import PaintedScreen
from raygym.wire import timing
from raygym.wire.keysyms import keysym
from raygym.wire.rfb_server import KeyEvent

SEEDS = st.integers(0, 2**31 - 1)
TICKS = 18
PADDLE_WIDTH_PX = catch._PADDLE_PX[0]


def follow(game: CatchGame) -> int:
    state = game.state()
    distance = state["ball_x"] - state["paddle_x"]
    return (distance > 2) - (distance < -2)


def play(game: CatchGame, policy: Callable[[CatchGame], Any]) -> list[float]:
    rewards = []
    while not game.is_over:
        rewards.append(game.tick(policy(game)))
    return rewards


@given(SEEDS)
def test_every_ball_can_be_caught(seed):
    assert play(CatchGame(seed), follow) == [0.0] * (TICKS - 1) + [1.0]


@given(SEEDS, st.lists(st.sampled_from([-1, 0, 1]), min_size=TICKS, max_size=TICKS))
def test_an_episode_ends_with_one_reward_whatever_is_played(seed, directions):
    game = CatchGame(seed)
    rewards = []
    for direction in directions:
        assert not game.is_over
        rewards.append(game.tick(direction))
        assert 0 <= game.paddle_x <= SIZE_PX - PADDLE_WIDTH_PX
    assert game.is_over
    assert rewards[:-1] == [0.0] * (TICKS - 1)
    assert abs(rewards[-1]) == 1.0
    assert game.tick(1) == 0.0


def test_the_seed_decides_where_the_ball_falls():
    balls = [CatchGame(seed).ball_x for seed in range(200)]
    assert balls == [CatchGame(seed).ball_x for seed in range(200)]
    assert len(set(balls)) > 40
    assert (min(balls), max(balls)) == (0, SIZE_PX - 8)


@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_holding_one_key_misses_more_often_than_not(direction):
    scores = [play(CatchGame(seed), lambda _: direction)[-1] for seed in range(300)]
    assert np.mean(scores) < 0.0


def test_the_picture_shows_ball_and_paddle_and_nothing_else():
    game = CatchGame(1)
    game.tick(1)
    pixels = np.full((SIZE_PX, SIZE_PX, 3), 7, np.uint8)
    game.paint(pixels)
    expected = np.zeros_like(pixels)
    expected[4:12, game.ball_x : game.ball_x + 8] = 255
    left_px = (SIZE_PX - PADDLE_WIDTH_PX) // 2 + 4
    expected[78:, left_px : left_px + PADDLE_WIDTH_PX] = 255
    np.testing.assert_array_equal(pixels, expected)


class Reports:
    """Notes what a task reports."""

    def __init__(self) -> None:
        self.rewards: list[tuple[float, bool, dict[str, Any]]] = []
        self.failures: list[tuple[str, str]] = []
        self.is_done = asyncio.Event()

    def reward(self, reward: float, *, done: bool = False, info: Any = None) -> None:
        self.rewards.append((reward, done, dict(info or {})))
        if done:
            self.is_done.set()

    def text(self, text: Any) -> None:
        raise AssertionError(text)

    def failed(self, reason: str, detail: str) -> None:
        self.failures.append((reason, detail))
        self.is_done.set()


def fast_catalog(fps: float = 1000) -> Catalog:
    catalog = load_catalog([])
    spec = dataclasses.replace(catalog.env(ENV_ID), fps=fps)
    return dataclasses.replace(catalog, other_envs={ENV_ID: spec})


class Table:
    """A task on a screen that nobody looks at; keeps what was painted."""

    def __init__(self, directory: Path, fps: float = 1000) -> None:
        self.frames: list[np.ndarray] = []
        self.screen = PaintedScreen(directory, width_px=384, height_px=96, password="x")
        self.screen.paint = lambda pixels: self.frames.append(pixels.copy())  # type: ignore[method-assign]
        self.reports = Reports()
        self.now_s = 1_700_000_000.0
        self.task = CatchTask(self.screen, catalog=fast_catalog(fps), unix_time=lambda: self.now_s)

    async def begin(self, seed: int | None = 3) -> None:
        await self.task.start(self.reports)
        await self.task.reset(ENV_ID, seed=seed, fps=50)

    async def play(self, seed: int | None = 3) -> list[tuple[float, bool, dict[str, Any]]]:
        self.reports.rewards.clear()
        self.reports.is_done.clear()
        await self.begin(seed)
        await asyncio.wait_for(self.reports.is_done.wait(), 5)
        return list(self.reports.rewards)

    def key(self, name: str, is_down: bool) -> None:
        self.screen.on_key(KeyEvent(keysym(name), is_down))

    def mark(self) -> timing.TimingMark:
        mark = timing.read(self.frames[-1], *TIMING_STRIP_PX)
        assert mark is not None
        return mark


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 10))


def test_an_episode_reports_its_seed_first_and_the_state_at_each_frame(tmp_path):
    rewards = run(Table(tmp_path).play(seed=3))
    assert len(rewards) == TICKS
    assert [done for _, done, _ in rewards] == [False] * (TICKS - 1) + [True]
    assert [info.get("seed") for _, _, info in rewards] == [3] + [None] * (TICKS - 1)
    states = [info["game_state"] for _, _, info in rewards]
    assert states[0] == {"ball_x": CatchGame(3).ball_x + 4, "ball_y": 4.0, "paddle_x": 42.0}
    assert [s["ball_y"] for s in states] == [4.0 * n for n in range(1, TICKS + 1)]


def test_the_same_seed_falls_in_the_same_place_and_no_seed_is_told(tmp_path):
    async def both() -> None:
        table = Table(tmp_path)
        first, second = await table.play(seed=11), await table.play(seed=11)
        assert first == second
        drawn = await table.play(seed=None)
        assert drawn == await table.play(seed=drawn[0][2]["seed"])

    run(both())


def test_it_shows_every_state_the_last_included(tmp_path):
    table = Table(tmp_path)
    run(table.play())
    assert len(table.frames) == TICKS + 1
    last = table.frames[-1][:SIZE_PX, :SIZE_PX]
    assert last[72:80].any(axis=(1, 2)).all()


def test_keys_held_move_the_paddle_until_they_are_released(tmp_path):
    async def steer() -> list[float]:
        table = Table(tmp_path)
        await table.begin()
        table.key("ArrowRight", True)
        await asyncio.wait_for(table.reports.is_done.wait(), 5)
        return [info["game_state"]["paddle_x"] for _, _, info in table.reports.rewards]

    rightmost = SIZE_PX - PADDLE_WIDTH_PX / 2
    assert run(steer()) == [min(42.0 + 4 * n, rightmost) for n in range(1, TICKS + 1)]


def test_both_keys_at_once_cancel_out(tmp_path):
    async def steer() -> None:
        table = Table(tmp_path)
        await table.begin()
        table.key("ArrowRight", True)
        table.key("ArrowLeft", True)
        await asyncio.wait_for(table.reports.is_done.wait(), 5)
        assert {i["game_state"]["paddle_x"] for _, _, i in table.reports.rewards} == {42.0}

    run(steer())


def test_a_reset_forgets_keys_that_were_held_and_ends_the_ball_before(tmp_path):
    async def steer() -> None:
        table = Table(tmp_path, fps=60)
        await table.begin()
        table.key("ArrowRight", True)
        rewards = await table.play()
        assert {info["game_state"]["paddle_x"] for _, _, info in rewards} == {42.0}
        assert len(rewards) == TICKS

    run(steer())


def test_the_strip_says_when_the_picture_was_painted_and_an_input_came(tmp_path):
    async def press() -> None:
        table = Table(tmp_path, fps=60)
        started_ms = timing.stamp_ms(table.now_s)
        await table.begin()
        await asyncio.sleep(0)
        table.now_s += 1.0
        await asyncio.wait_for(table.reports.is_done.wait(), 5)
        assert started_ms != 0
        assert table.mark() == timing.TimingMark(timing.stamp_ms(table.now_s), started_ms, 0)
        table.now_s += 1.0
        table.key("a", True)
        pressed_ms = timing.stamp_ms(table.now_s)
        table.now_s += 1.0
        await table.play()
        painted_ms = timing.stamp_ms(table.now_s)
        assert table.mark() == timing.TimingMark(painted_ms, pressed_ms, 1)

    run(press())


def test_it_keeps_the_frame_rate_of_the_catalog(tmp_path):
    began_s = time.monotonic()
    run(Table(tmp_path, fps=200).play())
    assert time.monotonic() - began_s >= TICKS / 200


def test_an_unknown_environment_is_refused(tmp_path):
    async def reset() -> None:
        table = Table(tmp_path)
        await table.task.start(table.reports)
        await table.task.reset("test.Throw-v0", seed=None, fps=50)

    with pytest.raises(ConfigError, match=r"unknown environment 'test.Throw-v0'.*test.Catch-v0"):
        run(reset())


def test_a_game_that_breaks_is_reported(tmp_path):
    async def broken() -> Any:
        table = Table(tmp_path)

        def paint(pixels: Any) -> None:
            raise RuntimeError("out of colours")

        table.screen.paint = paint  # type: ignore[method-assign]
        await table.play()
        return table.reports.failures

    assert run(broken()) == [("game_broken", "RuntimeError: out of colours")]


def test_closing_ends_the_game_without_a_report(tmp_path):
    async def close() -> None:
        table = Table(tmp_path, fps=60)
        before = asyncio.all_tasks()
        await table.begin()
        await table.task.close()
        await table.task.close()
        assert asyncio.all_tasks() == before
        assert table.reports.failures == []

    run(close())


def test_the_manifest_names_the_screen_and_where_the_strip_is(tmp_path):
    assert Table(tmp_path).task.manifest == {
        "modes": ["realtime"],
        "screen": [384, 96],
        "timing_strip": [0, 86],
    }
