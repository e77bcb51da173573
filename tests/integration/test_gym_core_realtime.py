"""Gymnasium's environments in real time: remotes as processes, seen through VNC."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np
import pytest

from raygym import gym_ids
from raygym.catalog import load_catalog
from raygym.config import VncOptions
from raygym.core import Remote, UInt8Array
from raygym.remote_env.controls import KeyInput
from raygym.remote_env.process_backend import ProcessBackend
from raygym.remote_env.realtime_env import RealtimeEnv
from raygym.remote_env.slot import Slot
from raygym.remote_env.slot_config import SlotConfig
from raygym.remote_env.vnc_session import VncSession
from raygym.runtimes.gym_core.task import BLOCK_X_PX
from raygym.wire import pixel_metadata, timing
from raygym.wire.keysyms import keysym
from tests.support import novnc, scripted_gym
from tests.support.universe_client import UniverseClient
from tests.support.viewer import viewers
from tests.support.xvnc import running_xvnc

TIMEOUT_S = 90.0
CARTPOLE, CARTPOLE_STRIP_PX = "gym-core.CartPole-v1", (0, 400)
LOSSLESS = VncOptions(encoding="zrle", fine_quality_level=None, subsample_level=None)
UNIVERSE = VncOptions(encoding="tight", fine_quality_level=50, subsample_level=2)


@pytest.fixture
def backend_of() -> Iterator[Callable[..., ProcessBackend]]:
    """Returns a function that makes a backend whose remotes host these ids."""
    with contextlib.ExitStack() as stack:

        def made(*ids: str, arguments: tuple[str, ...] = ()) -> ProcessBackend:
            envs = [part for gym_id in ids for part in ("--env", gym_id)]
            backend = ProcessBackend(arguments=["--mode", "realtime", *envs, *arguments])
            stack.callback(backend.close)
            return backend

        yield made


def remote_env(env_id: str, backend: ProcessBackend) -> RealtimeEnv:
    spec = load_catalog().env(env_id)
    config = SlotConfig(spec=spec, screen_px=gym_ids.SCREEN_PX, client_id="test")
    return RealtimeEnv(Slot(config, backend), fps=spec.fps)


def balance(observation: UInt8Array) -> int:
    """Returns the action for CartPole that moves the cart below the tip of the pole."""
    picture = observation.astype(np.int16)
    is_pole = (picture[..., 0] > 150) & (picture[..., 2] < 140) & (picture[..., 1] < 190)
    rows, columns = np.nonzero(is_pole)
    is_cart = (picture.max(axis=-1) < 40) & (np.arange(len(picture))[:, None] > 280)
    cart = np.nonzero(is_cart[:298])[1]
    if not len(rows) or not len(cart):
        return 1
    tip = columns[rows <= rows.min() + 8].mean()
    return int(tip > cart.mean())


def test_raygym_plays_cartpole_in_real_time_through_vnc(backend_of):
    env = remote_env(CARTPOLE, backend_of("CartPole-v1"))
    observation, _ = env.reset(seed=3)
    assert observation.shape == (400, 600, 3)
    assert env.action_space.n == 2
    began_s, steps, infos = time.monotonic(), 0, []
    scores = []
    while len(scores) < 3:
        assert time.monotonic() < began_s + TIMEOUT_S
        observation, _, terminated, truncated, info = env.step(balance(observation))
        steps += 1
        infos.append(info)
        if terminated or truncated:
            scores.append(info["episode_score"])
            assert info["outcome"] == "ok"
            observation, _ = env.reset()
    # 50 steps a second, by the clock of the far end; a busy machine is only ever slower.
    assert steps / (time.monotonic() - began_s) < 55
    assert 3 in {info["seed"] for info in infos}
    assert any(info["observation_lag_ms"] is not None for info in infos)
    assert any(info["action_lag_ms"] is not None for info in infos)
    assert max(scores) > 8
    env.close()


def test_raygym_plays_pong_by_the_id_of_universe_s_time(backend_of):
    backend = backend_of("PongDeterministic-v3")
    env = remote_env("gym-core.PongDeterministic-v3", backend)
    first, _ = env.reset(seed=1)
    assert first.shape == (210, 160, 3)
    assert (env.fps, env.action_space.n) == (60, 6)
    paddles = set()
    began_s = time.monotonic()
    while len(paddles) < 4:
        assert time.monotonic() < began_s + TIMEOUT_S, "the paddle does not move"
        action = 2 if time.monotonic() % 1 < 0.5 else 3  # up and down
        observation, *_ = env.step(action)
        is_green = (observation[34:194, 140:144, 1] > 150) & (observation[34:194, 140:144, 0] < 120)
        rows = np.nonzero(is_green.any(axis=1))[0]
        paddles |= {int(rows[0]) // 20} if len(rows) else set()
    env.close()


def test_what_is_shown_is_what_gymnasium_renders(backend_of):
    backend = backend_of("CartPoleSync-v1")
    with joined(backend) as (client, screen):
        client.reset("gym-core.CartPoleSync-v1", seed=7)
        shown = picture_after(screen, client.seen[-1]["headers"]["sent_at"])
    env = gym_ids.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=7)
    assert np.array_equal(shown[:400, :600], env.render())
    assert not shown[:400, 600:].any()
    env.close()


@contextlib.contextmanager
def joined(
    backend: ProcessBackend, options: VncOptions = LOSSLESS
) -> Iterator[tuple[UniverseClient, VncSession]]:
    """Starts a remote; gives a client as Universe's, and a look at its screen."""
    remote: Remote = backend.start("gym-core", client_id="test")
    assert remote.vnc is not None
    assert remote.rewarder is not None
    assert remote.password is not None
    path, password = remote.rewarder.path, remote.password
    assert path is not None
    screen = VncSession(remote.vnc, password=password, options=options)
    try:
        with UniverseClient(Path(path), password.reveal(), timeout_s=TIMEOUT_S) as client:
            client.until("v0.raygym.manifest")
            yield client, screen
    finally:
        screen.close()


