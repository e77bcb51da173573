from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import raygym
from raygym.core import Endpoint, Outcome, Remote, Secret
from raygym.environments import RemoteNeeds, make_backend
from raygym.errors import ConfigError, RemoteFailedToStart, RemoteUnreachable
from raygym.remote_env.fake_backend import FakeBackend
from raygym.remote_env.realtime_env import RealtimeEnv
from raygym.remote_env.static_backend import StaticBackend
from tests.compliance.backend import BackendCompliance

CATCH = "test.Catch-v0"
PADDLE_MIDDLE = 42.0
CATCH_NEEDS = RemoteNeeds(runtime="catch", env_id=CATCH)


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    backend = make_backend("fake", CATCH_NEEDS)
    assert isinstance(backend, FakeBackend)
    yield backend
    backend.close()


@pytest.fixture(autouse=True)
def _no_thread_or_directory_is_left(tmp_path_factory, monkeypatch) -> Iterator[None]:  # type: ignore[no-untyped-def]
    directory = tmp_path_factory.mktemp("d")
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) - before == set()


Make = Callable[..., RealtimeEnv]


@pytest.fixture
def make(backend: FakeBackend) -> Iterator[Make]:
    """Makes environments that are closed with the test; of catch inside this process."""
    made: list[RealtimeEnv] = []

    def build(env_id: str = CATCH, **settings: object) -> RealtimeEnv:
        if "remotes" not in settings:
            settings.setdefault("backend", backend)
        made.append(raygym.make(env_id, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for env in made:
        env.close()


def play(env: gymnasium.Env, steps: int, action: int = 0) -> list[dict]:  # type: ignore[type-arg]
    infos = []
    for _ in range(steps):
        *_, terminated, truncated, info = env.step(action)
        infos.append(info)
        if terminated or truncated:
            env.reset()
    return infos


def hold(env: gymnasium.Env, action: int) -> dict[str, float]:  # type: ignore[type-arg]
    """Plays an episode of seed 3 with one key held; returns where paddle and ball ended.

    An episode lasts a third of a second, in which a busy machine may not have passed on the key;
    then another is played, up to five.
    """
    for _ in range(5):
        env.reset(seed=3)
        state: dict[str, float] = {}
        is_over = False
        while not is_over:
            *_, terminated, truncated, info = env.step(action)
            is_over = terminated or truncated
            state = info.get("game_state", state)
        if state["paddle_x"] != PADDLE_MIDDLE:
            break
    return state


class TestFakeBackendWithCatch(BackendCompliance):
    @pytest.fixture
    def backend(self) -> Iterator[FakeBackend]:  # type: ignore[override]
        backend = make_backend("fake", CATCH_NEEDS)
        assert isinstance(backend, FakeBackend)
        yield backend
        backend.close()


def test_gymnasium_finds_nothing_to_complain_about() -> None:
    env = gymnasium.make(CATCH, backend="fake", render_mode="rgb_array").unwrapped
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env)
    finally:
        env.close()


def test_gymnasium_makes_it_by_its_id() -> None:
    env = gymnasium.make(CATCH, backend="fake", client_id="me")
    try:
        observation, _info = env.reset(seed=1)
        assert env.observation_space.contains(observation)
        assert env.step(1)[4]["outcome"] == "ok"
        assert env.spec is not None
        assert env.spec.id == CATCH
    finally:
        env.close()


def test_gymnasium_makes_a_vector_of_it() -> None:
    envs = gymnasium.make_vec(CATCH, num_envs=2, backend="fake")
    try:
        observations, _ = envs.reset()
        assert observations.shape == (2, 84, 84, 3)
    finally:
        envs.close()


def test_an_episode_of_catch_is_played_to_its_end(make: Make) -> None:
    env = make()
    _, first = env.reset(seed=4)
    steps = 0
    terminated = truncated = False
    while not (terminated or truncated):
        _observation, reward, terminated, truncated, info = env.step(0)
        steps += 1
        assert steps < 600
    assert (terminated, truncated) == (True, False)
    assert reward in (1.0, -1.0)
    assert info["episode_score"] == reward
    assert info["episode_id"] == first["episode_id"]
    assert info["seed"] == 4
    _, after = env.reset()
    assert int(after["episode_id"]) == int(first["episode_id"]) + 1


def test_a_key_held_moves_the_paddle_and_a_seed_repeats_the_ball(make: Make) -> None:
    env = make()
    left, right = (hold(env, action) for action in (1, 2))
    assert left["paddle_x"] < PADDLE_MIDDLE < right["paddle_x"]
    assert left["ball_x"] == right["ball_x"]


def test_lags_are_measured_in_every_step(make: Make) -> None:
    env = make()
    env.reset()
    infos = play(env, 60)
    last = infos[-1]
    assert 0 <= last["observation_lag_ms"] < 1000
    assert 0 <= last["action_lag_ms"] < 1000
    assert abs(last["clock_skew_ms"]) < 50
    assert 0 < last["reaction_time_ms"] < 2000
    assert last["stats"]["vnc_updates"] >= 1


def test_steps_keep_the_rate_that_was_asked_for(make: Make) -> None:
    env = make(fps=25)
    env.reset()
    began = time.monotonic()
    for _ in range(25):
        env.step(0)
    assert 0.9 < time.monotonic() - began < 3


def test_without_a_rate_steps_follow_the_frames(make: Make) -> None:
    env = make(fps=math.inf)
    env.reset()
    began = time.monotonic()
    infos = play(env, 30)
    assert time.monotonic() - began > 0.3, "steps came faster than the 50 frames a second"
    fresh = sum(info["stats"]["vnc_updates"] > 0 for info in infos)
    assert fresh >= 10


def test_observations_are_scaled_and_grey_as_asked(make: Make) -> None:
    config = raygym.ObservationConfig(height_px=42, width_px=42, is_grey=True)
    env = make(observation=config, render_mode="rgb_array")
    observation, _ = env.reset()
    assert observation.shape == (42, 42, 1)
    assert env.observation_space.contains(observation)
    picture = env.render()
    assert picture is not None
    assert picture.shape == (84, 84, 3)


def test_universes_events_are_actions(make: Make) -> None:
    env = make(actions="events")
    env.reset()
    before = env.timing_mark
    env.step([("KeyEvent", "ArrowLeft", True), ("PointerEvent", 3, 3, 0)])
    for _ in range(5):
        env.step([])
    after = env.timing_mark
    assert before is not None
    assert after is not None
    assert after.input_count != before.input_count
    with pytest.raises(ConfigError, match="event 0"):
        env.step([("KeyEvent", "ArrowLeft")])


@pytest.mark.parametrize("encoding", ["tight", "zrle", "raw"])
def test_every_encoding_shows_the_game(make: Make, encoding: str) -> None:
    env = make(vnc_kwargs={"encoding": encoding})
    observation, _ = env.reset()
    assert observation.any()
    assert env.step(0)[4]["observation_lag_ms"] is not None


def test_a_remote_that_dies_ends_the_episode_and_is_replaced(
    make: Make, backend: FakeBackend
) -> None:
    env = make()
    env.reset()
    score = play(env, 3)[-1]["episode_score"]
    assert env.remote_id is not None
    backend.kill(env.remote_id)
    deadline = time.monotonic() + 15
    truncated = False
    while not truncated and time.monotonic() < deadline:
        _, reward, terminated, truncated, info = env.step(0)
        assert (terminated, reward) == (False, 0.0)
    assert info["outcome"] == Outcome.INFRA_FAILURE
    assert info["reason"]
    assert info["episode_score"] == score
    env.reset()
    assert env.step(0)[4]["outcome"] == "ok"
    assert (env.remotes_started, env.remotes_lost) == (2, 1)
    assert len(list(backend.list())) == 1
    env.close()
    assert list(backend.list()) == []


def test_in_a_vector_the_others_step_on_while_one_is_replaced(backend: FakeBackend) -> None:
    env = raygym.make_vec(CATCH, remotes=3, backend=backend, fps=25)
    env.reset(seed=1)
    killed = env.remote_ids[1]
    assert killed is not None
    backend.kill(killed)
    outcomes, acted = set(), np.zeros(3, int)
    began = time.monotonic()
    steps = 0
    while time.monotonic() - began < 15:
        *_, infos = env.step([0, 0, 0])
        steps += 1
        outcomes |= {o for o in infos["outcome"] if o is not None}
        acted += infos["running"]
        is_replaced = env.remote_ids[1] not in (killed, None) and infos["running"][1]
        if is_replaced and time.monotonic() - began > 2:
            break
    elapsed = time.monotonic() - began
    assert elapsed < 10
    assert steps >= elapsed * 25 * 0.5
    assert outcomes == {"ok", "infra_failure"}
    assert acted[1] < acted[0]
    assert (env.remotes_started, env.remotes_lost) == (4, 1)
    env.close()
    assert list(backend.list()) == []


def test_a_running_remote_is_played_by_its_addresses(make: Make, backend: FakeBackend) -> None:
    remote = backend.start("catch", client_id="owner")
    assert remote.vnc is not None
    assert remote.vnc.path is not None
    directory = Path(remote.vnc.path).parent
    assert remote.password is not None
    (directory / "password").write_text(remote.password.reveal())
    env = make(remotes=f"unix:{directory}")
    env.reset()
    assert env.step(0)[4]["outcome"] == "ok"
    env.close()
    assert [r.id for r in backend.list()] == [remote.id]


def test_a_screen_without_rewards_can_be_watched(make: Make, backend: FakeBackend) -> None:
    remote = backend.start("catch", client_id="owner")
    bare = Remote(id="bare", runtime="", vnc=remote.vnc, rewarder=None, password=remote.password)
    env = make(backend=StaticBackend([bare]))
    observation, info = env.reset()
    assert observation.shape == (84, 84, 3)
    _, reward, *_, info = env.step(0)
    assert reward == 0.0
    assert info["episode_id"] is None


def test_a_wrong_password_is_told_with_the_layer_that_refused(
    make: Make, backend: FakeBackend
) -> None:
    remote = backend.start("catch", client_id="owner")
    wrong = Remote(
        id="wrong",
        runtime="",
        vnc=remote.vnc,
        rewarder=remote.rewarder,
        password=Secret("nonsense"),
    )
    env = make(backend=StaticBackend([wrong]), start_timeout_s=5)
    with pytest.raises(RemoteFailedToStart, match="RFB handshake failed") as caught:
        env.reset()
    assert "nonsense" not in str(caught.value)


def test_nobody_at_the_address_is_told_in_time(make: Make) -> None:
    nobody = Remote(
        id="nobody",
        runtime="",
        vnc=Endpoint(path="/nowhere/vnc.sock"),
        rewarder=Endpoint(path="/nowhere/rewarder.sock"),
    )
    env = make(backend=StaticBackend([nobody]), start_timeout_s=0.3)
    with pytest.raises(RemoteFailedToStart, match="RFB handshake failed") as caught:
        env.reset()
    cause: BaseException | None = caught.value
    kinds = set()
    while cause is not None:
        kinds.add(type(cause))
        cause = cause.__cause__
    assert RemoteUnreachable in kinds


def test_an_environment_of_another_runtime_is_refused_by_the_remote(
    make: Make, backend: FakeBackend
) -> None:
    remote = backend.start("catch", client_id="owner")
    env = make("flashgames.NeonRace-v0", backend=StaticBackend([remote]), start_timeout_s=5)
    with pytest.raises(RemoteFailedToStart, match="reset failed"):
        env.reset()


def test_a_remote_of_its_own_process_is_played_and_leaves_nothing(make: Make) -> None:
    env = make(backend="process", start_timeout_s=30)
    observation, _info = env.reset(seed=2)
    assert observation.shape == (84, 84, 3)
    infos = play(env, 40)
    assert {info["outcome"] for info in infos} == {"ok"}
    assert infos[-1]["reaction_time_ms"] is not None


@pytest.mark.parametrize("name", ["fake", "process"])
def test_in_real_time_a_vector_may_begin_the_next_episode_with_the_same_step(name: str) -> None:
    env = raygym.make_vec(CATCH, 2, backend=name, autoreset_mode="SameStep", frame_stack=2, fps=25)
    try:
        observations, _ = env.reset(seed=1)
        assert observations.shape == (2, 84, 84, 6)
        ended: set[int] = set()
        for _ in range(600):
            *_, terminated, truncated, infos = env.step(np.zeros(2, np.int64))
            over = np.flatnonzero(terminated | truncated)
            for slot in over.tolist():
                assert infos["final_obs"][slot].shape == (84, 84, 6)
                assert infos["final_info"]["outcome"][slot] == "ok"
            ended |= set(over.tolist())
            if len(ended) == 2:
                break
        assert ended == {0, 1}
        assert env.remotes_started == 2
    finally:
        env.close()


@pytest.mark.parametrize("name", ["fake", "process"])
def test_in_real_time_those_that_are_ready_first_step_on_while_one_is_replaced(name: str) -> None:
    backend = make_backend(name, CATCH_NEEDS)
    env = raygym.make_vec(CATCH, 2, backend=backend, batch_size=1, fps=25)
    try:
        env.async_reset(seed=1)
        seen: list[int] = []
        outcomes: dict[int, set[str]] = {0: set(), 1: set()}
        while len(seen) < 5000:
            *_, infos = env.recv()
            slot = int(infos["env_id"][0])
            outcomes[slot].add(infos["outcome"][0])
            seen.append(slot)
            if slot == 1 and seen.count(1) == 5:
                backend.remove(infos["remote_id"][0])
            if env.remotes_started == 3 and "infra_failure" in outcomes[1] and slot == 1:
                break
            env.send(np.zeros(1, np.int64))
        assert outcomes == {0: {"ok"}, 1: {"ok", "infra_failure"}}
        assert env.remotes_lost == 1
    finally:
        env.close()
        backend.close()
