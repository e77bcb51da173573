"""MiniWoB's tasks as whole remotes: real Xvnc and Chromium, in both modes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raygym
from raygym.catalog import load_catalog
from raygym.remote_env.controls import PointerInput
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.rewarder_session import RewarderSession
from raygym.remote_env.vnc_session import VncSession
from raygym.runtimes.wob.miniwob import pages_dir
from tests.support.lockstep import Client, Frames
from tests.support.player import Player, Row
from tests.support.process_tree import all_end, command, descendants
from tests.support.universe_client import UniverseClient

CLICK_TEST = "wob.mini.ClickTest-v0"
ENTER_TEXT = "wob.mini.EnterText-v0"
SPECS = {spec.id: spec for spec in load_catalog([]).envs.values() if spec.runtime == "wob"}
ACTIONS = {names: index for index, names in enumerate(SPECS[CLICK_TEST].actions)}
NOTHING = ACTIONS[()]
BELOW_THE_INSTRUCTION = 52


class Wob:
    """One remote in lock-step."""

    def __init__(self, backend: ProcessBackend) -> None:
        self.backend = backend
        self.remote = backend.start("wob", client_id="test")
        self.pid = backend.pid(self.remote.id)
        self._said = json.loads((backend.directory(self.remote.id) / "ready.json").read_text())

    def play(self, env_id: str, *, frame_skip: int = 1, **fields: Any) -> Player:
        client = Client(Frames(self._said["rpc_socket"], timeout_s=60))
        return Player(client, env_id, frame_skip, fields)

    def renderers(self) -> list[int]:
        return [
            pid
            for pid in descendants(self.pid)
            if "--type=renderer" in (words := " ".join(command(pid))) and "top-chrome" not in words
        ]


@pytest.fixture(scope="module")
def wob() -> Iterator[Wob]:
    backend = ProcessBackend(arguments=("--mode", "lockstep"))
    it = Wob(backend)
    below = descendants(it.pid)
    yield it
    backend.close()
    assert all_end(below)


@pytest.fixture(scope="module")
def realtime() -> Iterator[ProcessBackend]:
    backend = ProcessBackend()
    yield backend
    backend.close()


def button(picture: np.ndarray) -> tuple[int, int]:
    """Returns the middle of what is not white below the instruction."""
    rows, columns = np.nonzero(picture[BELOW_THE_INSTRUCTION:].min(2) < 245)
    return (
        int(columns.min() + columns.max()) // 2,
        int(rows.min() + rows.max()) // 2 + BELOW_THE_INSTRUCTION,
    )


def quoted(info: dict[str, Any]) -> str:
    (text,) = re.findall(r'"(.*)"', info["instruction"])
    return text


def typed(text: str) -> list[int]:
    return [ACTIONS[(letter,)] for letter in text]


def enter(text: str) -> list[int]:
    """Returns the actions that write into a page's first field and press its first button."""
    return [ACTIONS[("tab",)], *typed(text), ACTIONS[("tab",)], ACTIONS[("enter",)]]


# ---- In real time ------------------------------------------------------------------------


def test_click_test_is_solved_with_the_pointer_over_vnc(realtime):
    env = raygym.make(CLICK_TEST, backend=realtime, mode="realtime", actions="events")
    try:
        env.reset(seed=5)
        observation, _, _, _, info = env.step([])
        assert observation.shape == (210, 160, 3)
        assert info["text"] == [{"instruction": "Click the button."}]
        x, y = button(observation)
        region = SPECS[CLICK_TEST].region
        rewards, is_over = [], False
        action = [("PointerEvent", region.x + x, region.y + y, mask) for mask in (0, 1, 0)]
        while not is_over:
            _, reward, is_over, truncated, info = env.step(action)
            action = []
            rewards.append(reward)
        assert not truncated
        assert info["instruction"] == "Click the button."
        assert info["seed"] == 5
        assert info["raw_reward"] == 1
        assert 0 < sum(rewards) < 1
    finally:
        env.close()


def test_enter_text_is_solved_by_typing_over_vnc_and_the_next_episode_begins(realtime):
    env = raygym.make(ENTER_TEXT, backend=realtime, mode="realtime")
    try:
        _, info = env.reset(seed=6)
        _, _, _, _, info = env.step(NOTHING)
        for action in enter(quoted(info)):
            _, reward, is_over, _, info = env.step(action)
        while not is_over:
            _, reward, is_over, _, info = env.step(NOTHING)
        assert info["raw_reward"] == 1
        assert reward > 0
        first = info["seed"]
        env.reset()
        _, _, _, _, info = env.step(NOTHING)
        assert info["seed"] != first
        assert quoted(info)
    finally:
        env.close()


def test_the_same_seed_is_the_same_task_in_both_modes_and_after_another_task(realtime, wob):
    remote = realtime.start("wob", client_id="test")
    session = RewarderSession(remote.rewarder, password=remote.password)
    try:
        for env_id in (ENTER_TEXT, "wob.mini.EmailInbox-v0", ENTER_TEXT):
            session.reset(env_id, seed=11, fps=15, timeout_s=30)
            deadline_s = time.monotonic() + 10
            while "instruction" not in (info := session.pop().info):
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            with wob.play(env_id) as player:
                assert player.reset(11).info["instruction"] == info["instruction"]
        assert set(session.manifest["env_ids"]) == set(SPECS)
    finally:
        session.close()
        realtime.remove(remote.id)


