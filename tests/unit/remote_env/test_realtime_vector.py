from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from raygym.errors import ConfigError, MissingDependency, RemoteFailedToStart
from raygym.remote_env.realtime_vector import RealtimeVectorEnv, vector_infos
from tests.unit.remote_env.fakes import FakeRemotes, batch, failed


@pytest.fixture
def remotes() -> FakeRemotes:
    return FakeRemotes()


@pytest.fixture
def env(remotes: FakeRemotes) -> Iterator[RealtimeVectorEnv]:
    env = RealtimeVectorEnv([remotes.slot(), remotes.slot()], fps=1000, backend=remotes)  # type: ignore[arg-type]
    yield env
    env.close()


def step_until_running(env: RealtimeVectorEnv, index: int) -> list[tuple]:  # type: ignore[type-arg]
    """Steps until a slot acts again; returns what each step gave."""
    steps = []
    deadline = time.monotonic() + 20
    while not steps or not steps[-1][4]["running"][index]:
        assert time.monotonic() < deadline
        steps.append(env.step([0] * env.num_envs))
    return steps


def step_for(env: RealtimeVectorEnv, duration_s: float) -> None:
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        env.step([0] * env.num_envs)


def connection_of(env: RealtimeVectorEnv, remotes: FakeRemotes, index: int):  # type: ignore[no-untyped-def]
    remote_id = env.remote_ids[index]
    assert remote_id is not None
    return remotes.connections[int(remote_id.removeprefix("r-"))]


def test_spaces_and_metadata_are_those_of_a_vector(env: RealtimeVectorEnv) -> None:
    assert env.num_envs == 2
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert env.observation_space.shape == (2, 3, 4, 3)
    assert env.single_action_space.n == 3
    assert env.action_space.shape == (2,)


def test_reset_and_step_give_one_row_per_slot(env: RealtimeVectorEnv, remotes: FakeRemotes) -> None:
    observations, infos = env.reset(seed=5)
    assert env.observation_space.contains(observations)
    assert sorted(s for s in remotes.seeds if s is not None) == [5, 6]
    assert infos["episode_id"].tolist() == ["0", "0"]
    connection_of(env, remotes, 1).batches.append(batch(2.0))
    connection_of(env, remotes, 1).frame(99)
    observations, rewards, terminations, truncations, infos = env.step(np.array([1, 2]))
    assert rewards.tolist() == [0.0, 2.0]
    assert not terminations.any()
    assert not truncations.any()
    assert infos["running"].tolist() == [True, True]
    assert (observations[1] == 99).all()
    assert len(connection_of(env, remotes, 0).sent) == 1
    assert len(connection_of(env, remotes, 1).sent) == 2


def test_seeds_may_be_given_one_by_one(env: RealtimeVectorEnv, remotes: FakeRemotes) -> None:
    env.reset(seed=[None, 8])
    assert set(remotes.seeds) == {None, 8}
    with pytest.raises(ConfigError, match="expected 2 seeds, got 1"):
        env.reset(seed=[1])


def test_an_ended_slot_is_reset_while_the_other_steps_on(
    env: RealtimeVectorEnv, remotes: FakeRemotes
) -> None:
    env.reset()
    ended = connection_of(env, remotes, 0)
    gate = threading.Event()
    ended_await = ended.await_episode

    def await_episode(**kwargs) -> str:  # type: ignore[no-untyped-def]
        gate.wait(20)
        return ended_await(**kwargs)

    ended.await_episode = await_episode
    ended.frame(50)
    ended.batches.extend([batch(1.0, done=True), batch(7.0)])
    _, rewards, terminations, *_ = env.step([0, 0])
    assert (rewards.tolist(), terminations.tolist()) == ([1.0, 0.0], [True, False])
    connection_of(env, remotes, 1).batches.append(batch(3.0))
    sent_before = len(ended.sent)
    observations, rewards, terminations, truncations, infos = env.step([1, 1])
    assert infos["running"].tolist() == [False, True]
    assert rewards.tolist() == [0.0, 3.0]
    assert not terminations.any()
    assert not truncations.any()
    assert (observations[0] == 50).all()
    assert len(ended.sent) == sent_before
    ended.brightness = 60
    gate.set()
    *waiting, last = step_until_running(env, 0)
    assert (waiting[-1][0][0] == 60).all(), "the first frame comes in a step that did not act"
    assert waiting[-1][1][0] == 0.0
    assert waiting[-1][4]["episode_id"][0] == "1"
    assert last[1][0] == 7.0


def test_a_lost_remote_is_replaced_behind_the_others(
    env: RealtimeVectorEnv, remotes: FakeRemotes
) -> None:
    env.reset()
    lost_id = env.remote_ids[0]
    connection_of(env, remotes, 0).lost = "gone"
    *_, truncations, infos = env.step([0, 0])
    assert truncations.tolist() == [True, False]
    assert infos["outcome"].tolist() == ["infra_failure", "ok"]
    assert infos["_reason"].tolist() == [True, False]
    step_until_running(env, 0)
    assert env.remote_ids[0] not in (None, lost_id)
    assert (env.remotes_started, env.remotes_lost) == (3, 1)


