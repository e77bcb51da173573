from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raygym.core import OUTCOMES, Outcome, Rollout
from raygym.errors import ConfigError
from raygym.service.reports import Claim
from raygym.service.slot_sampler import SlotSampler
from raygym.service.spectators import Spectators
from raygym.vector.inline_slots import InlineSlots
from tests.support.clocks import Clock
from tests.support.fake_slots import FakePolicy, FakeSlots
from tests.support.fake_spectator import FakeSpectator


def make_sampler(slots: FakeSlots, policy: FakePolicy | None = None, **settings: Any):
    return SlotSampler(slots, policy or FakePolicy(), **{"rollout_steps": 4, **settings})


def seen(rollout: Rollout) -> dict[int, list[tuple[int, ...]]]:
    """By slot, the (episode, step) of each row."""
    assert rollout.traces is not None
    return {
        int(slot): [(int(e), int(s)) for e, s in rollout.observations[:, column, 1:]]
        for column, slot in enumerate(rollout.traces.slots)
    }


def expected(rows: int, episode_steps: int) -> list[tuple[int, int]]:
    return [divmod(row, episode_steps) for row in range(rows)]


def test_a_rollout_holds_what_each_slot_saw_did_and_got():
    policy = FakePolicy()
    sampler = make_sampler(FakeSlots(3, episode_steps=3), policy, reward_scale=0.5)
    policy.weights_version = 7
    rollout = sampler.collect()
    assert rollout is not None
    assert rollout.observations.shape == (4, 3, 3)
    assert seen(rollout) == {slot: expected(4, 3) for slot in range(3)}
    assert rollout.actions.dtype == np.int64
    assert rollout.actions.tolist() == [[0] * 3, [1] * 3, [2] * 3, [0] * 3]
    assert rollout.rewards.tolist() == [[0.5] * 3, [1.0] * 3, [1.5] * 3, [0.5] * 3]
    assert rollout.terminated.tolist() == [[False] * 3, [False] * 3, [True] * 3, [False] * 3]
    assert not rollout.truncated.any()
    assert rollout.mask.all()
    assert rollout.values.tolist() == [[0.0] * 3, [1.0] * 3, [2.0] * 3, [0.0] * 3]
    assert rollout.last_observation.tolist() == [[slot, 1, 1] for slot in range(3)]
    assert rollout.weights_version == 7
    assert rollout.extras["logits"].shape == (4, 3, 4)
    assert rollout.extras["logits"][:, 0, 0].tolist() == [0.0, 1.0, 2.0, 0.0]


def test_the_dtypes_are_those_of_the_docs():
    rollout = make_sampler(FakeSlots(2)).collect()
    traces = rollout.traces
    for array in (rollout.log_probabilities, rollout.values, rollout.rewards, traces.lag_ms):
        assert array.dtype == np.float32
    for array in (rollout.terminated, rollout.truncated, rollout.mask):
        assert array.dtype == np.bool_
    assert rollout.observations.dtype == np.float32
    assert traces.outcomes.dtype == np.uint8
    assert traces.weights_versions.dtype == traces.slots.dtype == np.int64
    assert traces.remotes.dtype == traces.leases.dtype == np.int32
    assert traces.lag_ms.shape == (4, 2, 4)


def test_the_next_rollout_goes_on_where_the_last_one_stopped():
    sampler = make_sampler(FakeSlots(2, episode_steps=3))
    first, second = sampler.collect(), sampler.collect()
    both = np.concatenate([first.observations, second.observations])[:, 0, 1:]
    assert [tuple(row) for row in both] == expected(8, 3)
    assert first.last_observation.tolist() == second.observations[0].tolist()


def test_the_recurrent_state_starts_at_zero_with_each_episode_and_is_kept_at_a_rollouts_start():
    sampler = make_sampler(FakeSlots(1, episode_steps=6))
    assert sampler.collect().initial_state[0].tolist() == [[0.0]]
    assert sampler.collect().initial_state[0].tolist() == [[4.0]]
    assert sampler.collect().initial_state[0].tolist() == [[2.0]]


