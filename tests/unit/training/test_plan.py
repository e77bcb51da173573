from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from raygym.errors import ConfigError
from raygym.policies.a3c import A3CConfig
from raygym.policies.batched import BatchedConfig
from raygym.training.config import BatchedFlags, TrainConfig
from raygym.training.factories import make_policy
from raygym.training.plan import default_reward_scale, make_plan
from raygym.training.presets import learner_count
from tests.support.plans import SPEC, tiny_plan


def addresses(plan) -> tuple[str, ...] | None:
    return plan.env_factory.args[0].addresses


def test_a_flash_game_is_seen_and_played_as_universe_starter_agent_did():
    plan = make_plan(TrainConfig(env="flashgames.NeonRace-v0", mode="realtime"))
    assert plan.network.observation_shape == (128, 200, 1)
    assert plan.network.action_count == len(plan.spec.actions)
    assert plan.fps == 12.5
    assert plan.workers == 2


def test_in_lock_step_a_flash_game_is_seen_smaller():
    plan = make_plan(TrainConfig(env="flashgames.NeonRace-v0"))
    assert plan.network.observation_shape == (72, 96, 1)
    assert (plan.mode, plan.frame_skip) == ("lockstep", 4)
    assert plan.pace() == "lock-step, 4 frames a step"


def test_another_environment_keeps_its_own_pace():
    plan = make_plan(TrainConfig(env="test.Catch-v0"))
    assert plan.network.observation_shape == (42, 42, 1)
    assert plan.network.action_count == 3
    assert plan.fps is None


def test_flags_change_size_colour_and_pace():
    plan = make_plan(
        TrainConfig(env="test.Catch-v0", height_px=20, width_px=30, colour=True, fps=10)
    )
    assert plan.network.observation_shape == (20, 30, 3)
    assert plan.fps == 10


def test_a_count_of_remotes_is_the_number_of_workers():
    plan = make_plan(TrainConfig(env="test.Catch-v0", remotes="3"))
    assert (plan.workers, addresses(plan)) == (3, None)
    with pytest.raises(ConfigError, match="--workers 4 and --remotes 3 disagree"):
        make_plan(TrainConfig(env="test.Catch-v0", remotes="3", workers=4))
    with pytest.raises(ConfigError, match="--num-slots 2 and --remotes 3 disagree"):
        make_plan(TrainConfig(env="test.Catch-v0", remotes="3", num_slots=2))


def test_few_workers_may_share_many_slots():
    plan = make_plan(TrainConfig(env="test.Catch-v0", num_slots=8, workers=2))
    assert (plan.workers, plan.actors) == (8, 2)
    assert make_plan(TrainConfig(env="test.Catch-v0", num_slots=3)).actors == 3
    with pytest.raises(ConfigError, match="--workers 4 share 2 slots"):
        make_plan(TrainConfig(env="test.Catch-v0", num_slots=2, workers=4))


def test_an_agent_without_memory_sees_several_frames_at_once():
    plan = make_plan(TrainConfig(env="flashgames.NeonRace-v0", algo="batched"))
    assert plan.network.observation_shape == (72, 96, 4)
    assert plan.network.core == "feedforward"
    assert plan.frame_stack == 4
    assert make_plan(TrainConfig(env="flashgames.NeonRace-v0")).network.core == "lstm"


def test_a_flash_game_in_lock_step_has_two_slots_a_core_where_learners_learn_in_batches():
    env = "flashgames.NeonRace-v0"
    lockstep = make_plan(TrainConfig(env=env, algo="batched"))
    assert (lockstep.workers, lockstep.batched.rollout_steps) == (4, 256)
    assert make_plan(TrainConfig(env=env, algo="batched", mode="realtime")).workers == 2
    assert make_plan(TrainConfig(env=env)).workers == 2