def test_a_slot_that_finds_no_remote_waits_while_the_other_steps_on(
    env: RealtimeVectorEnv, remotes: FakeRemotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygym.remote_env.realtime_vector._RETRY_S", 0.01)
    env.reset()
    remotes.start_errors.extend([failed("no memory")] * 7)
    connection_of(env, remotes, 0).lost = "gone"
    steps = step_until_running(env, 1)
    steps += step_until_running(env, 0)
    assert all(infos["running"][1] for *_, infos in steps)


def test_without_any_remote_left_a_step_raises(
    env: RealtimeVectorEnv, remotes: FakeRemotes
) -> None:
    env.reset()
    remotes.start_errors.extend([failed("no memory")] * 6)
    for connection in remotes.connections:
        connection.lost = "gone"
    with pytest.raises(RemoteFailedToStart, match="no slot has a remote any more"):
        step_for(env, 20)


def test_a_reset_that_finds_no_remote_raises(env: RealtimeVectorEnv, remotes: FakeRemotes) -> None:
    remotes.start_errors.extend([failed("no memory")] * 6)
    with pytest.raises(RemoteFailedToStart, match="no memory"):
        env.reset()


def test_a_missing_program_is_raised_by_the_step(
    env: RealtimeVectorEnv, remotes: FakeRemotes
) -> None:
    env.reset()
    remotes.start_errors.append(MissingDependency("no Xvnc"))
    connection_of(env, remotes, 0).lost = "gone"
    with pytest.raises(MissingDependency, match="no Xvnc"):
        step_for(env, 20)


def test_a_reset_takes_over_slots_that_were_resetting(
    env: RealtimeVectorEnv, remotes: FakeRemotes
) -> None:
    env.reset()
    remotes.start_errors.extend([failed("no memory")] * 3)
    connection_of(env, remotes, 0).lost = "gone"
    env.step([0, 0])
    _, infos = env.reset(seed=9)
    assert infos["outcome"].tolist() == ["ok", "ok"]
    assert env.step([0, 0])[4]["running"].tolist() == [True, True]


def test_one_deadline_paces_all(remotes: FakeRemotes) -> None:
    now_s = [50.0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now_s[0] += seconds

    slots = [remotes.slot() for _ in range(3)]
    env = RealtimeVectorEnv(slots, fps=20, clock=lambda: now_s[0], sleep=sleep)
    env.reset()
    for thinking_s in (0.0, 0.02, 0.01):
        now_s[0] += thinking_s
        env.step([0, 0, 0])
    assert pauses == pytest.approx([0.05, 0.03, 0.04])
    env.close()


def test_closing_ends_every_remote_even_in_the_middle_of_a_reset(remotes: FakeRemotes) -> None:
    env = RealtimeVectorEnv([remotes.slot(), remotes.slot()], fps=1000, backend=remotes)  # type: ignore[arg-type]
    env.reset()
    remotes.start_errors.extend([failed("no memory")] * 100)
    remotes.connections[0].lost = "gone"
    env.step([0, 0])
    began = time.monotonic()
    env.close()
    assert time.monotonic() - began < 4
    assert remotes.running == []
    assert remotes.is_closed


def test_settings_that_make_no_sense_are_refused(remotes: FakeRemotes) -> None:
    with pytest.raises(ConfigError, match="at least one slot"):
        RealtimeVectorEnv([], fps=10)
    with pytest.raises(ConfigError, match="needs a rate"):
        RealtimeVectorEnv([remotes.slot()], fps=math.inf)
    with pytest.raises(ConfigError, match="render_mode"):
        RealtimeVectorEnv([remotes.slot()], fps=10, render_mode="human")


def test_actions_must_be_one_per_slot(env: RealtimeVectorEnv) -> None:
    env.reset()
    with pytest.raises(ConfigError, match="expected 2, got 3"):
        env.step([0, 0, 0])


def test_events_are_actions_of_a_vector_too(remotes: FakeRemotes) -> None:
    slots = [remotes.slot(actions="events") for _ in range(2)]
    env = RealtimeVectorEnv(slots, fps=1000)
    env.reset()
    env.step([[("KeyEvent", "ArrowUp", True)], []])
    assert sorted(len(connection.sent) for connection in remotes.connections) == [0, 1]
    assert env.action_space.contains(([("KeyEvent", "ArrowUp", True)], []))
    env.close()


def test_infos_become_arrays_with_masks() -> None:
    infos = vector_infos(
        [
            {"ms": 1.5, "n": 1, "ok": True, "who": "a", "stats": {"x": 1}},
            {"ms": None, "n": 2, "ok": False, "who": "b", "stats": {"x": 2, "y": 0.5}},
            {},
        ]
    )
    assert infos["ms"].tolist() == [1.5, 0, 0]
    assert infos["_ms"].tolist() == [True, False, False]
    assert (infos["n"].dtype, infos["n"].tolist()) == (np.int64, [1, 2, 0])
    assert (infos["ok"].dtype, infos["ok"].tolist()) == (np.bool_, [True, False, False])
    assert infos["who"].tolist() == ["a", "b", None]
    assert infos["stats"]["x"].tolist() == [1, 2, 0]
    assert infos["stats"]["_y"].tolist() == [False, True, False]
    assert infos["_stats"].tolist() == [True, True, False]


def test_values_of_different_kinds_are_objects() -> None:
    infos = vector_infos([{"v": 1}, {"v": "x"}, {"v": [1, 2]}])
    assert infos["v"].tolist() == [1, "x", [1, 2]]


def test_a_number_and_a_mapping_under_one_key_are_objects() -> None:
    assert vector_infos([{"v": 1}, {"v": {"x": 2}}])["v"].tolist() == [1, {"x": 2}]