def test_a_truncated_step_keeps_the_value_of_the_observation_that_it_ended_on():
    rollout = make_sampler(FakeSlots(1, episode_steps=3, is_cut=True)).collect()
    assert rollout.truncated[:, 0].tolist() == [False, False, True, False]
    assert not rollout.terminated.any()
    assert rollout.final_values[:, 0].tolist() == [0.0, 0.0, 100 + 3 + 1000 * 3, 0.0]
    assert rollout.final_observations is not None
    assert rollout.final_observations.shape[0] == 1
    assert rollout.final_observations.max() == 3


def test_what_cut_episodes_ended_on_goes_with_their_columns_only():
    sampler = make_sampler(FakeSlots(2, episode_steps=3, is_cut=True))
    for _ in range(3):
        rollout = sampler.collect()
        assert rollout.final_observations is not None
        assert len(rollout.final_observations) == rollout.is_cut.sum()


def test_a_failed_step_is_masked_and_neither_an_end_nor_valued():
    def info(slot: int, episode: int, step: int) -> Mapping[str, Any]:
        is_it = (slot, episode, step) == (1, 0, 2)
        return {"outcome": "infra_failure", "reason": "lost"} if is_it else {}

    sampler = make_sampler(FakeSlots(2, episode_steps=9, info=info))
    rollout = sampler.collect()
    assert rollout.mask[:, 1].tolist() == [True, False, True, True]
    assert rollout.mask[:, 0].all()
    assert rollout.truncated[:, 1].tolist() == [False, True, False, False]
    assert rollout.rewards[:, 1].tolist() == [1.0, 0.0, 1.0, 2.0]
    assert not rollout.terminated.any()
    assert not rollout.final_values.any()
    codes = rollout.traces.outcomes[:, 1]
    assert [OUTCOMES[code] for code in codes][1] is Outcome.INFRA_FAILURE
    assert rollout.traces.episodes[:, 1].tolist() == [0, 0, 1, 1]
    report = sampler.reports()[1]
    (episode,) = report.episodes
    assert report.fabricated_zeros == 0
    assert (episode.outcome, episode.reason) == (Outcome.INFRA_FAILURE, "lost")
    assert (episode.steps, episode.score) == (2, 1.0)


def test_a_failed_step_that_is_not_masked_is_counted(monkeypatch):
    def info(slot: int, episode: int, step: int) -> Mapping[str, Any]:
        return {"outcome": "timeout"} if (slot, step) == (1, 2) else {}

    sampler = make_sampler(FakeSlots(2, episode_steps=9, info=info))
    take = sampler._take

    def take_unmasked() -> Rollout:
        rollout = take()
        return replace(rollout, mask=np.ones_like(rollout.mask))

    monkeypatch.setattr(sampler, "_take", take_unmasked)
    sampler.collect()
    assert [report.fabricated_zeros for report in sampler.reports()] == [0, 2]
    assert [report.fabricated_zeros for report in sampler.reports()] == [0, 0]


def test_claims_in_first_infos_are_reported_once():
    def info(slot: int, episode: int, step: int) -> Mapping[str, Any]:
        if step or episode or slot:
            return {}
        return {"claim_s": 1.5, "claim_causes": "worn,start_failed"}

    sampler = make_sampler(FakeSlots(2, episode_steps=2, info=info))
    sampler.collect()
    claims = [report.claims for report in sampler.reports()]
    assert claims == [[Claim(seconds=1.5, causes=("worn", "start_failed"))], []]
    assert [report.claims for report in sampler.reports()] == [[], []]


def test_each_step_tells_the_weights_that_chose_it():
    policy = FakePolicy()
    slots = FakeSlots(2, episode_steps=50, pace=lambda slot, _: 1 + 2 * slot)
    sampler = make_sampler(slots, policy)
    first = sampler.collect(columns=1)
    policy.weights_version = 5
    second = sampler.collect(columns=1)
    third = sampler.collect()
    assert first.traces.slots.tolist() == second.traces.slots.tolist() == [0]
    assert first.traces.weights_versions.max() == 0
    assert second.traces.weights_versions.min() == 5
    versions = third.traces.weights_versions[:, third.traces.slots.tolist().index(1)]
    assert versions.tolist() == sorted(versions.tolist())
    assert set(versions.tolist()) == {0, 5}
    assert third.weights_version == 0


