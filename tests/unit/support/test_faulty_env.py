from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raygym.errors import SessionLost
from tests.support.faulty_env import (
    CEILING,
    LEAVE,
    MISLEADING_REWARD,
    QUESTIONS,
    REWARD,
    FaultyEnv,
    QuizEnv,
    question_of,
    quiz,
    right_answer,
    value_of,
)

EPISODES = 400


def play(env: Any, *, seed: int = 0) -> list[tuple[Any, float, bool, bool, dict[str, Any]]]:
    """Answers all rightly for one episode; returns what the steps gave."""
    observation, _ = env.reset(seed=seed)
    steps = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(int(right_answer(observation[None])[0])))
        observation = steps[-1][0]
    return steps


def ends(kind: str, *, seed: int) -> list[tuple[int, str]]:
    env = quiz(kind, seed)
    played = [play(env) for _ in range(EPISODES)]
    return [(len(steps), steps[-1][4]["outcome"]) for steps in played]


@pytest.mark.parametrize("is_picture", [True, False])
def test_who_reads_the_answers_gets_the_ceiling(is_picture: bool):
    steps = play(QuizEnv(is_picture=is_picture))
    assert sum(step[1] for step in steps) == pytest.approx(CEILING)
    assert [step[2] for step in steps] == [False] * (QUESTIONS - 1) + [True]


@pytest.mark.parametrize("is_picture", [True, False])
def test_the_number_of_the_question_is_read_back(is_picture: bool):
    env = QuizEnv(is_picture=is_picture)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    seen = [observation] + [env.step(0)[0] for _ in range(QUESTIONS - 1)]
    assert question_of(np.stack(seen)).tolist() == list(range(QUESTIONS))


def test_leaving_ends_the_quiz_with_nothing():
    env = QuizEnv()
    env.reset(seed=0)
    assert env.step(LEAVE)[1:4] == (0.0, True, False)


def test_a_wrong_answer_gives_nothing_and_goes_on():
    env = QuizEnv()
    observation, _ = env.reset(seed=0)
    assert env.step(1 - int(right_answer(observation[None])[0]))[1:4] == (0.0, False, False)


def test_the_value_is_the_discounted_sum_of_what_is_left():
    # gamma 0.5: 0.2, 0.2 + 0.1, 0.3 + 0.05, ...
    values = value_of(np.arange(QUESTIONS)[::-1], 0.5)
    assert values.tolist() == pytest.approx([0.2, 0.3, 0.35, 0.375, 0.3875])
    assert value_of(np.array([0]), 1.0)[0] == pytest.approx(CEILING)
    assert value_of(np.array([QUESTIONS - 1]), 1.0)[0] == pytest.approx(REWARD)


def test_three_episodes_of_ten_fail_each_at_any_of_its_steps():
    failed = [steps for steps, outcome in ends("plain", seed=1) if outcome == "infra_failure"]
    assert 0.24 < len(failed) / EPISODES < 0.36
    assert set(failed) == set(range(1, QUESTIONS + 1))


def test_the_same_seed_plants_the_same_failures_whatever_their_kind():
    planted = ends("plain", seed=2)
    assert planted == ends("plain", seed=2) == ends("adversarial", seed=2)
    assert planted != ends("plain", seed=3)


def test_a_plain_failure_repeats_the_last_observation_and_gives_nothing():
    env = FaultyEnv(QuizEnv(), kind="plain", seed=0, share=1.0, longest=1)
    first, _ = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(0)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert (info["outcome"], info["reason"]) == ("infra_failure", "planted at step 1")
    assert (observation == first).all()
    assert env.failures == 1


@pytest.mark.parametrize("is_picture", [True, False])
def test_an_adversarial_failure_shows_noise_and_a_misleading_reward(is_picture: bool):
    env = FaultyEnv(
        QuizEnv(is_picture=is_picture), kind="adversarial", seed=0, share=1.0, longest=1
    )
    first, _ = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(0)
    assert (reward, terminated, truncated) == (MISLEADING_REWARD, False, True)
    assert info["outcome"] == "infra_failure"
    assert env.observation_space.contains(observation)
    assert len(np.unique(observation)) > len(np.unique(first))


def test_a_raising_failure_raises_what_a_lost_session_does():
    env = FaultyEnv(QuizEnv(), kind="raising", seed=0, share=1.0, longest=1)
    env.reset(seed=0)
    with pytest.raises(SessionLost, match="planted at step 1"):
        env.step(0)


def test_an_episode_that_ends_before_its_failure_does_not_fail():
    env = FaultyEnv(QuizEnv(), kind="plain", seed=0, share=1.0)
    for _ in range(50):
        env.reset(seed=0)
        *_, terminated, _, info = env.step(LEAVE)
        assert terminated == (info["outcome"] == "ok")
    assert 0 < env.failures < 50
