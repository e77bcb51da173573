from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raygym.core import UInt8Array
from raygym.errors import ConfigError
from raygym.runtimes.gym_core.task import BLOCK_X_PX, GymCoreTask
from raygym.runtimes.painted_screen import PaintedScreen
from raygym.wire import pixel_metadata, timing
from raygym.wire.keysyms import keysym
from raygym.wire.rfb_server import KeyEvent
from tests.support import scripted_gym
from tests.support.hosted import PASSWORD, Hosted
from tests.support.scripted_gym import GYM_ID, SIZE_PX, SYNC_ID, ScriptedEnv
from tests.support.universe_client import UniverseClient

ENV_ID, SYNC_ENV_ID = f"gym-core.{GYM_ID}", f"gym-core.{SYNC_ID}"
REWARD = "v0.env.reward"


class Seen(PaintedScreen):
    """A screen that keeps copies of what was painted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, width_px=1024, height_px=768, password=PASSWORD)
        self.pictures: list[UInt8Array] = []

    def paint(self, pixels: UInt8Array) -> None:
        self.pictures.append(pixels[: SIZE_PX[1] + timing.HEIGHT_PX, :400].copy())
        super().paint(pixels)


class Played:
    """A Host of the scripted environment with a client that listens."""

    def __init__(self, directory: Path, env_id: str, **settings: Any) -> None:
        self.screen = Seen(directory)
        self.task = GymCoreTask(self.screen, [env_id], **settings)
        self.hosted = Hosted(directory, self.task, self.screen)  # type: ignore[arg-type]
        self.env_id = env_id
        self.client: UniverseClient = self.hosted.join(timeout_s=20.0)

    def reset(self, seed: int | None = 1, fps: float = 60) -> str:
        return self.client.reset(self.env_id, seed=seed, fps=fps)

    def key(self, name: str | int, *events: bool) -> None:
        code = name if isinstance(name, int) else keysym(name)

        def press() -> None:
            for is_down in events or (True, False):
                self.screen.on_key(KeyEvent(code, is_down))

        self.hosted.call(press)

    def last(self) -> UInt8Array:
        return self.hosted.call(lambda: self.screen.pictures[-1])

    def block(self) -> tuple[int, int]:
        return read_block(self.last())


def read_block(picture: UInt8Array) -> tuple[int, int]:
    found = pixel_metadata.read(picture, BLOCK_X_PX, SIZE_PX[1])
    assert found is not None
    return found


@pytest.fixture
def play() -> Iterator[Any]:
    """Returns a function that hosts the scripted environment."""
    hosts: list[Played] = []
    ScriptedEnv.made.clear()
    ScriptedEnv.may_go_on.clear()

    with tempfile.TemporaryDirectory(prefix="rg-") as name:

        def played(env_id: str = ENV_ID, **settings: Any) -> Played:
            hosts.append(Played(Path(name), env_id, **settings))
            return hosts[-1]

        yield played
        ScriptedEnv.may_go_on.set()
        for host in hosts:
            host.hosted.close()


def test_it_steps_by_itself_and_shows_pictures_with_strip_and_block(play):
    host = play()
    host.reset(seed=11)
    first = host.client.until(REWARD)
    assert first["body"]["info"] == {"seed": 11, "level": 7, "steps": 1}
    assert host.client.until(REWARD)["body"]["info"] == {"steps": 2}
    picture = host.last()
    assert picture[0, 0, 2] == 200
    assert not picture[: SIZE_PX[1], SIZE_PX[0] :].any()
    mark = timing.read(picture, 0, SIZE_PX[1])
    assert mark is not None
    now_ms, probe_at_ms = read_block(picture)
    assert 0 <= (now_ms - mark.painted_at_ms) % 2**32 <= 1
    assert 0 < probe_at_ms <= now_ms
    assert ScriptedEnv.made[-1].seeds == [11]


def test_held_keys_are_actions_until_they_are_released(play):
    host = play()
    host.reset()
    host.key("r", True)
    host.client.until(REWARD, reward=1.5)
    host.client.until(REWARD, reward=1.5)
    host.key("r", False)
    host.client.until(REWARD, reward=0.0)


def test_a_press_shorter_than_a_step_counts_once(play):
    host = play()
    host.reset()
    host.key("r")
    host.client.until(REWARD, reward=1.5)
    assert host.client.until(REWARD)["body"]["reward"] == 0.0


def test_an_end_is_told_and_the_next_episode_begins_by_itself(play):
    host = play()
    episode = int(host.reset())
    host.key("e")
    done = host.client.until(REWARD, done=True)
    assert "truncated" not in done["body"]["info"]
    again = host.client.until("v0.env.describe", env_state="running")
    assert int(again["headers"]["episode_id"]) == episode + 1
    assert len(ScriptedEnv.made) == 1


def test_a_time_limit_is_told_as_truncated(play, monkeypatch):
    monkeypatch.setattr(scripted_gym.gymnasium.registry[GYM_ID], "max_episode_steps", 3)
    host = play()
    host.reset()
    done = host.client.until(REWARD, done=True)
    assert done["body"]["info"]["truncated"] is True
    assert done["body"]["info"]["steps"] == 3


@pytest.mark.parametrize(
    ("key", "reason", "detail"),
    [
        ("x", "env_raised", "ZeroDivisionError: one over nothing"),
        ("q", "env_raised", "SystemExit: 3"),
        ("h", "env_hung", "not done within 0.2 s"),
        ("n", "bad_reward", "nan"),
    ],
)
def test_an_environment_that_breaks_ends_the_episode_and_is_mended(play, key, reason, detail):
    host = play(step_timeout_s=0.2)
    host.reset()
    host.key(key)
    info = host.client.until(REWARD, done=True)["body"]["info"]
    assert (info["outcome"], info["reason"]) == ("env_failure", reason)
    assert detail in info["detail"]
    host.client.until("v0.env.describe", env_state="running")
    host.key("r", True)
    host.client.until(REWARD, reward=1.5)


def test_a_reset_that_raises_is_tried_again_in_a_new_environment(play, monkeypatch):
    host = play()
    host.reset()
    first = ScriptedEnv.made[-1]
    monkeypatch.setattr(first, "reset", lambda **_: 1 / 0)
    host.reset(seed=5)
    assert host.client.until(REWARD)["body"]["info"]["seed"] == 5
    assert ScriptedEnv.made[-1] is not first
    assert first.is_closed


def test_the_client_s_rate_is_the_rate(play):
    host = play()
    host.reset(fps=5)
    began_s = host.client.seen[-1]["headers"]["sent_at"]
    stamps = [host.client.until(REWARD)["headers"]["sent_at"] for _ in range(4)]
    assert stamps[-1] - began_s > 4 / 5 - 0.05


def test_only_a_probe_moves_the_probe_s_time(play):
    host = play()
    host.reset()
    host.client.until(REWARD)
    _, before = host.block()
    host.key("r")
    host.client.until(REWARD, reward=1.5)
    host.client.until(REWARD)
    assert host.block()[1] == before
    host.key(pixel_metadata.PROBE_KEYSYM)
    host.client.until(REWARD)
    host.client.until(REWARD)
    assert host.block()[1] > before


def test_sync_steps_once_for_each_commit_and_only_then(play):
    host = play(SYNC_ENV_ID)
    host.reset()
    with pytest.raises(TimeoutError):
        host.client.next(0.3)
    for step in (1, 2, 3):
        host.key("c")
        message = host.client.next()
        assert message["method"] == REWARD
        assert message["body"]["info"]["steps"] == step
    assert ScriptedEnv.made[-1].steps == 3


def test_sync_paints_the_step_s_picture_with_a_time_past_its_reward(play):
    host = play(SYNC_ENV_ID)
    host.reset()
    host.key("r", True)
    host.key("c")
    sent_at_s = host.client.until(REWARD, reward=1.5)["headers"]["sent_at"]
    host.key("r", False)
    host.key("c")
    host.client.until(REWARD, reward=0.0)

    def after() -> list[int]:
        found = []
        for picture in host.screen.pictures:
            block = pixel_metadata.read(picture, BLOCK_X_PX, SIZE_PX[1])
            assert block is not None
            if block[0] >= sent_at_s * 1000:
                found.append(int(picture[0, 0, 1]))
        return found

    assert min(host.hosted.call(after)) == 1


def test_sync_takes_the_keys_that_are_held_at_the_commit(play):
    host = play(SYNC_ENV_ID)
    host.reset()
    host.key("r", True)
    host.key("r", False)
    host.key("c")
    host.key("r", True)
    host.key("c")
    rewards = [host.client.until(REWARD)["body"]["reward"] for _ in range(2)]
    assert rewards == [1.5, 1.5]  # the first was pressed and released before its commit
    host.key("r", False)
    host.key("c")
    assert host.client.until(REWARD)["body"]["reward"] == 0.0


def test_commits_made_before_a_reset_are_forgotten(play):
    host = play(SYNC_ENV_ID)
    host.reset()
    host.key("e", True)
    # Both at once: one that came after the reset would count.
    host.key("c", True, False, True, False)
    host.client.until(REWARD, done=True)
    host.client.until("v0.env.describe", env_state="running")
    with pytest.raises(TimeoutError):
        host.client.next(0.3)


def test_the_manifest_says_the_mode_and_where_the_strip_is(tmp_path):
    task = GymCoreTask(Seen(tmp_path), [GYM_ID, "CartPole-v1"])
    assert task.env_ids == (ENV_ID, "gym-core.CartPole-v1")
    assert task.manifest == {
        "modes": ["realtime"],
        "screen": [1024, 768],
        "timing_strip": [0, 400],
    }
    assert GymCoreTask(Seen(tmp_path), [SYNC_ENV_ID]).manifest["modes"] == ["sync"]


def test_where_any_id_may_be_asked_for_one_is_played_after_the_other(play):
    host = play("*")
    assert host.task.env_ids == ("*",)
    assert host.task.manifest["modes"] == ["realtime", "sync"]
    assert host.task.manifest["timing_strip"] == [0, 752]
    host.client.reset(ENV_ID, seed=1, fps=60)
    assert host.client.until(REWARD)["body"]["info"]["seed"] == 1
    assert host.task.manifest["modes"] == ["realtime"]
    host.client.reset(SYNC_ENV_ID, seed=2, fps=60)
    assert host.task.manifest["modes"] == ["sync"]
    host.key("c")
    assert host.client.until(REWARD)["body"]["info"]["seed"] == 2


@pytest.mark.parametrize("env_id", ["gym-core.Nope-v0", "Nope-v0", "gym-core.*", ""])
def test_an_id_with_nothing_behind_it_is_refused_and_others_go_on(play, env_id):
    host = play("*")
    host.client.ask_reset(env_id)
    assert "is not here" in host.client.until("v0.reply.error")["body"]["message"]
    host.client.reset(ENV_ID)
    host.client.until(REWARD)


def test_sync_and_real_time_do_not_share_a_remote(tmp_path):
    with pytest.raises(ConfigError, match="two remotes"):
        GymCoreTask(Seen(tmp_path), [GYM_ID, SYNC_ID])


def test_no_environment_at_all_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--env"):
        GymCoreTask(Seen(tmp_path), [])
