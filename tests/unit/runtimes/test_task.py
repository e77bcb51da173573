"""The Flash task's bookkeeping, with a browser that only plays along."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from raygym.catalog import load_catalog
from raygym.errors import ConfigError
from raygym.runtimes import page_task
from raygym.runtimes.browser import BrowserError, BrowserLoss
from raygym.runtimes.flashgames import task as module
from raygym.runtimes.flashgames.task import FlashTask
from raygym.runtimes.page_task import SEED_MAX

NEON = "flashgames.NeonRace-v0"
DUSK = "flashgames.DuskDrive-v0"


class FakeBrowser:
    """Notes what it is asked to play; fails as often as it is told to."""

    made: list[FakeBrowser]
    failures: int
    is_unable_to_start = False

    def __init__(self, directory, *, environment, size_px, on_message) -> None:
        self.on_message: Callable[[str], None] = on_message
        self.environment = environment
        self.orders: list[dict[str, Any]] = []
        self.is_closed = False
        self.pid = 1000 + len(self.made)
        self._lost: asyncio.Future[BrowserLoss] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    @property
    def loss(self) -> BrowserLoss | None:
        return self._lost.result() if self._lost.done() else None

    async def start(self, url: str) -> None:
        if type(self).is_unable_to_start:
            raise BrowserError("Chromium showed no page within 20 s")

    async def evaluate(self, expression: str, *, timeout_s: float) -> Any:
        if expression == "1":
            return 1
        self.orders.append(json.loads(expression.removeprefix("raygym.play(").removesuffix(")")))
        if type(self).failures < 0:
            await asyncio.sleep(60)
        if type(self).failures:
            type(self).failures -= 1
            raise BrowserError("Runtime.evaluate: no answer within 30 s")
        return {"took_ms": 1.0, "is_reloaded": True}

    async def wait_lost(self) -> BrowserLoss:
        return await asyncio.shield(self._lost)

    def give_up(self, loss: BrowserLoss) -> None:
        if not self._lost.done():
            self._lost.set_result(loss)

    async def close(self) -> None:
        self.is_closed = True
        self.give_up(BrowserLoss("browser_crashed", "it was closed"))

    def frame(self, **fields: Any) -> None:
        """Sends what the page sends at a frame of the last episode."""
        message = {
            "kind": "frame",
            "episode": self.orders[-1]["episode"],
            "at_s": 1.5e9,
            "reward": 0,
            "is_over": False,
            "is_time_up": False,
            "state": None,
        }
        self.on_message(json.dumps(message | fields))


class FakeScreen:
    x_environment = {"DISPLAY": ":7"}  # noqa: RUF012  never changed


class Recorder:
    """Reports that keeps everything."""

    def __init__(self) -> None:
        self.rewards: list[tuple[float, bool, dict[str, Any]]] = []
        self.failures: list[tuple[str, str]] = []

    def reward(self, reward, *, done=False, info=None) -> None:
        self.rewards.append((reward, done, dict(info or {})))

    def failed(self, reason, detail) -> None:
        self.failures.append((reason, detail))


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Runs a scenario with a started task, its reports and the browsers it made."""
    monkeypatch.setattr(page_task, "Browser", FakeBrowser)
    monkeypatch.setattr(module, "ruffle_dir", lambda: tmp_path)
    monkeypatch.setattr(FakeBrowser, "made", [], raising=False)
    monkeypatch.setattr(FakeBrowser, "failures", 0, raising=False)

    def run(scenario) -> None:
        async def main() -> None:
            task = FlashTask(FakeScreen(), directory=tmp_path, catalog=load_catalog([]))
            reports = Recorder()
            try:
                await task.start(reports)
                await scenario(task, reports, FakeBrowser.made)
            finally:
                await task.close()
            assert all(browser.is_closed for browser in FakeBrowser.made)

        asyncio.run(main())

    return run


async def begin(task: FlashTask, env_id: str = NEON, seed: int | None = 5) -> None:
    await task.reset(env_id, seed=seed, fps=25.0)
    await asyncio.sleep(0)


def test_it_tells_what_it_is(play):
    async def scenario(task, reports, browsers):
        assert task.runtime == "flashgames"
        assert set(task.env_ids) >= {NEON, DUSK}
        assert task.manifest == {
            "modes": ["realtime"],
            "screen": [1024, 768],
            "timing_strip": [18, 752],
        }
        assert browsers[0].environment == {"DISPLAY": ":7"}

    play(scenario)


def test_the_page_is_told_all_it_needs(play):
    async def scenario(task, reports, browsers):
        await begin(task, seed=5)
        (order,) = browsers[0].orders
        assert order["swf"].endswith("/flashgames.NeonRace-v0/NeonRace.swf")
        assert (order["width"], order["height"], order["fps"]) == (640, 480, 25.0)
        assert order["score"] == {"source": "call", "name": "raygymScore", "over": ""}
        assert (order["reset"], order["state"], order["seed"]) == ("raygymReset", "raygymState", 5)
        assert sorted(order["keys"]) == ["ArrowDown", "ArrowLeft", "ArrowRight", "ArrowUp", "x"]

    play(scenario)


def test_rewards_pass_with_their_time_and_the_seed_comes_first(play):
    async def scenario(task, reports, browsers):
        await begin(task, seed=5)
        browsers[0].frame(reward=2.5, state={"speed": 1})
        browsers[0].frame(reward=0)
        browsers[0].frame(reward=0, state={"speed": 2})
        first, second = reports.rewards
        lag = {"rewarder.lag.observation.timestamp": 1.5e9}
        assert first == (2.5, False, {"seed": 5, "game_state": {"speed": 1}, **lag})
        assert second == (0, False, {"game_state": {"speed": 2}})

    play(scenario)