def test_an_observer_of_the_reward_channel_reads_the_instruction_and_the_outcome(realtime):
    env = raygym.make(ENTER_TEXT, backend=realtime, mode="realtime")
    try:
        env.reset(seed=6)
        _, _, _, _, info = env.step(NOTHING)
        remote = next(remote for remote in realtime.list() if remote.id == env.remote_id)
        path = Path(remote.rewarder.path)
        with UniverseClient(path, remote.password.reveal(), observer=True) as observer:
            observer.until("v0.raygym.manifest")
            for action in enter(quoted(info)):
                env.step(action)
            text = observer.until("v0.env.text")["body"]["text"]
            done = observer.until("v0.env.reward")
            assert done["body"]["done"]
            assert text == {"info": f"done! reward={done['body']['reward']}"}
            following = observer.until("v0.env.text")["body"]["text"]
            assert following.keys() == {"instruction"}
    finally:
        env.close()


# ---- In lock-step ------------------------------------------------------------------------


def test_click_test_is_solved_by_the_click_of_a_cell(wob):
    with wob.play(CLICK_TEST) as player:
        row = player.reset(5)
        x, y = button(row.picture)
        end = player.step(ACTIONS[(f"@{x // 10 * 10 + 5},{y // 10 * 10 + 5}",)])
    assert end.terminated
    assert end.reward > 0.9
    assert end.info["raw_reward"] == 1
    assert row.info == {"seed": 5, "instruction": "Click the button."}


def test_enter_text_is_solved_by_typing(wob):
    with wob.play(ENTER_TEXT) as player:
        row = player.reset(6)
        rows = [player.step(action) for action in enter(quoted(row.info))]
    assert [row.is_over for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1].reward > 0
    assert rows[0].info["instruction"] == row.info["instruction"]


def play_keys(player: Player, *keys: str) -> list[Row]:
    return [player.step(ACTIONS[tuple(names.split())]) for names in keys]


def test_text_is_copied_from_one_field_into_another_and_not_into_another_episode(wob):
    with wob.play("wob.mini.CopyPaste-v0") as player:
        player.reset(1)
        rows = play_keys(player, "tab", "ctrl a", "ctrl c", "tab", "ctrl v", "tab", "enter")
        assert rows[-1].info["raw_reward"] == 1
    with wob.play(ENTER_TEXT) as player:
        player.reset(1)
        focused, pasted = play_keys(player, "tab", "ctrl v")
        assert (pasted.picture == focused.picture).all()


def test_a_drag_joins_two_places_and_selects_what_lies_between(wob):
    with wob.play("wob.mini.HighlightText2-v0") as player:
        player.reset(6)
        before = player.step(NOTHING).picture
        rows = [player.step(ACTIONS[names]) for names in (("drag",), ("@5,65",), ("@155,165",))]
    changed = [(row.picture != before).any(2).sum() for row in rows]
    assert changed[:2] == [0, 0]
    assert changed[2] > 500


def test_scrollbars_move_at_once_by_their_arrows_track_and_thumb(wob):
    # Of this list: from (142, 52) to (156, 201), its arrows 15 pixels high, its thumb from 67 on.
    up, track, down = ("@145,55",), ("@145,175",), ("@145,195",)
    with wob.play("wob.mini.EmailInbox-v0") as player:
        player.reset(5)
        top = player.step(NOTHING).picture

        def after(*actions: tuple[str, ...]) -> np.ndarray:
            return [player.step(ACTIONS[names]) for names in actions][-1].picture

        line = after(down)
        assert (line != top).any()
        assert (after(up) == top).all()
        page = after(track)
        assert (page != top).any()
        assert (page != line).any()
        assert (after(up, up) == top).all()
        dragged = after(("drag",), ("@145,85",), ("@145,105",))
        assert (dragged != top).any()
        assert (after(("drag",), ("@145,105",), ("@145,65",)) == top).all()


def test_the_list_of_a_choice_is_seen_and_clicked_in_the_page(wob):
    with wob.play("wob.mini.ChooseList-v0") as player:
        closed = player.reset(5)
        player.step(ACTIONS[("tab",)])
        opened = player.step(ACTIONS[("space",)])
        assert (opened.picture[60:] != closed.picture[60:]).any(2).sum() > 500
        player.step(ACTIONS[("down",)])
        chosen = player.step(ACTIONS[("enter",)])
        assert (chosen.picture[60:] != opened.picture[60:]).any(2).sum() > 500


