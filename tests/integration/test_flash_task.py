"""The Flash games' Task on a real Xvnc with a real Chromium, without a Host around it."""

from __future__ import annotations

import functools
import os
import queue
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raygym.catalog import load_catalog
from raygym.core import Secret
from raygym.remote_env.controls import KeyInput, PointerInput
from raygym.remote_env.vnc_session import VncSession
from raygym.runtimes.flashgames.task import TIMING_STRIP_PX, FlashTask
from raygym.runtimes.processes import usage
from raygym.runtimes.xvnc_screen import XvncScreen
from raygym.wire import timing
from raygym.wire.keysyms import keysym
from tests.support.loop_thread import LoopThread
from tests.support.own_games import add_game, compile_swf, write_avm1_swf

NEON = "flashgames.NeonRace-v0"
DUSK = "flashgames.DuskDrive-v0"
GAME = np.s_[84 : 84 + 480, 18 : 18 + 640]


@dataclass
class Told:
    reward: float
    is_done: bool
    info: Mapping[str, Any]


@dataclass
class Recorder:
    """A Host's Reports that keeps everything."""

    told: queue.Queue[Told] = field(default_factory=queue.Queue)
    failures: queue.Queue[tuple[str, str]] = field(default_factory=queue.Queue)

    def reward(
        self, reward: float, *, done: bool = False, info: Mapping[str, Any] | None = None
    ) -> None:
        self.told.put(Told(reward, done, info or {}))

    def text(self, text: Any) -> None:
        raise AssertionError(f"no text was expected, got {text!r}")

    def failed(self, reason: str, detail: str) -> None:
        self.failures.put((reason, detail))


class Remote:
    """One Task on one screen, with one who looks at it."""

    def __init__(self, directory: Path, games_dir: Path) -> None:
        self.directory = directory
        self.reports = Recorder()
        self._loop = LoopThread()
        self.catalog = load_catalog([games_dir])
        self.run = self._loop.run
        self.run(self._start())
        self.session = VncSession(self._endpoint, password=Secret("secret12"))

    async def _start(self) -> None:
        self.screen = XvncScreen(self.directory, width_px=1024, height_px=768, password="secret12")
        self._endpoint = await self.screen.start()
        self.task = FlashTask(self.screen, directory=self.directory, catalog=self.catalog)
        await self.task.start(self.reports)

    def reset(self, env_id: str, seed: int | None = None) -> None:
        self.reports.told.queue.clear()
        self.reports.failures.queue.clear()
        self.run(self.task.reset(env_id, seed=seed, fps=25.0))

    def next(self, is_wanted: Callable[[Told], bool] = lambda told: True, s: float = 5.0) -> Told:
        """Returns the next report that is wanted; drops those before it."""
        deadline = time.monotonic() + s
        while not is_wanted(told := self.reports.told.get(timeout=deadline - time.monotonic())):
            pass
        return told

    def state(self) -> Mapping[str, float]:
        return self.next(lambda told: "game_state" in told.info).info["game_state"]

    def press(self, name: str, is_down: bool | None = None) -> None:
        downs = (True, False) if is_down is None else (is_down,)
        self.session.send([KeyInput(keysym(name), down) for down in downs])

    def frame(self, is_wanted: Callable[[np.ndarray], bool] = lambda pixels: True) -> np.ndarray:
        """Returns a whole screen, uint8[H, W, 3], newer than this call, that is wanted."""
        deadline = time.monotonic() + 5
        asked_s = time.monotonic()
        while self.session.wait_frame(not_before_s=asked_s, until_s=deadline):
            frame = self.session.read_frame()
            if is_wanted(frame.pixels):
                return frame.pixels.copy()
            asked_s = np.nextafter(frame.arrived_s, np.inf)
        raise AssertionError("the screen never looked as wanted")

    def close(self) -> None:
        self.session.close()
        self.run(self.task.close())
        self.run(self.screen.close())
        self._loop.close()


@pytest.fixture(scope="module")
def remote(tmp_path_factory) -> Iterator[Remote]:
    games_dir = tmp_path_factory.mktemp("games")
    keys = 'keys: ["", "a"]\n'
    asked = add_game(
        games_dir,
        "Asked",
        f"{keys}swf: Asked.swf\nscore: {{source: poll, name: getScore, over: isOver}}",
    )
    compile_swf("Asked", asked)
    menu = add_game(
        games_dir,
        "Menu",
        f"{keys}swf: Menu.swf\nscore: {{source: call, name: game.scored}}\nstart_keys: enter",
    )
    compile_swf("Menu", menu)
    heard = add_game(
        games_dir,
        "Keys",
        f"{keys}swf: Keys.swf\nscore: {{source: call, name: heard}}",
    )
    compile_swf("Keys", heard)
    old = add_game(games_dir, "Old", f"{keys}swf: old one.swf\nmax_episode_s: 2")
    write_avm1_swf(old / "old one.swf", (200, 30, 60))
    with tempfile.TemporaryDirectory(prefix="rg-") as directory:
        it = Remote(Path(directory), games_dir)
        try:
            yield it
        finally:
            groups = (it.screen.pid, it.task.browser_pid)
            it.close()
            assert usage(*groups).pids == ()
            assert list(Path(directory).iterdir()) == []