def test_lags_and_ids_stand_at_their_step():
    def info(slot: int, episode: int, step: int) -> Mapping[str, Any]:
        if slot == 0:
            return {}
        found = {"remote_id": f"r-{episode}", "lease_id": f"r-{episode}:{episode + 8}"}
        return {**found, "action_lag_ms": 2.5, "reaction_time_ms": None} if step else found

    sampler = make_sampler(FakeSlots(2, episode_steps=2, info=info))
    sampler.collect()
    traces = sampler.collect().traces
    assert traces.remotes[:, 0].tolist() == traces.leases[:, 0].tolist() == [-1] * 4
    assert [traces.remote_ids[n] for n in traces.remotes[:, 1]] == ["r-2", "r-2", "r-3", "r-3"]
    assert [traces.lease_ids[n] for n in traces.leases[:, 1]] == 2 * ["r-2:10"] + 2 * ["r-3:11"]
    assert traces.lag_ms[:, 1, 2].tolist() == [2.5] * 4
    assert np.isnan(traces.lag_ms[:, 1, :2]).all()
    assert np.isnan(traces.lag_ms[:, 0]).all()
    assert sampler.reports()[1].times_ms == {"action_lag_ms": [2.5] * 8}


def test_a_slow_slot_holds_nobody_where_fewer_columns_are_enough():
    slots = FakeSlots(3, episode_steps=50, pace=lambda slot, _: 100 if slot == 2 else 1)
    sampler = make_sampler(slots)
    taken = [sampler.collect(columns=2) for _ in range(5)]
    assert [r.traces.slots.tolist() for r in taken] == [[0, 1]] * 5
    both = np.concatenate([r.observations for r in taken])[:, 1, 1:]
    assert [tuple(row) for row in both] == expected(20, 50)
    assert len(slots.sent[2]) == 0


def test_lingering_waits_for_the_others_a_share_of_the_time_and_no_longer():
    clock = Clock()

    def pace(slot: int, answer: int) -> int:
        return 1 if slot < 2 or answer < 5 else 1000

    slots = FakeSlots(3, episode_steps=50, clock=clock, pace=pace)
    sampler = make_sampler(slots, clock=clock)
    assert sampler.collect(columns=1, linger=0.5).traces.slots.tolist() == [0, 1, 2]
    before_s = clock.now_s
    assert sampler.collect(columns=1, linger=0.5).traces.slots.tolist() == [0, 1]
    assert 4 <= clock.now_s - before_s <= 8


def test_a_slot_that_runs_ahead_fills_a_second_column_and_then_waits():
    slots = FakeSlots(2, episode_steps=99, pace=lambda slot, _: 1 if slot == 0 else 20)
    sampler = make_sampler(slots, runs_ahead=True)
    first = sampler.collect()
    assert first.traces.slots.tolist() == [0, 1]
    assert len(slots.sent[0]) == 8
    second = sampler.collect(columns=1)
    assert second.traces.slots.tolist() == [0]
    assert seen(first)[0] + seen(second)[0] == expected(8, 99)


def test_a_slot_waits_for_the_weights_of_the_next_rollout_unless_it_runs_ahead():
    slots = FakeSlots(2, episode_steps=99, pace=lambda slot, _: 1 if slot == 0 else 20)
    make_sampler(slots).collect()
    assert [len(sent) for sent in slots.sent] == [4, 4]


def test_a_timeout_gives_none_and_loses_nothing():
    clock = Clock()
    sampler = make_sampler(FakeSlots(2, episode_steps=3, clock=clock), clock=clock)
    answers = [sampler.collect(timeout_s=2.0) for _ in range(3)]
    assert answers[:2] == [None, None]
    rollout = answers[2] or sampler.collect()
    assert seen(rollout) == {slot: expected(4, 3) for slot in range(2)}


def test_a_handed_out_rollout_is_not_written_to_again():
    sampler = make_sampler(FakeSlots(2, episode_steps=3))
    first = sampler.collect()
    before = {name: np.array(getattr(first, name)) for name in ("observations", "rewards")}
    for _ in range(3):
        sampler.collect()
    for name, values in before.items():
        assert np.array_equal(getattr(first, name), values)