@pytest.mark.parametrize("name", ["EmailInbox", "UseColorwheel2", "ClickCheckboxes"])
def test_the_same_seeds_and_actions_give_the_same_bytes(wob, name):
    def play(player: Player, steps: int = 50) -> str:
        rng, digest = np.random.default_rng(4), hashlib.blake2b()
        row: Row | None = None
        for step in range(steps):
            action = int(rng.integers(len(ACTIONS)))
            row = player.reset(seed=step) if row is None or row.is_over else player.step(action)
            assert not row.failures
            digest.update(row.content() + row.info["instruction"].encode())
        return digest.hexdigest()

    with wob.play(f"wob.mini.{name}-v0") as player:
        first = play(player)
    with wob.play(f"wob.mini.{name}-v0") as player:
        assert play(player) == first


def test_an_episode_that_times_out_ends_with_minus_one_by_the_clock_of_the_page(wob):
    with wob.play(CLICK_TEST, frame_skip=74) as player:
        player.reset(5)
        rows = [player.step(NOTHING) for _ in range(3)]
    assert [row.terminated for row in rows] == [False, False, True]
    assert not rows[-1].truncated
    assert rows[-1].reward == -1
    assert rows[-1].info["reason"] == "timed out"
    assert [row.reward for row in rows[:-1]] == [0, 0]


def test_a_task_moves_with_its_steps_and_stands_still_between_them(wob):
    def pictures(pause_s: float) -> list[bytes]:
        with wob.play("wob.mini.ChaseCircle-v0", frame_skip=3) as player:
            rows = [player.reset(3)]
            for _ in range(4):
                time.sleep(pause_s)  # not to wait for anything: it is what must not matter
                rows.append(player.step(NOTHING))
        return [row.content() for row in rows]

    first = pictures(0.0)
    assert len(set(first)) == 5
    assert pictures(0.15) == first


def test_without_a_seed_one_is_drawn_and_told_and_plays_the_same_again(wob):
    with wob.play(ENTER_TEXT) as player:
        drawn = player.reset()
        assert player.reset(drawn.info["seed"]).content() == drawn.content()
        assert player.reset().info["seed"] != drawn.info["seed"]


def test_a_viewer_sees_the_task_and_cannot_touch_it(wob):
    session = VncSession(wob.remote.vnc, password=wob.remote.password)
    region = SPECS[CLICK_TEST].region
    try:
        with wob.play(CLICK_TEST) as player:
            picture = player.reset(5).picture
            x, y = button(picture)
            place = (region.x + x, region.y + y)
            session.send([PointerInput(*place, mask) for mask in (0, 1, 0)])
            shown = np.s_[region.y : region.y + region.height, region.x : region.x + region.width]
            deadline_s = time.monotonic() + 10
            while not (session.read_frame(timeout_s=60).pixels[shown] == picture).all():
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            assert not any(player.step(NOTHING).is_over for _ in range(5))
    finally:
        session.close()


def test_small_grey_pictures_are_made_on_the_way(wob):
    small = raygym.ObservationConfig(height_px=84, width_px=84, is_grey=True)
    env = raygym.make(
        CLICK_TEST,
        backend=ProcessBackend(arguments=("--mode", "lockstep")),
        mode="lockstep",
        observation=small,
    )
    try:
        observation, info = env.reset(seed=5)
        assert observation.shape == (84, 84, 1)
        assert info["instruction"]
        assert env.observation_space.contains(observation)
    finally:
        env.close()


def test_a_killed_page_is_a_failure_at_once_and_the_next_reset_brings_another(wob):
    with wob.play(CLICK_TEST) as player:
        before = player.reset(3)
        for pid in wob.renderers():
            os.kill(pid, signal.SIGKILL)
        lost = player.step(NOTHING)
        (failure,) = lost.failures
        assert failure.outcome == "env_failure"
        assert "browser_crashed" in failure.error.message
        assert player.reset(3).content() == before.content()


def test_a_hanging_page_is_told_within_the_deadline_of_a_step_and_mended():
    backend = ProcessBackend(arguments=("--mode", "lockstep", "--step-timeout-s", "1.5"))
    try:
        wob = Wob(backend)
        with wob.play(CLICK_TEST) as player:
            before = player.reset(3)
            for pid in wob.renderers():
                os.kill(pid, signal.SIGSTOP)
            began_s = time.monotonic()
            (failure,) = player.step(NOTHING).failures
            assert failure.outcome == "timeout"
            assert time.monotonic() - began_s < 10
            assert player.reset(3).content() == before.content()
    finally:
        backend.close()


def test_every_task_begins_with_an_instruction_and_without_an_error_of_its_scripts(wob):
    without: list[str] = []
    for env_id in SPECS:
        with wob.play(env_id) as player:
            row = player.reset(1)
            if not row.info.get("instruction") or len(np.unique(row.picture)) < 3:
                without.append(env_id)
    assert not without
    said = wob.backend.log_tail(wob.remote.id, lines=1000)
    assert "page.complains" not in said


def _limit_s(page: str) -> float:
    return int((re.findall(r"EPISODE_MAX_TIME = (\d+);", page) or [10000])[-1]) / 1000


def test_the_catalog_has_all_pages_of_the_package_with_their_time_limits():
    folder = pages_dir() / "miniwob"
    limits = {path.stem: _limit_s(path.read_text()) for path in folder.glob("*.html")}
    assert {spec.page: spec.max_episode_s for spec in SPECS.values()} == limits
