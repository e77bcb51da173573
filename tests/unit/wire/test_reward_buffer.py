from __future__ import annotations

import pytest

from raygym.wire.reward_buffer import RewardBuffer


@pytest.fixture
def buffer() -> RewardBuffer:
    """A buffer that counts episode 1."""
    buffer = RewardBuffer()
    buffer.unmask(1)
    return buffer


def _add(buffer: RewardBuffer, episode: int, reward: float, *, done: bool = False, **info) -> None:
    buffer.reward(episode, reward, is_done=done, info=info, sent_at_s=100.0 + reward)


def test_rewards_between_two_looks_are_summed(buffer):
    _add(buffer, 1, 1.0)
    _add(buffer, 1, 2.5)

    batch = buffer.pop()

    assert (batch.reward, batch.done, batch.count, batch.episode_id) == (3.5, False, 2, "1")
    assert batch.newest_sent_at_s == 102.5


def test_a_look_takes_what_it_returns(buffer):
    _add(buffer, 1, 1.0)
    buffer.pop()
    assert buffer.pop().reward == 0.0
    assert buffer.pop().newest_sent_at_s is None


def test_nothing_counts_before_the_first_reset():
    buffer = RewardBuffer()
    _add(buffer, 0, 5.0)
    batch = buffer.pop()
    assert (batch.reward, batch.episode_id) == (0.0, None)


def test_rewards_of_the_episode_before_a_reset_are_dropped(buffer):
    buffer.mask()
    _add(buffer, 1, 5.0)
    _add(buffer, 2, 1.0)
    buffer.unmask(2)
    assert buffer.pop().reward == 1.0


def test_a_look_never_crosses_the_end_of_an_episode(buffer):
    _add(buffer, 1, 1.0, done=True)
    _add(buffer, 2, 10.0)

    first, second = buffer.pop(), buffer.pop()

    assert (first.reward, first.done, first.episode_id) == (1.0, True, "1")
    assert first.info["env_status.complete.episode_id"] == "1"
    assert (second.reward, second.done, second.episode_id) == (10.0, False, "2")


def test_an_end_is_reported_once_even_if_the_next_episode_comes_later(buffer):
    _add(buffer, 1, 1.0, done=True)
    assert buffer.pop().done
    assert not buffer.pop().done
    buffer.described(2)
    _add(buffer, 2, 3.0)
    batch = buffer.pop()
    assert (batch.reward, batch.done, batch.episode_id) == (3.0, False, "2")


def test_episodes_that_nobody_looked_at_are_skipped(buffer):
    _add(buffer, 1, 1.0, done=True)
    _add(buffer, 2, 2.0, done=True)
    _add(buffer, 3, 3.0)
    assert buffer.pop().episode_id == "1"
    assert buffer.pop().episode_id == "3"


def test_a_newer_episode_without_an_end_of_the_older_makes_one_up(buffer):
    _add(buffer, 1, 1.0)
    buffer.described(2)
    batch = buffer.pop()
    assert batch.done
    assert batch.info["env_status.artificial.done"] is True
    assert batch.reward == 1.0


def test_infos_are_merged_by_universe_s_rules(buffer):
    _add(buffer, 1, 0.0, **{"stats.hits": 1, "stats.gauges.speed": 10, "reason": "a"})
    _add(buffer, 1, 0.0, **{"stats.hits": 2, "stats.gauges.speed": 20, "reason": "b"})
    assert buffer.pop().info == {"stats.hits": 3, "stats.gauges.speed": 20, "reason": "b"}


def test_texts_are_listed_in_order(buffer):
    buffer.text(1, "one")
    buffer.text(1, {"instruction": "two"})
    assert buffer.pop().texts == ["one", {"instruction": "two"}]
    assert buffer.pop().texts == []


def test_at_an_end_the_texts_are_those_of_the_new_episode(buffer):
    buffer.text(1, "old")
    _add(buffer, 1, 1.0, done=True)
    buffer.text(2, "new")
    assert buffer.pop().texts == ["new"]
    assert buffer.pop().texts == []