def test_all_columns_of_one_block_come_without_a_copy():
    sampler = make_sampler(FakeSlots(2))
    rollout = sampler.collect()
    assert rollout.observations.base is rollout.last_observation.base is not None
    assert rollout.observations.flags.c_contiguous


def test_actions_of_a_box_keep_its_dtype_and_shape():
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float16)
    policy = FakePolicy(actions=lambda seen: np.repeat(seen[:, 2:], 2, axis=1))
    slots = FakeSlots(2, action_space=space)
    rollout = make_sampler(slots, policy).collect()
    assert rollout.actions.dtype == np.float16
    assert rollout.actions.shape == (4, 2, 2)
    assert rollout.actions[:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_plain_tuple_and_a_policy_without_a_state_will_do():
    class Plain(FakePolicy):
        def act(self, observations: Any, state: Any) -> Any:
            return tuple(super().act(observations, state))[:4]

    rollout = make_sampler(FakeSlots(2), Plain(has_state=False)).collect()
    assert rollout.initial_state == ()
    assert rollout.extras == {}


def test_seeds_come_with_the_first_episode_and_after_a_failure():
    def info(slot: int, episode: int, step: int) -> Mapping[str, Any]:
        return {"outcome": "timeout"} if (slot, episode, step) == (0, 1, 1) else {}

    slots = FakeSlots(2, episode_steps=2, info=info)
    make_sampler(slots, rollout_steps=8, seed=3).collect()
    assert [seed is not None for seed in slots.seeds[0][:4]] == [True, False, True, False]
    assert slots.seeds[0][0] != slots.seeds[1][0]
    other = FakeSlots(2, episode_steps=2)
    make_sampler(other, rollout_steps=8, seed=3, first_slot=1, seeds_every_episode=True).collect()
    assert other.seeds[0][0] == slots.seeds[1][0]
    assert len(set(other.seeds[0])) == len(other.seeds[0])
    assert None not in other.seeds[0]


def test_a_run_is_the_same_for_a_seed_with_inline_slots():
    def play(seed: int) -> Rollout:
        slots = InlineSlots(lambda _: gymnasium.make("CartPole-v1"), 3)
        policy = FakePolicy(actions=lambda seen: (seen[:, 2] > 0).astype(np.int64))
        with_all = make_sampler(slots, policy, rollout_steps=64, seed=seed)
        try:
            with_all.collect()
            return with_all.collect()
        finally:
            with_all.close()

    first, again, other = play(1), play(1), play(2)
    assert np.array_equal(first.observations, again.observations)
    assert np.array_equal(first.terminated, again.terminated)
    assert not np.array_equal(first.observations, other.observations)
    assert first.terminated.any()


def test_episodes_are_counted_on_from_those_of_a_slots_former_life():
    slots, former = FakeSlots(2, episode_steps=3), FakeSlots(2, episode_steps=3)
    make_sampler(former).collect()
    rollout = make_sampler(slots, first_episodes=[7, 0]).collect()
    assert rollout.traces.episodes[:, 0].tolist() == [7, 7, 7, 8]
    assert rollout.traces.episodes[:, 1].tolist() == [0, 0, 0, 1]
    assert slots.seeds[0][0] != former.seeds[0][0]
    assert slots.seeds[1][0] == former.seeds[1][0]


def test_another_policy_takes_over_between_two_rollouts():
    sampler = make_sampler(FakeSlots(1, episode_steps=50))
    sampler.collect()
    policy = FakePolicy()
    policy.weights_version = 9
    sampler.set_policy(policy)
    rollout = sampler.collect()
    assert rollout.weights_version == 9
    assert rollout.initial_state[0].tolist() == [[4.0]]
    with pytest.raises(ConfigError, match="state"):
        sampler.set_policy(FakePolicy(has_state=False))


def test_reports_tell_what_happened_since_the_last_one():
    clock = Clock()
    slots = FakeSlots(2, episode_steps=3, clock=clock, info=lambda *_: {"stats": {"frames": 2}})
    sampler = make_sampler(slots, first_slot=10, clock=clock)
    sampler.collect()
    first, second = sampler.reports(), sampler.reports()
    assert [report.slot for report in first] == [10, 11]
    assert first[0].steps == 4
    assert first[0].counts == {"frames": 8.0}
    assert first[0].state == "running"
    (episode,) = first[1].episodes
    assert (episode.slot, episode.steps, episode.score) == (11, 3, 6.0)
    assert episode.duration_s == 3.0
    assert (second[0].steps, second[0].episodes) == (0, [])


def test_an_episode_that_ends_is_one_line_of_log(caplog):
    caplog.set_level("INFO", "raygym.service.episode_log")
    info = {"remote_id": "r-1", "lease_id": "r-1:4"}
    sampler = make_sampler(
        FakeSlots(1, episode_steps=3, info=lambda *_: info),
        env_id="Any-v0",
        spectators=Spectators(actor="rollouts-2"),
    )
    sampler.collect()
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(
        "episode.done env=Any-v0 slot=0 episode=0 rollout=rollouts-2-0 remote=r-1 lease=r-1:4 "
        "container=raygym-r-1 node=- steps=3 score=6 "
    )
    assert "outcome=ok" in line


def test_spectators_see_each_observation_episode_and_report():
    clock = Clock()
    guest = FakeSpectator()
    slots = FakeSlots(2, episode_steps=3, clock=clock)
    sampler = make_sampler(slots, first_slot=10, clock=clock, spectators=Spectators([guest]))
    sampler.collect()
    for slot in (0, 1):
        shown = [(int(e), int(s)) for seen, (_, e, s) in guest.frames if seen == 10 + slot]
        # The last observation of an episode is seen as well.
        assert shown == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)][: len(shown)]
        assert len(shown) >= 5
    assert guest.step_s[0] == 0.0
    assert all(step_s == 1.0 for step_s in guest.step_s if step_s)
    assert {record.slot for record in guest.records} <= {10, 11}
    assert guest.records
    reports = sampler.reports()
    assert guest.reports == reports
    sampler.close()
    assert guest.is_closed