def test_after_the_end_nothing_more_is_told_until_the_next_episode(play):
    async def scenario(task, reports, browsers):
        await begin(task)
        browsers[0].frame(reward=1, is_over=True)
        browsers[0].frame(reward=9)
        assert [(reward, done) for reward, done, _ in reports.rewards] == [(1, True)]
        await begin(task)
        browsers[0].frame(reward=3)
        assert reports.rewards[-1][:2] == (3, False)

    play(scenario)


def test_the_time_limit_is_told_as_such(play):
    async def scenario(task, reports, browsers):
        await begin(task)
        browsers[0].frame(is_time_up=True)
        _, done, info = reports.rewards[0]
        assert done
        assert (info["truncated"], info["reason"]) == (True, "time_limit")

    play(scenario)


def test_what_comes_before_the_reset_returns_is_told_after_it(play):
    async def scenario(task, reports, browsers):
        await task.reset(NEON, seed=1, fps=25.0)
        browsers[0].frame(reward=4)
        assert reports.rewards == []
        await asyncio.sleep(0)
        assert [reward for reward, _, _ in reports.rewards] == [4]

    play(scenario)


def test_frames_of_an_earlier_episode_are_dropped(play):
    async def scenario(task, reports, browsers):
        await begin(task)
        late = browsers[0].orders[-1]["episode"]
        await begin(task)
        browsers[0].frame(episode=late, reward=7)
        assert reports.rewards == []

    play(scenario)


def test_a_seed_is_drawn_where_none_is_given_and_a_large_one_is_folded(play):
    async def scenario(task, reports, browsers):
        await begin(task, seed=None)
        browsers[0].frame()
        assert 0 <= reports.rewards[0][2]["seed"] <= SEED_MAX
        await begin(task, seed=2**40 + 3)
        browsers[0].frame()
        assert reports.rewards[1][2]["seed"] == 2**40 + 3
        assert browsers[0].orders[1]["seed"] == 3

    play(scenario)


def test_another_env_id_plays_in_the_same_browser_and_an_unknown_one_is_refused(play):
    async def scenario(task, reports, browsers):
        await begin(task, NEON)
        await begin(task, DUSK)
        assert [order["env_id"] for order in browsers[0].orders] == [NEON, DUSK]
        assert len(browsers) == 1
        with pytest.raises(ConfigError, match=r"Known: .*DuskDrive"):
            await task.reset("flashgames.Nothing-v0", seed=None, fps=25.0)

    play(scenario)


def test_a_lost_browser_is_told_once_and_the_next_reset_starts_another(play):
    async def scenario(task, reports, browsers):
        await begin(task)
        browsers[0].give_up(BrowserLoss("browser_crashed", "gone"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert reports.failures == [("browser_crashed", "gone")]
        await begin(task)
        assert len(browsers) == 2
        assert browsers[0].is_closed
        assert task.browser_pid == browsers[1].pid

    play(scenario)


def test_a_browser_lost_between_episodes_is_nobodys_failure(play):
    async def scenario(task, reports, browsers):
        await begin(task)
        browsers[0].frame(is_over=True)
        browsers[0].give_up(BrowserLoss("browser_crashed", "gone"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert reports.failures == []

    play(scenario)


def test_a_reset_that_fails_is_tried_again_in_a_fresh_browser(play):
    async def scenario(task, reports, browsers):
        FakeBrowser.failures = 1
        await begin(task)
        assert [len(browser.orders) for browser in browsers] == [1, 1]
        assert browsers[0].is_closed

    play(scenario)


def test_a_reset_that_fails_twice_says_so(play):
    async def scenario(task, reports, browsers):
        FakeBrowser.failures = 2
        with pytest.raises(BrowserError, match="no answer"):
            await task.reset(NEON, seed=1, fps=25.0)

    play(scenario)


def test_a_reset_that_is_cancelled_leaves_no_half_loaded_page_behind(play):
    async def scenario(task, reports, browsers):
        FakeBrowser.failures = -1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await task.reset(NEON, seed=1, fps=25.0)
        FakeBrowser.failures = 0
        await begin(task)
        assert len(browsers) == 2

    play(scenario)


def test_a_browser_that_could_not_start_is_replaced_by_the_next_reset(play, monkeypatch):
    async def scenario(task, reports, browsers):
        await begin(task)
        browsers[0].give_up(BrowserLoss("browser_crashed", "gone"))
        monkeypatch.setattr(FakeBrowser, "is_unable_to_start", True)
        with pytest.raises(BrowserError, match="showed no page"):
            await task.reset(NEON, seed=1, fps=25.0)
        monkeypatch.setattr(FakeBrowser, "is_unable_to_start", False)
        await begin(task)
        assert len(browsers[-1].orders) == 1

    play(scenario)


def test_nonsense_from_the_page_is_dropped(play):
    async def scenario(task, reports, browsers):
        await begin(task)
        browsers[0].on_message("{")
        browsers[0].on_message("[]")
        browsers[0].on_message('{"kind": "frame"}')
        browsers[0].frame(reward="much")
        browsers[0].frame(reward=1)
        assert [reward for reward, _, _ in reports.rewards] == [1]

    play(scenario)