def picture_after(screen: VncSession, sent_at_s: float) -> UInt8Array:
    """Waits as Universe's sync client does: until the time painted is past a message's."""
    deadline_s, number = time.monotonic() + TIMEOUT_S, 0
    while True:
        left_s = deadline_s - time.monotonic()
        frame = screen.read_frame(newer_than=number, timeout_s=max(0.1, left_s))
        block = pixel_metadata.read(frame.pixels, BLOCK_X_PX, CARTPOLE_STRIP_PX[1])
        if block is not None and block[0] >= sent_at_s * 1000:
            return frame.pixels.copy()
        number = frame.number


def test_sync_mode_is_gymnasium_step_by_step(backend_of):
    """Universe's own test of sync: the same seed and actions, here and through the screen."""
    env = gym_ids.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=11)
    left, commit = keysym("left"), keysym("c")
    with joined(backend_of("CartPoleSync-v1")) as (client, screen):
        client.reset("gym-core.CartPoleSync-v1", seed=11)
        is_over = False
        for step in range(40):
            action = step // 2 % 2
            screen.send(
                [KeyInput(left, action == 0), KeyInput(commit, True), KeyInput(commit, False)]
            )
            message = client.next(TIMEOUT_S)
            assert message["method"] == "v0.env.reward"
            _, reward, is_over, _, _ = env.step(action)
            assert (message["body"]["reward"], message["body"]["done"]) == (reward, is_over)
            if is_over:
                break
            shown = picture_after(screen, message["headers"]["sent_at"])
            assert np.array_equal(shown[:400, :600], env.render()), f"step {step}"
    assert is_over or step == 39
    env.close()


def test_pixel_metadata_survive_the_lossy_encoding_that_universe_asks_for(backend_of):
    with joined(backend_of("CartPole-v1"), UNIVERSE) as (client, screen):
        client.reset(CARTPOLE, seed=1)
        first = picture_after(screen, client.seen[-1]["headers"]["sent_at"])
        began = pixel_metadata.read(first, BLOCK_X_PX, CARTPOLE_STRIP_PX[1])
        assert began is not None
        assert began[1] > 0
        probe = pixel_metadata.PROBE_KEYSYM
        screen.send([KeyInput(probe, True), KeyInput(probe, False)])
        deadline_s, number, seen = time.monotonic() + TIMEOUT_S, 0, began
        while seen[1] == began[1]:
            assert time.monotonic() < deadline_s, "the probe is not seen to arrive"
            frame = screen.read_frame(newer_than=number, timeout_s=TIMEOUT_S)
            number = frame.number
            block = pixel_metadata.read(frame.pixels, BLOCK_X_PX, CARTPOLE_STRIP_PX[1])
            assert block is not None, "each picture has it"
            seen = block
        assert began[0] <= seen[1] <= seen[0]


def test_universe_s_client_gets_rewards_and_the_next_episode_by_itself(backend_of):
    with joined(backend_of("CartPole-v0")) as (client, _):
        episode = int(client.reset("gym-core.CartPole-v0", fps=60))
        # Nothing held is 1, to the right, until the pole falls.
        done = client.until("v0.env.reward", done=True)
        assert done["headers"]["episode_id"] == str(episode)
        rewards = [m["body"]["reward"] for m in client.seen if m["method"] == "v0.env.reward"]
        assert rewards
        assert set(rewards) == {1.0}
        client.until("v0.env.describe", env_state="running")
        assert [m["headers"]["episode_id"] for m in client.seen[-2:]] == [str(episode + 1)] * 2