@pytest.mark.parametrize(
    "asked", [{"env": "CartPole-v1"}, {"env": "gym-core.CartPole-v1", "backend": "local"}]
)
def test_what_has_no_screen_is_not_played_in_real_time(asked):
    way = "--env gym-core.CartPole-v1 with --backend process or docker is played on one"
    with pytest.raises(ConfigError, match=rf"^--mode realtime: {asked['env']} is made.*; {way}$"):
        make_plan(TrainConfig(**asked, mode="realtime"))


def test_pong_is_seen_without_its_walls():
    plan = make_plan(
        TrainConfig(env="gym-core.PongDeterministic-v3", algo="batched", backend="local")
    )
    assert plan.observation is not None
    assert plan.observation.crop == (0, 34, 160, 160)
    assert plan.network.observation_shape == (40, 40, 4)
    assert (plan.workers, plan.network.action_count) == (32, 6)


def test_pong_s_network_ends_in_a_finer_map_than_that_of_others():
    configs = [
        TrainConfig(env=f"gym-core.{game}Deterministic-v3", algo="batched", backend="local")
        for game in ("Pong", "Breakout")
    ]
    assert [make_plan(one).own_network().conv_count for one in configs] == [3, 4]


def test_a3c_sees_several_frames_where_it_is_asked_to() -> None:
    config = TrainConfig(env="gym-core.PongDeterministic-v3", backend="local")
    plan = make_plan(config)
    assert plan.network is not None
    assert (plan.network.core, plan.network.observation_shape) == ("lstm", (42, 42, 1))
    plan = make_plan(replace(config, frame_stack=4))
    assert plan.network is not None
    assert (plan.network.core, plan.network.observation_shape) == ("feedforward", (40, 40, 4))
    assert (plan.workers, plan.actors) == (32, learner_count(32))


def test_an_id_of_gymnasiums_own_needs_no_remote():
    plan = make_plan(TrainConfig(env="CartPole-v1", algo="batched"))
    assert plan.backend.name == "local"
    assert plan.observation is None
    assert plan.network.observation_shape == (4,)
    assert plan.network.action_count == 2


@pytest.mark.parametrize(
    "given", [{"algo": "a3c"}, {"algo": "batched", "height_px": 42, "width_px": 42}]
)
@pytest.mark.parametrize("env", ["CartPole-v1", "gym-core.CartPole-v1"])
def test_pictures_of_what_shows_none_are_refused_with_what_to_do(env, given):
    with pytest.raises(ConfigError, match=r"in lock-step it shows Box\(.*--algo batched.*realtime"):
        make_plan(TrainConfig(env=env, **given))


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Blackjack-v1"])
def test_what_shows_neither_pictures_nor_vectors_is_sent_to_its_screen(env):
    with pytest.raises(
        ConfigError, match=r"step it shows .*\); with --env \S+ --mode realtime it is"
    ):
        make_plan(TrainConfig(env=env, algo="batched"))


def test_continuous_actions_are_refused_with_a_way_out():
    with pytest.raises(ConfigError, match="take Discrete actions, it has Box"):
        make_plan(TrainConfig(env="Pendulum-v1", algo="batched"))


def test_flags_change_single_constants_of_the_batched_learner():
    config = TrainConfig(
        env="CartPole-v1", algo="batched", batched=BatchedFlags(epochs=2, gamma=0.5)
    )
    changed = make_plan(config).batched
    usual = make_plan(replace(config, batched=BatchedFlags())).batched
    assert (changed.epochs, changed.gamma) == (2, 0.5)
    assert replace(changed, epochs=usual.epochs, gamma=usual.gamma) == usual


def test_each_flag_of_the_batched_learner_is_one_of_its_constants():
    wanted = BatchedConfig(
        gamma=0.5,
        gae_lambda=0.8,
        learning_rate=2e-4,
        anneal_steps=5000,
        final_learning_rate=1e-5,
        entropy_weight=0.02,
        final_entropy_weight=0.001,
        value_weight=0.25,
        clip=0.2,
        max_grad_norm=2.0,
        rollout_steps=64,
        epochs=2,
        minibatch_steps=32,
    )
    given = {field.name: getattr(wanted, field.name) for field in fields(BatchedFlags)}
    config = TrainConfig(env="CartPole-v1", algo="batched", batched=BatchedFlags(**given))
    planned = make_plan(config).batched
    assert {name: getattr(planned, name) for name in given} == given