def test_settings_without_sense_are_refused():
    with pytest.raises(ConfigError, match="rollout_steps: expected 1 or more"):
        make_sampler(FakeSlots(1), rollout_steps=0)
    with pytest.raises(ConfigError, match="columns: expected 1 to 2, got 3"):
        make_sampler(FakeSlots(2)).collect(columns=3)
    slots = FakeSlots(1)
    slots.single_observation_space = gymnasium.spaces.Dict(a=gymnasium.spaces.Discrete(2))
    with pytest.raises(ConfigError, match="flatten it"):
        make_sampler(slots)


def test_closing_closes_the_slots():
    slots = FakeSlots(1)
    make_sampler(slots).close()
    assert slots.is_closed


@settings(max_examples=30, deadline=None)
@given(data=st.data(), runs_ahead=st.booleans(), is_lingering=st.booleans())
def test_every_step_is_in_exactly_one_rollout_and_in_order(data, runs_ahead, is_lingering):
    count = data.draw(st.integers(1, 4))
    paces = data.draw(st.lists(st.integers(1, 9), min_size=count * 7, max_size=count * 7))
    clock = Clock()
    slots = FakeSlots(
        count,
        episode_steps=data.draw(st.integers(1, 7)),
        clock=clock,
        pace=lambda slot, answer: paces[slot * 7 + answer % 7],
    )
    sampler = make_sampler(slots, rollout_steps=3, runs_ahead=runs_ahead, clock=clock)
    rows: dict[int, list[tuple[int, ...]]] = {slot: [] for slot in range(count)}
    for _ in range(12):
        rollout = sampler.collect(
            columns=data.draw(st.integers(1, count)),
            timeout_s=data.draw(st.sampled_from([None, 0.0, 3.0])),
            linger=0.5 if is_lingering else 0.0,
        )
        for slot, steps in (seen(rollout) if rollout else {}).items():
            rows[slot] += steps
    for slot, steps in rows.items():
        assert steps == expected(len(steps), slots._episode_steps)
        assert len(slots.sent[slot]) - 7 < len(steps) <= len(slots.sent[slot])