def test_a_remote_whose_environment_hangs_tells_so_and_ends_in_time(backend_of):
    module = "tests.support.scripted_gym"
    backend = backend_of(f"{module}:{scripted_gym.GYM_ID}", arguments=("--step-timeout-s", "0.3"))
    env_id = f"gym-core.{module}:{scripted_gym.GYM_ID}"
    with joined(backend) as (client, screen):
        client.reset(env_id)
        screen.send([KeyInput(keysym("h"), True), KeyInput(keysym("h"), False)])
        info = client.until("v0.env.reward", done=True)["body"]["info"]
        assert (info["outcome"], info["reason"]) == ("env_failure", "env_hung")
        client.until("v0.env.describe", env_state="running")
        (remote,) = backend.list()
        pid = backend.pid(remote.id)
        began_s = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        while backend.list():
            assert time.monotonic() < began_s + TIMEOUT_S
            time.sleep(0.01)


def test_a_remote_that_plays_from_the_start_needs_no_client(backend_of):
    backend = backend_of("CartPole-v1", arguments=("--play",))
    remote = backend.start("gym-core", client_id="nobody")
    assert remote.vnc is not None
    screen = VncSession(remote.vnc, password=remote.password, options=LOSSLESS)
    deadline_s, marks, number = time.monotonic() + TIMEOUT_S, set(), 0
    while len(marks) < 3:
        assert time.monotonic() < deadline_s
        frame = screen.read_frame(newer_than=number, timeout_s=TIMEOUT_S)
        number = frame.number
        mark = timing.read(frame.pixels, *CARTPOLE_STRIP_PX)
        marks |= {mark.painted_at_ms} if mark is not None else set()
    screen.close()
    ready = json.loads((backend.directory(remote.id) / "ready.json").read_text())
    assert ready["runtime"] == "gym-core"


def play_on(env: gymnasium.Env[Any, Any], observation: UInt8Array, *, steps: int) -> None:
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(balance(observation))
        if terminated or truncated:
            observation, _ = env.reset()


def test_tigervnc_s_viewer_shows_it_while_an_agent_plays(backend_of, tmp_path):
    backend = backend_of("CartPole-v1")
    env = remote_env(CARTPOLE, backend)
    observation, _ = env.reset(seed=1)
    desk_dir = tmp_path / "desk"
    desk_dir.mkdir()
    with (
        running_xvnc(desk_dir, password="desk", width=1024, height=768) as xvnc,
        viewers(tmp_path) as open_viewer,
    ):
        desk = open_viewer(backend.directory(env.remote_id), (1024, 768), xvnc.display, xvnc.path)
        before = desk.marks(CARTPOLE_STRIP_PX, count=1)
        play_on(env, observation, steps=50)
        after = desk.marks(CARTPOLE_STRIP_PX, count=2)
        pixels, _ = desk.picture(newer_than=0)
    save(tmp_path / "gym-core-tigervnc.png", pixels)
    assert timing.age_ms(time.time(), after[-1].painted_at_ms) < timing.age_ms(
        time.time(), before[0].painted_at_ms
    )
    assert after[-1].input_count != before[0].input_count, "the agent's keys are seen to arrive"
    assert shows_cartpole(pixels)
    env.close()


def test_novnc_in_chromium_shows_it_and_its_keys_arrive(backend_of, tmp_path):
    backend = backend_of("CartPole-v1", arguments=("--play",))
    remote = backend.start("gym-core", client_id="a person")
    with novnc.looking_at(backend.directory(remote.id), tmp_path) as page:
        before = first_mark(page)
        page.evaluate("rfb.focus()")
        for _ in range(3):
            page.key("ArrowLeft", is_down=True)
            page.key("ArrowLeft", is_down=False)
        deadline_s = time.monotonic() + TIMEOUT_S
        while (after := first_mark(page)).input_count != (before.input_count + 6) % 256:
            assert time.monotonic() < deadline_s, f"{after} after {before}"
        pixels = page.picture()
        save(tmp_path / "gym-core-novnc.png", pixels)
        assert page.told[-1] == "connected"
    assert timing.age_ms(before.painted_at_ms / 1000, after.painted_at_ms) < 0
    assert shows_cartpole(pixels)


def first_mark(page: novnc.NoVnc) -> timing.TimingMark:
    deadline_s = time.monotonic() + TIMEOUT_S
    while (mark := timing.read(page.picture(), *CARTPOLE_STRIP_PX)) is None:
        assert time.monotonic() < deadline_s, "no timing strip is to be seen"
    return mark


def shows_cartpole(pixels: UInt8Array) -> bool:
    """Whether there is a white field with a black cart, and a pole on it."""
    field = pixels[:400, :600].astype(np.int16)
    is_white = field.min(axis=-1) > 240
    is_black = field.max(axis=-1) < 30
    is_pole = (field[..., 0] > 150) & (field[..., 2] < 140) & (field[..., 1] < 190)
    return bool(is_white.mean() > 0.9 and is_black.sum() > 500 and is_pole.sum() > 200)


def save(path: Path, pixels: UInt8Array) -> None:
    assert cv2.imwrite(str(path), pixels[:, :, ::-1])