def test_each_worker_gets_one_address_with_its_password():
    plan = make_plan(
        TrainConfig(env="test.Catch-v0", remotes="vnc://a:5900+15900,b:5901+15901?password=s%26t")
    )
    assert plan.workers == 2
    assert addresses(plan) == (
        "vnc://a:5900+15900?password=s%26t",
        "vnc://b:5901+15901?password=s%26t",
    )


def test_grpc_addresses_keep_their_scheme_and_token():
    plan = make_plan(
        TrainConfig(env="flashgames.NeonRace-v0", remotes="grpc://a:1,grpcs://b:2?token=s%26t")
    )
    assert addresses(plan) == ("grpc://a:1?password=s%26t", "grpcs://b:2?password=s%26t")
    assert (plan.mode, plan.frame_skip) == ("lockstep", 4)


def test_an_allocator_serves_as_many_workers_as_it_or_a_flag_says():
    remotes = "http://s%26t@a:8"
    for config, workers in (
        (TrainConfig(env="test.Catch-v0", remotes=f"{remotes}?n=3"), 3),
        (TrainConfig(env="test.Catch-v0", remotes=remotes, workers=2), 2),
    ):
        plan = make_plan(config)
        assert plan.workers == workers
        assert addresses(plan) is None
        assert plan.backend.name == "allocator"
        settings = plan.env_factory.args[0]
        assert settings.allocator == "http://a:8?address=public&token=s%26t"
        assert "s%26t" not in repr(settings)
        assert plan.make_kwargs["remotes"] == settings.allocator
    with pytest.raises(ConfigError, match="--workers 2 and n=3 in --remotes disagree"):
        make_plan(TrainConfig(env="test.Catch-v0", remotes=f"{remotes}?n=3", workers=2))
    plan = make_plan(TrainConfig(env="flashgames.NeonRace-v0", remotes=remotes))
    assert (plan.mode, plan.frame_skip) == ("lockstep", 4)


def test_too_few_addresses_are_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"--workers 2 needs as many addresses .* got 1"):
        make_plan(TrainConfig(env="test.Catch-v0", remotes="vnc://a:5900+15900", workers=2))


def test_an_unknown_environment_is_refused():
    with pytest.raises(ConfigError, match=r"unknown environment 'test\.Nothing-v0'"):
        make_plan(TrainConfig(env="test.Nothing-v0"))


def test_a_plan_pickles_for_the_actors():
    plan = make_plan(TrainConfig(env="test.Catch-v0"))
    again = pickle.loads(pickle.dumps(plan.env_factory))
    assert again.args == plan.env_factory.args


def test_rewards_are_scaled_down_to_a_ceiling_of_one_hundred_and_never_up():
    big = replace(SPEC, score_floor=0.0, score_ceiling=5000.0)
    assert default_reward_scale(big) == 0.02
    assert default_reward_scale(replace(SPEC, score_floor=-1.0, score_ceiling=1.0)) == 1.0
    assert default_reward_scale(replace(SPEC, score_floor=None)) == 1.0


def test_slots_draw_from_streams_of_their_own_and_a_saved_state_goes_on():
    network = tiny_plan().network

    def draws(seed: int, slot: int, state=None) -> list[float]:
        policy = make_policy(network, A3CConfig(), seed, slot, state)
        return list(policy.random.random(3))

    assert draws(1, 0) == draws(1, 0)
    assert draws(1, 0) != draws(1, 1)
    assert draws(1, 0) != draws(2, 0)
    state = np.random.default_rng(9).bit_generator.state
    assert draws(1, 0, state) == list(np.random.default_rng(9).random(3))


def test_an_environment_that_owns_its_time_is_played_in_real_time():
    plan = make_plan(TrainConfig(env="test.Catch-v0"))
    assert (plan.mode, plan.frame_skip) == ("realtime", None)
    assert plan.pace() == "real time, 50 steps a second"
