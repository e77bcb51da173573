"""The built-in games, played: they are fair, repeatable, and reward driving rather than luck."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from raygym.catalog import load_catalog
from raygym.policies.baselines import RandomPolicy, ScriptedPolicy
from raygym.runtimes.flashgames.ruffle import ruffle_dir
from tests.support.flash_bench import FlashBench

ENV_IDS = ["flashgames.DuskDrive-v0", "flashgames.NeonRace-v0"]
FRAMES_A_DECISION = 2
SCRIPTED_SEEDS = (0,)
RANDOM_SEEDS = (0, 1)


class Player:
    """A game of the catalog on a bench."""

    def __init__(self, env_id: str, bench: FlashBench) -> None:
        self.game = load_catalog([]).games[env_id]
        self.spec = self.game.spec
        self.bench = bench
        self.decisions = int(self.spec.max_episode_s * self.spec.fps / FRAMES_A_DECISION) + 1

    def play(self, policy: RandomPolicy, seed: int, decisions: int | None = None) -> list[float]:
        """Returns the score after each decision of a policy that looks at nothing."""
        policy.reset(seed)
        self.bench.reset(seed)
        count = decisions or self.decisions
        plan = [self.spec.actions[policy.act(None, {})] for _ in range(count)]
        return self.bench.play(plan, FRAMES_A_DECISION)

    def hold(self, action: int, seed: int) -> float:
        """Returns the final score of holding one action down.

        An episode whose car stands still after three seconds of that is not played on.
        """
        keys = self.spec.actions[action]
        self.bench.reset(seed)
        self.bench.play([keys] * 15, 5)
        report = self.bench.step(keys, 1)
        if report["state"]["speed"] == 0:
            return report["score"]
        return self.bench.play([keys] * (self.decisions // 2), 5)[-1]

    def drive(self, seed: int) -> list[float]:
        """Returns the score after each decision of the scripted driver."""
        policy = ScriptedPolicy(self.spec.id)
        policy.reset(seed)
        report = self.bench.reset(seed)
        scores = []
        while not report["over"]:
            action = policy.act(None, {"game_state": report["state"]})
            report = self.bench.step(self.spec.actions[action], FRAMES_A_DECISION)
            scores.append(report["score"])
        return scores


@pytest.fixture(scope="module", params=ENV_IDS)
def player(request):
    swf: Path = load_catalog([]).games[request.param].swf
    with FlashBench(swf, ruffle_dir(), is_drawing=False) as bench:
        yield Player(request.param, bench)


@pytest.fixture(scope="module")
def driven(player):
    """The scripted driver's scores, one list an episode."""
    return [player.drive(seed) for seed in SCRIPTED_SEEDS]


def test_the_scripted_driver_reaches_the_ceiling_of_the_catalog(player, driven):
    mean = statistics.mean(scores[-1] for scores in driven)
    assert mean == pytest.approx(player.spec.score_ceiling, rel=0.25)


def test_a_score_never_falls_and_rises_often(player, driven):
    steps = [later - earlier for scores in driven for earlier, later in pairwise(scores)]
    assert min(steps) >= 0
    assert sum(step > 0 for step in steps) > 0.5 * len(steps)


def test_an_episode_ends_in_time(player, driven):
    for scores in driven:
        assert len(scores) * FRAMES_A_DECISION <= player.spec.max_episode_s * player.spec.fps + 1


def test_a_random_policy_stays_below_a_tenth_of_the_ceiling(player):
    policy = RandomPolicy(len(player.spec.actions))
    scores = [player.play(policy, seed)[-1] for seed in RANDOM_SEEDS]
    assert statistics.mean(scores) < 0.1 * player.spec.score_ceiling
    assert statistics.mean(scores) == pytest.approx(player.spec.score_floor, rel=1.0)
    assert max(scores) > 0


def test_holding_any_one_action_stays_below_a_third_of_the_ceiling(player):
    scores = [player.hold(action, seed=0) for action in range(len(player.spec.actions))]
    assert max(scores) < 0.35 * player.spec.score_ceiling


def test_the_same_seed_and_keys_give_the_same_scores_and_another_seed_others(player):
    policy = RandomPolicy(len(player.spec.actions))
    first = player.play(policy, seed=5, decisions=60)
    state = player.bench.evaluate("player.raygymState()")
    assert player.play(policy, seed=5, decisions=60) == first
    assert player.bench.evaluate("player.raygymState()") == state
    assert player.play(policy, seed=6, decisions=60) != first


def test_after_the_end_the_game_stands_still_until_the_next_reset(player):
    player.bench.reset(0)
    player.bench.play([[]] * (player.decisions // 2 + 1), 5)
    ended = player.bench.step([], 1)
    assert ended["over"]
    assert player.bench.step(["ArrowUp"], 10) == ended
    fresh = player.bench.reset(1)
    assert (fresh["score"], fresh["over"], fresh["frame"]) == (0, False, 0)
    assert player.bench.step(["ArrowUp"], 1)["frame"] == 1


def test_the_state_is_a_flat_object_of_numbers(player):
    state = player.bench.reset(2)["state"]
    assert len(state) > 10
    assert all(isinstance(value, int | float) for value in state.values())