def mark_of(pixels: np.ndarray) -> timing.TimingMark | None:
    return timing.read(pixels, *TIMING_STRIP_PX)


def test_a_game_shows_at_universes_place_in_a_screen_that_is_otherwise_still(remote):
    remote.reset(NEON, seed=3)
    remote.next()
    first = remote.frame()
    then = remote.frame(lambda pixels: bool((pixels[GAME] != first[GAME]).any()))
    changed = (first != then).any(axis=-1)
    changed[GAME] = False
    changed[752:760, 18:370] = False
    assert not changed.any()
    assert first[GAME].std() > 20
    assert first[20:40, 18:160].max() > 200, "the game's title stands above it"


def test_the_strip_tells_when_the_picture_was_painted(remote):
    remote.reset(NEON)
    mark = mark_of(remote.frame())
    assert mark is not None
    assert 0 <= timing.age_ms(time.time(), mark.painted_at_ms) < 2000
    assert mark.input_at_ms != 0


def test_a_key_over_vnc_reaches_the_game_and_drives_it_to_rewards(remote):
    remote.reset(NEON, seed=3)
    remote.press("up", True)
    told = remote.next(lambda told: told.reward > 0, s=10)
    remote.press("up", False)
    assert told.info["game_state"]["speed"] > 0
    assert abs(told.info["rewarder.lag.observation.timestamp"] - time.time()) < 5


def test_the_strip_tells_when_the_last_key_came(remote):
    remote.reset(NEON)
    for _ in range(2):
        sent_at_s = time.time()
        remote.press("x")
        mark = mark_of(remote.frame(functools.partial(has_seen_input_since, sent_at_s)))
        assert timing.age_ms(time.time(), mark.input_at_ms) >= -1


def has_seen_input_since(unix_s: float, pixels: np.ndarray) -> bool:
    return timing.age_ms(unix_s, mark_of(pixels).input_at_ms) < 1


def test_the_probe_key_moves_the_strip_but_does_not_reach_the_game(remote):
    remote.reset("flashgames.Keys-v0")
    before = mark_of(remote.frame())
    remote.press("`")
    remote.press("b")
    assert remote.next(lambda told: told.reward != 0).reward == 66, "the key code of B"
    remote.frame(lambda p: (mark_of(p).input_count - before.input_count) % 256 == 4)


def test_episodes_of_one_seed_are_alike_frame_by_frame_and_those_of_another_are_not(remote):
    plays = []
    for seed in (5, 5, 6):
        remote.reset(NEON, seed=seed)
        assert remote.next().info["seed"] == seed
        states = [remote.state() for _ in range(20)]
        plays.append({state["frame"]: state for state in states})
    first, again, other = plays
    frames = first.keys() & again.keys() & other.keys()
    assert len(frames) >= 5
    assert [first[i] for i in frames] == [again[i] for i in frames]
    assert all(first[i] != other[i] for i in frames)


def test_without_a_seed_one_is_drawn_and_told(remote):
    seeds = set()
    for _ in range(2):
        remote.reset(NEON)
        seeds.add(remote.next().info["seed"])
    assert len(seeds) == 2


def test_another_game_of_the_runtime_plays_in_the_same_browser(remote):
    remote.reset(NEON)
    pid = remote.task.browser_pid
    neon = remote.frame()
    remote.reset(DUSK, seed=1)
    assert remote.next().info["seed"] == 1
    dusk = remote.frame()
    assert remote.task.browser_pid == pid
    assert (neon[20:40, 18:160] != dusk[20:40, 18:160]).any(), "the title is another one"
    frame = remote.state()["frame"]
    assert remote.state()["frame"] > frame


def test_keys_held_at_a_reset_are_forgotten_until_they_are_pressed_anew(remote):
    remote.reset(NEON, seed=3)
    remote.press("up", True)
    remote.next(lambda told: told.info.get("game_state", {}).get("speed", 0) > 0)
    remote.reset(NEON, seed=3)
    remote.next(lambda told: told.info["game_state"]["frame"] >= 20)
    assert remote.state()["speed"] == 0
    remote.press("up", False)
    remote.press("up", True)
    remote.next(lambda told: told.info["game_state"]["speed"] > 0)
    remote.press("up", False)


