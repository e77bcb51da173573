from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from raygym.core import Rollout
from raygym.rllib.episodes import EpisodeCutter
from tests.support.fake_rollouts import STATE, WIDTH, fake_rollout

OBSERVATIONS = gymnasium.spaces.Box(0, 1e6, (WIDTH,), np.float32)
ACTIONS = gymnasium.spaces.Discrete(2)
GAMMA, LAMBDA = 0.9, 0.8


def cutter(*, is_recurrent: bool = False) -> EpisodeCutter:
    part = np.zeros(STATE, np.float32)
    return EpisodeCutter(
        OBSERVATIONS, ACTIONS, state={"h": part, "c": part} if is_recurrent else None
    )


def seen(episode: SingleAgentEpisode) -> list[float]:
    return [float(one[0]) for one in episode.get_observations()]


def test_a_column_is_cut_where_episodes_end() -> None:
    first, second, third = cutter().cut(fake_rollout(["..T.T."]))

    assert [seen(e) for e in (first, second, third)] == [[0, 1, 2, 2], [3, 4, 4], [5, 6]]
    assert [e.is_terminated for e in (first, second, third)] == [True, True, False]
    assert not any(e.is_truncated for e in (first, second, third))
    assert len({e.id_ for e in (first, second, third)}) == 3
    assert first.get_rewards().tolist() == [1, 2, 3]
    assert second.get_actions().tolist() == [1, 0]
    assert first.is_numpy


def test_an_episode_that_goes_on_is_chained_under_one_id() -> None:
    cut = cutter()
    (first,) = cut.cut(fake_rollout(["..."]))
    (second,) = cut.cut(fake_rollout(["..."], first_step=3))
    (third, fourth) = cut.cut(fake_rollout([".T."], first_step=6))

    assert first.id_ == second.id_ == third.id_ != fourth.id_
    assert [e.t_started for e in (first, second, third, fourth)] == [0, 3, 6, 0]
    assert [e.is_done for e in (first, second, third, fourth)] == [False, False, True, False]
    assert seen(second) == [3, 4, 5, 6]


def test_columns_are_chained_by_their_slots_wherever_they_stand() -> None:
    cut = cutter()
    left, right = cut.cut(fake_rollout(["..", ".."], slots=[4, 9]))
    (again,) = cut.cut(fake_rollout([".."], first_step=2, slots=[9]))

    assert again.id_ == right.id_ != left.id_


def test_what_belongs_to_another_episode_is_not_chained() -> None:
    cut = cutter()
    (first,) = cut.cut(fake_rollout([".."]))
    (second,) = cut.cut(fake_rollout([".."], first_episodes=[5]))

    assert second.id_ != first.id_
    assert second.t_started == 0


def test_forgetting_begins_anew() -> None:
    cut = cutter()
    (first,) = cut.cut(fake_rollout([".."]))
    cut.forget()
    (second,) = cut.cut(fake_rollout([".."]))

    assert second.id_ != first.id_


def test_a_failed_step_is_left_out_and_the_episode_is_truncated_before_it() -> None:
    first, second = cutter().cut(fake_rollout(["..F.."]))

    assert seen(first) == [0, 1, 2]
    assert first.get_rewards().tolist() == [1, 2]
    assert first.is_truncated
    assert not first.is_terminated
    assert seen(second) == [3, 4, 5]


@pytest.mark.parametrize("column", ["F..", "FF."])
def test_an_episode_without_a_step_that_counts_is_none(column: str) -> None:
    (only,) = cutter().cut(fake_rollout([column]))

    assert len(only) == column.count(".")


def test_a_failure_at_a_seam_leaves_the_part_before_it_as_it_was() -> None:
    cut = cutter()
    (first,) = cut.cut(fake_rollout([".."]))
    (second,) = cut.cut(fake_rollout(["F."], first_step=2))

    assert not first.is_done
    assert second.id_ != first.id_
    assert second.t_started == 0


def test_a_time_limit_in_the_middle_bootstraps_from_the_last_observation_that_is_known() -> None:
    first, _ = cutter().cut(fake_rollout(["..C.."]))

    assert seen(first) == [0, 1, 2]
    assert first.is_truncated


def test_a_time_limit_in_the_middle_keeps_its_step_where_what_followed_was_kept() -> None:
    rollout = fake_rollout(["..C.C.", "T.C..."])
    kept = np.array([[91], [92], [93]], rollout.observations.dtype)
    shaped = np.broadcast_to(
        kept.reshape(3, *[1] * (rollout.observations.ndim - 2)),
        (3, *rollout.observations.shape[2:]),
    )
    first, second, _, _, cut, _ = cutter().cut(replace(rollout, final_observations=shaped))

    assert seen(first) == [0, 1, 2, 91]
    assert first.get_rewards().tolist() == [1, 2, 3]
    assert first.is_truncated
    assert seen(second) == [3, 4, 93]
    assert seen(cut)[-1] == 92


def test_a_time_limit_at_the_end_keeps_its_step_and_the_observation_after_it() -> None:
    (only,) = cutter().cut(fake_rollout(["..C"]))

    assert seen(only) == [0, 1, 2, 3]
    assert only.get_rewards().tolist() == [1, 2, 3]
    assert only.is_truncated


