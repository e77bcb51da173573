"""SlotVectorEnv beside Gymnasium's SyncVectorEnv over the same environments."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

from raygym.errors import ConfigError, RemoteFailedToStart, StepTimeout
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.vector_env import SlotVectorEnv
from tests.support.fake_slots import FakeSlots
from tests.support.varied_env import SPACES, VariedEnv

MODES = list(AutoresetMode)


def both(
    mode: AutoresetMode, count: int = 3, observation: str = "box", action: str = "discrete"
) -> tuple[SlotVectorEnv, SyncVectorEnv]:
    factory = partial(VariedEnv, observation=observation, action=action)
    ours = SlotVectorEnv(InlineSlots(factory, count), autoreset_mode=mode)
    theirs = SyncVectorEnv([partial(factory, i) for i in range(count)], autoreset_mode=mode)
    return ours, theirs


def step_both(
    ours: SlotVectorEnv, theirs: SyncVectorEnv, steps: int, options: dict[str, Any] | None = None
) -> None:
    """Steps both and compares; resets what is over where nobody else does."""
    is_over = np.zeros(ours.num_envs, np.bool_)
    for _ in range(steps):
        if ours.autoreset_mode is AutoresetMode.DISABLED and is_over.any():
            mask = {"reset_mask": is_over}
            mine = ours.reset(options={**mask, **(options or {})})
            assert_equal(mine, theirs.reset(options={**mask, **(options or {})}))
        actions = ours.action_space.sample()
        mine, their = ours.step(actions), theirs.step(actions)
        assert_equal(mine, their)
        is_over = mine[2] | mine[3]


def assert_equal(mine: Any, their: Any) -> None:
    assert data_equivalence(mine, their), f"{mine}\nis not\n{their}"


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4), steps=st.integers(1, 12))
def test_each_row_is_that_of_gymnasiums_vector_environment(
    mode: AutoresetMode, seed: int, count: int, steps: int
) -> None:
    ours, theirs = both(mode, count)
    ours.action_space.seed(seed)
    assert_equal(ours.reset(seed=seed), theirs.reset(seed=seed))
    step_both(ours, theirs, steps)
    seeds = [seed, *[None] * (count - 1)]
    options = {"level": 2}
    assert_equal(ours.reset(seed=seeds, options=options), theirs.reset(seed=seeds, options=options))
    step_both(ours, theirs, 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SPACES)
def test_each_row_is_gymnasiums_for_any_spaces(mode: AutoresetMode, name: str) -> None:
    ours, theirs = both(mode, observation=name, action=name)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.action_space.seed(3)
    assert_equal(ours.reset(seed=3), theirs.reset(seed=3))
    step_both(ours, theirs, 10)


@pytest.mark.parametrize("mode", MODES)
def test_spaces_and_metadata_are_as_gymnasium_demands(mode: AutoresetMode) -> None:
    ours, theirs = both(mode)
    assert isinstance(ours, gymnasium.vector.VectorEnv)
    assert ours.metadata["autoreset_mode"] is mode
    assert SlotVectorEnv(ours.slots, autoreset_mode=mode.value).autoreset_mode is mode
    for name in ("num_envs", "single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    observations, infos = ours.reset(seed=1)
    assert observations in ours.observation_space
    assert observations.dtype == ours.observation_space.dtype
    assert isinstance(infos, dict)
    observations, rewards, terminated, truncated, infos = ours.step(ours.action_space.sample())
    assert observations in ours.observation_space
    assert (rewards.dtype, rewards.shape) == (np.float64, (3,))
    assert (terminated.dtype, terminated.shape) == (np.bool_, (3,))
    assert (truncated.dtype, truncated.shape) == (np.bool_, (3,))
    assert all(infos[f"_{key}"].shape == (3,) for key in infos if not key.startswith("_"))
    assert repr(ours) == "SlotVectorEnv(num_envs=3)"


def test_one_action_for_each_will_do_in_any_sequence() -> None:
    ours, theirs = both(AutoresetMode.NEXT_STEP)
    assert_equal(ours.reset(seed=1), theirs.reset(seed=1))
    assert_equal(ours.step([2, 3, 4]), theirs.step([2, 3, 4]))
    assert_equal(ours.step((2, 3, 4)), theirs.step((2, 3, 4)))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_returned_belongs_to_the_caller(mode: AutoresetMode) -> None:
    ours, theirs = both(mode)
    theirs.reset(seed=5)
    spoil(ours.reset(seed=5))
    kept = []
    for step in range(4):
        if mode is AutoresetMode.DISABLED and step == 2:
            mask = np.array([True, False, False])
            theirs.reset(options={"reset_mask": mask})
            spoil(ours.reset(options={"reset_mask": mask}))
        mine, their = ours.step([2, 3, 4]), theirs.step([2, 3, 4])
        assert_equal(mine, their)
        if step % 2:
            spoil(mine)
        else:
            kept.append((mine, their))
        if mode is AutoresetMode.DISABLED and step == 2:
            break
    for mine, their in kept:
        assert_equal(mine, their)


def test_rows_that_are_kept_over_a_reset_are_not_the_callers() -> None:
    ours, _ = both(AutoresetMode.DISABLED)
    ours.reset()
    stepped = ours.step([2, 2, 2])[0]
    kept = stepped.copy()
    spoil((stepped,))
    again, _ = ours.reset(options={"reset_mask": np.array([True, False, False])})
    assert (again[1:] == kept[1:]).all()


def spoil(returned: tuple[Any, ...]) -> None:
    for part in returned:
        if isinstance(part, np.ndarray):
            part[:] = 1


def test_a_mask_resets_some_and_keeps_the_others_observations() -> None:
    ours, theirs = both(AutoresetMode.DISABLED)
    first, _ = ours.reset(seed=[7, 8, 9])
    theirs.reset(seed=[7, 8, 9])
    actions = np.array([2, 2, 2])
    stepped = ours.step(actions)[0]
    theirs.step(actions)
    options = {"reset_mask": np.array([True, False, True]), "level": 1}
    again, infos = ours.reset(seed=[7, 8, 9], options=options)
    assert "reset_mask" in options, "the caller's options are the caller's"
    assert_equal((again, infos), theirs.reset(seed=[7, 8, 9], options=dict(options)))
    assert (again[1] == stepped[1]).all()
    assert again.shape == first.shape
    assert infos["_begun"].tolist() == [True, False, True]


@pytest.mark.parametrize(
    "mask",
    [
        np.array([False, False, False]),
        np.array([True]),
        np.array([True, True, False, False]),
        np.array([[True, True, True]]),
        np.array([1, 1, 0]),
        [True, True, True],
    ],
)
def test_a_mask_that_makes_no_sense_is_refused(mask: Any) -> None:
    ours, _ = both(AutoresetMode.DISABLED)
    ours.reset()
    with pytest.raises(ConfigError, match="reset_mask"):
        ours.reset(options={"reset_mask": mask})


def test_the_first_reset_must_be_of_all() -> None:
    ours, _ = both(AutoresetMode.DISABLED)
    with pytest.raises(ConfigError, match="never reset"):
        ours.reset(options={"reset_mask": np.array([True, False, True])})


def test_without_autoreset_a_step_after_an_end_is_refused() -> None:
    ours, _ = both(AutoresetMode.DISABLED)
    ours.reset()
    ours.step([2, 2, 2])
    assert ours.step([2, 2, 2])[2].tolist() == [True, False, False]
    with pytest.raises(ConfigError, match=r"slots \[0\] are over"):
        ours.step([2, 2, 2])


def test_a_step_before_a_reset_is_refused() -> None:
    ours, _ = both(AutoresetMode.NEXT_STEP)
    with pytest.raises(ConfigError, match="reset first"):
        ours.step([2, 2, 2])


@pytest.mark.parametrize("actions", [[2, 2], 2, [2, 2, 2, 2]])
def test_too_few_or_many_actions_are_refused(actions: Any) -> None:
    ours, _ = both(AutoresetMode.NEXT_STEP)
    ours.reset()
    with pytest.raises(ConfigError, match="each of 3"):
        ours.step(actions)


@pytest.mark.parametrize(
    ("setting", "match"),
    [({"autoreset_mode": "Never"}, "NextStep"), ({"batch_size": 4}, "1..3")],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SlotVectorEnv(FakeSlots(3), **setting)


def test_seeds_must_be_as_many_as_slots() -> None:
    with pytest.raises(ConfigError, match="expected 3 seeds, got 2"):
        SlotVectorEnv(FakeSlots(3)).reset(seed=[1, 2])


@pytest.mark.parametrize("wrapper", [RecordEpisodeStatistics, DictInfoToList])
def test_gymnasiums_wrappers_see_what_they_see_of_its_own(wrapper: Any) -> None:
    ours, theirs = (wrapper(env) for env in both(AutoresetMode.NEXT_STEP))
    assert_equal(ours.reset(seed=1), theirs.reset(seed=1))
    for _ in range(8):
        mine, their = ours.step([2, 3, 4]), theirs.step([2, 3, 4])
        for infos in (mine[4], their[4]):
            if wrapper is RecordEpisodeStatistics and isinstance(infos.get("episode"), dict):
                infos["episode"].pop("t")
        assert_equal(mine, their)


def failing(slot: int, episode: int, step: int) -> dict[str, Any]:
    is_bad = (slot, episode, step) == (1, 0, 2)
    return {"outcome": "env_failure", "reason": "it broke"} if is_bad else {}


def test_a_failure_is_told_of_its_slot_alone() -> None:
    env = SlotVectorEnv(FakeSlots(3, info=failing))
    env.reset()
    env.step([0, 0, 0])
    _, rewards, terminated, truncated, infos = env.step([0, 0, 0])
    assert truncated.tolist() == [False, True, False]
    assert not terminated.any()
    assert rewards.tolist() == [2.0, 0.0, 2.0]
    assert infos["outcome"].tolist() == [None, "env_failure", None]
    assert infos["reason"][1] == "it broke"
    assert infos["_outcome"].tolist() == [False, True, False]
    observations, rewards, *_, infos = env.step([0, 0, 0])
    assert observations[1].tolist() == [1, 1, 0], "reset by the next step"
    assert rewards.tolist() == [3.0, 0.0, 3.0]
    assert "outcome" not in infos


def test_a_failure_lies_in_the_final_info_where_the_same_step_resets() -> None:
    env = SlotVectorEnv(FakeSlots(3, info=failing), autoreset_mode="SameStep")
    env.reset()
    env.step([0, 0, 0])
    observations, _, _, truncated, infos = env.step([0, 0, 0])
    assert truncated.tolist() == [False, True, False]
    assert observations[1].tolist() == [1, 1, 0]
    assert infos["final_info"]["outcome"][1] == "env_failure"
    assert infos["_final_obs"].tolist() == [False, True, False]


def test_the_first_that_are_ready_come_first() -> None:
    slots = FakeSlots(4, pace=lambda slot, _: 5 if slot == 0 else 1)
    env = SlotVectorEnv(slots, batch_size=2)
    env.async_reset(seed=10)
    assert [seeds[0] for seeds in slots.seeds] == [10, 11, 12, 13]
    seen = []
    for _ in range(6):
        observations, rewards, terminated, truncated, infos = env.recv()
        ids = infos["env_id"]
        assert (ids.dtype, ids.shape) == (np.int64, (2,))
        assert observations[:, 0].tolist() == ids.tolist()
        assert rewards.shape == terminated.shape == truncated.shape == (2,)
        seen += ids.tolist()
        env.send(np.zeros(2, np.int64), ids)
    assert seen.count(0) < min(seen.count(slot) for slot in (1, 2, 3))


def test_send_goes_to_those_of_the_last_recv_where_nobody_is_named() -> None:
    slots = FakeSlots(4)
    env = SlotVectorEnv(slots, batch_size=2)
    env.async_reset()
    ids = env.recv()[4]["env_id"]
    env.send([1, 2])
    assert [slots.sent[slot] for slot in ids] == [[1], [2]]


def test_rows_that_came_beyond_the_batch_wait_for_the_next() -> None:
    env = SlotVectorEnv(FakeSlots(4), batch_size=3)
    env.async_reset()
    first = env.recv()
    env.send([0, 0, 0])
    second = env.recv()
    rest = ({0, 1, 2, 3} - set(first[4]["env_id"].tolist())).pop()
    row = second[4]["env_id"].tolist().index(rest)
    assert second[0][row].tolist() == [rest, 0, 0], "still its first observation"


def test_the_send_after_an_end_resets_in_first_ready_mode() -> None:
    slots = FakeSlots(2, episode_steps=2)
    env = SlotVectorEnv(slots, batch_size=1, autoreset_mode="SameStep")
    env.async_reset()
    rows: dict[int, list[tuple[list[float], float, bool]]] = {0: [], 1: []}
    for _ in range(8):
        observations, rewards, terminated, _, infos = env.recv()
        slot = int(infos["env_id"][0])
        rows[slot].append((observations[0].tolist(), rewards[0], bool(terminated[0])))
        env.send([3])
    assert rows[0][:4] == [
        ([0, 0, 0], 0.0, False),
        ([0, 0, 1], 1.0, False),
        ([0, 0, 2], 2.0, True),
        ([0, 1, 0], 0.0, False),
    ]


def test_infos_of_a_batch_have_a_place_for_each_row() -> None:
    env = SlotVectorEnv(
        FakeSlots(4, info=lambda slot, _, step: {"n": slot} if step else {}), batch_size=2
    )
    env.async_reset()
    ids = env.recv()[4]["env_id"]
    env.send([0, 0], ids)
    env.recv()
    infos = env.recv()[4]
    assert infos["n"].tolist() == infos["env_id"].tolist()
    assert infos["_n"].tolist() == [True, True]


def test_recv_gives_what_there_is_when_its_time_is_over() -> None:
    env = SlotVectorEnv(FakeSlots(3, pace=lambda slot, _: 10**9 if slot == 2 else 1))
    env.async_reset()
    observations, *_, infos = env.recv(timeout_s=2.0)
    assert sorted(infos["env_id"].tolist()) == [0, 1]
    assert observations.shape == (2, 3)
    with pytest.raises(ConfigError, match="1 rows are due, and batch_size is 3"):
        env.recv()


def test_waits_end_with_an_error_that_names_the_slots() -> None:
    slots = FakeSlots(3, pace=lambda slot, _: 10**9 if slot == 2 else 1)
    env = SlotVectorEnv(slots, longest_wait_s=2.0)
    with pytest.raises((RemoteFailedToStart, StepTimeout), match=r"slots \[2\] gave no answer"):
        env.reset()
    with pytest.raises(ConfigError, match="reset first"):
        env.step([0, 0, 0])


@pytest.mark.parametrize("ids", [[0, 0], [0, 4], [-1, 0]])
def test_ids_that_make_no_sense_are_refused(ids: list[int]) -> None:
    env = SlotVectorEnv(FakeSlots(4))
    env.async_reset()
    env.recv()
    with pytest.raises(ConfigError, match="env_id"):
        env.send([0, 0], ids)


def test_a_slot_that_still_owes_an_answer_takes_no_action() -> None:
    env = SlotVectorEnv(FakeSlots(2))
    env.async_reset()
    with pytest.raises(ConfigError, match="still owe"):
        env.send([0, 0])


def test_both_ways_take_turns_after_a_reset_of_their_own() -> None:
    slots = FakeSlots(2)
    env = SlotVectorEnv(slots)
    env.async_reset()
    with pytest.raises(ConfigError, match="reset first"):
        env.step([0, 0])
    observations, _ = env.reset()
    assert observations[:, 1].tolist() == [1, 1], "the second episode; the first was dropped"
    with pytest.raises(ConfigError, match="async_reset"):
        env.recv()
    env.step([0, 0])
    env.async_reset()
    assert env.recv()[0][:, 1].tolist() == [2, 2]


def test_close_ends_the_slots_once_and_what_was_given_along() -> None:
    slots, calls = FakeSlots(1), []
    env = SlotVectorEnv(slots, close_also=lambda: calls.append(slots.is_closed))
    env.close()
    env.close()
    assert calls == [True]