def test_a_game_that_is_asked_gives_rewards_from_its_first_score_on_and_ends(remote):
    remote.reset("flashgames.Asked-v0", seed=1)
    pixels = remote.frame(lambda p: tuple(p[184, 178]) == (0x20, 0x40, 0x60))
    assert tuple(pixels[84, 18]) == (0x20, 0x40, 0x60)
    assert tuple(pixels[84, 18 + 320]) != (0x20, 0x40, 0x60)
    for number in (1, 2, 3):
        remote.press("a")
        told = remote.next(lambda told: told.reward != 0)
        assert (told.reward, told.is_done) == (2.0, number == 3)
    assert "seed" not in told.info


def test_a_game_without_a_reset_callback_starts_anew_by_loading(remote):
    remote.reset("flashgames.Asked-v0")
    remote.press("a")
    remote.next(lambda told: told.reward == 2)
    remote.reset("flashgames.Asked-v0")
    for number in (1, 2, 3):
        remote.press("a")
        assert remote.next(lambda told: told.reward != 0).is_done == (number == 3)


def test_a_menu_is_left_by_the_start_keys_and_a_score_may_come_now_and_then(remote):
    for _ in range(2):
        remote.reset("flashgames.Menu-v0")
        for _ in range(2):
            remote.press("a")
            assert remote.next(lambda told: told.reward != 0).reward == 5.0


def test_an_old_flash_file_shows_and_ends_at_its_time_limit(remote):
    remote.reset("flashgames.Old-v0")
    began_s = time.monotonic()
    remote.frame(lambda p: tuple(p[184, 178]) == (200, 30, 60))
    told = remote.next(lambda told: told.is_done)
    assert told.info["truncated"] is True
    assert told.info["reason"] == "time_limit"
    assert 1.5 < time.monotonic() - began_s < 4


def test_the_pointer_reaches_the_page_and_is_not_painted(remote):
    remote.reset("flashgames.Old-v0")
    before = remote.frame(lambda p: tuple(p[184, 178]) == (200, 30, 60))
    remote.session.send([PointerInput(178, 184, 0)])
    after = remote.frame(lambda p: mark_of(p).input_count != mark_of(before).input_count)
    assert (before[160:210, 150:210] == after[160:210, 150:210]).all()


def renderers(remote: Remote) -> list[int]:
    found = []
    for pid in usage(remote.task.browser_pid).pids:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"--type=renderer" in arguments and b"top-chrome" not in arguments:
            found.append(pid)
    return found


def break_and_mend(remote: Remote, signals: dict[int, signal.Signals]) -> tuple[str, str]:
    """Sends signals and mends the Task as a Host does; returns what it said."""
    remote.reset(NEON, seed=3)
    remote.next()
    group = remote.task.browser_pid
    began_s = time.monotonic()
    for pid, number in signals.items():
        os.kill(pid, number)
    failure = remote.reports.failures.get(timeout=60)
    remote.reset(NEON, seed=4)
    assert remote.next().info["seed"] == 4
    assert time.monotonic() - began_s < 10
    assert usage(group).pids == ()
    return failure


def test_a_killed_browser_is_told_in_time_and_the_next_reset_brings_a_new_one(remote):
    failure = break_and_mend(remote, {remote.task.browser_pid: signal.SIGKILL})
    assert failure[0] == "browser_crashed"
    assert "exit code -9" in failure[1]


def test_a_killed_page_process_is_told_in_time_and_mended(remote):
    failure = break_and_mend(remote, dict.fromkeys(renderers(remote), signal.SIGKILL))
    assert failure[0] == "browser_crashed"


def test_a_stopped_page_process_is_told_in_time_and_mended(remote):
    failure = break_and_mend(remote, dict.fromkeys(renderers(remote), signal.SIGSTOP))
    assert failure[0] == "browser_hung"


def test_a_browser_that_dies_during_a_reset_is_replaced_within_it(remote):
    remote.reset(NEON, seed=3)
    os.kill(remote.task.browser_pid, signal.SIGKILL)
    remote.reset(NEON, seed=8)
    assert remote.next().info["seed"] == 8


def test_a_closed_page_counts_as_a_crash(remote):
    remote.reset(NEON, seed=3)
    remote.next()
    remote.session.send([KeyInput(keysym("alt"), True), KeyInput(keysym("f4"), True)])
    remote.session.send([KeyInput(keysym("f4"), False), KeyInput(keysym("alt"), False)])
    remote.reset(NEON, seed=9)
    assert remote.next().info["seed"] == 9