def test_a_failure_at_the_end_is_left_out_like_any_other() -> None:
    (only,) = cutter().cut(fake_rollout(["..F"]))

    assert seen(only) == [0, 1, 2]
    assert only.is_truncated


def test_each_step_keeps_its_weights_version_and_what_the_policy_said() -> None:
    rollout = fake_rollout(["T..."], version=7)
    _, second = cutter().cut(rollout)

    assert second.get_extra_model_outputs(WEIGHTS_SEQ_NO).tolist() == [8, 9, 10]
    assert second.get_extra_model_outputs(Columns.ACTION_LOGP).tolist() == [-0.5] * 3
    inputs = second.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
    assert np.array_equal(inputs, rollout.extras[Columns.ACTION_DIST_INPUTS][1:, 0])


def test_states_follow_the_steps_and_the_one_before_a_part_is_looked_back_to() -> None:
    cut = cutter(is_recurrent=True)
    (first,) = cut.cut(fake_rollout(["..."], is_recurrent=True))
    (second, third) = cut.cut(fake_rollout([".T."], first_step=3, is_recurrent=True))

    after = second.get_extra_model_outputs(Columns.STATE_OUT)
    assert after["c"][:, 0].tolist() == [4, 5]
    assert after["h"][:, 0].tolist() == [-4, -5]
    before = second.get_extra_model_outputs(Columns.STATE_OUT, -1, neg_index_as_lookback=True)
    assert before["c"].tolist() == [3, 3, 3]
    assert (first.t_started, second.t_started, third.t_started) == (0, 3, 0)


def test_a_part_whose_beginning_was_lost_does_not_count_as_a_beginning() -> None:
    (only,) = cutter(is_recurrent=True).cut(fake_rollout([".."], first_step=3, is_recurrent=True))

    assert only.t_started > 0


@pytest.fixture(scope="module")
def learner() -> Learner:
    config = PPOConfig().training(gamma=GAMMA, lambda_=LAMBDA)
    config.environment(None, observation_space=OBSERVATIONS, action_space=ACTIONS)
    config.debugging(seed=1)
    spaces = (OBSERVATIONS, ACTIONS)
    return config.build_learner(spaces={"__env__": spaces, "default_policy": spaces})


def targets(learner: Learner, episodes: list[SingleAgentEpisode]) -> Any:
    """Returns the value targets of the steps that count, by RLlib's own learner connectors."""
    batch = learner._learner_connector(
        rl_module=learner.module,
        batch={},
        episodes=episodes,
        shared_data={},
        metrics=learner.metrics,
    )["default_policy"]
    return batch["value_targets"].numpy()[batch[Columns.LOSS_MASK].numpy()]


def values(learner: Learner, observations: Any) -> Any:
    module = learner.module["default_policy"]
    with torch.no_grad():
        return module.compute_values({Columns.OBS: torch.from_numpy(observations)}).numpy()


def expected(rewards: list[float], values_and_last: Any, *, is_terminated: bool) -> list[float]:
    """Sums TD(lambda) backwards: G = r + gamma ((1 - lambda) V(next) + lambda G(next))."""
    returns: list[float] = []
    following = 0.0 if is_terminated else float(values_and_last[-1])
    value_after = following
    for reward, value in zip(reversed(rewards), reversed(values_and_last[:-1]), strict=True):
        following = reward + GAMMA * ((1 - LAMBDA) * value_after + LAMBDA * following)
        value_after = float(value)
        returns.append(following)
    return returns[::-1]


def scaled(rollout: Rollout) -> Rollout:
    return replace(
        rollout,
        observations=rollout.observations / 10,
        last_observation=rollout.last_observation / 10,
    )


def test_value_targets_bootstrap_from_the_observation_before_a_failed_step(
    learner: Learner,
) -> None:
    rollout = scaled(fake_rollout(["...F"]))
    got = targets(learner, cutter().cut(rollout))

    bootstrapped = values(learner, rollout.observations[:, 0])
    assert got == pytest.approx(expected([1, 2, 3], bootstrapped, is_terminated=False), rel=1e-4)


def test_value_targets_stop_at_an_end(learner: Learner) -> None:
    rollout = scaled(fake_rollout(["...T"]))
    got = targets(learner, cutter().cut(rollout))

    known = [*values(learner, rollout.observations[:, 0]), 0.0]
    assert got == pytest.approx(expected([1, 2, 3, 4], known, is_terminated=True), rel=1e-4)


def test_value_targets_are_the_same_whatever_a_failed_step_was_paid(learner: Learner) -> None:
    little = targets(learner, cutter().cut(scaled(fake_rollout(["..F..F."], failed_reward=0))))
    much = targets(learner, cutter().cut(scaled(fake_rollout(["..F..F."], failed_reward=1e6))))

    assert np.array_equal(little, much)


def test_a_failed_step_would_be_seen_in_the_value_targets_if_it_were_not_masked(
    learner: Learner,
) -> None:
    rollout = scaled(fake_rollout(["...F"]))
    unmasked = replace(rollout, mask=np.ones_like(rollout.mask))

    assert targets(learner, cutter().cut(unmasked)).max() > 1e5
