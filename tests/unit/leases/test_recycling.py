from __future__ import annotations

import pytest

from raygym.errors import ConfigError
from raygym.leases.recycling import Recycling, Wear


def after(episodes: list[tuple[int, float]], memory_mib: float | None = None) -> Wear:
    wear = Wear()
    for steps, seconds in episodes:
        wear = wear.after_episode(steps, seconds, memory_mib)
    return wear


def test_without_limits_nothing_is_worn():
    assert after([(100, 1.0)] * 20).reason(Recycling()) is None


def test_a_remote_is_worn_once_it_played_its_episodes():
    limits = Recycling(episodes=3)
    assert after([(10, 1.0)] * 2).reason(limits) is None
    assert after([(10, 1.0)] * 3).reason(limits) == "it played 3 episodes"


def test_memory_counts_from_the_first_measurement():
    limits = Recycling(memory_mib=100)
    wear = after([(10, 1.0)]).after_episode(10, 1.0, 300.0).after_episode(10, 1.0, 399.0)
    assert wear.reason(limits) is None
    wear = wear.after_episode(10, 1.0, 400.0)
    assert wear.reason(limits) == "its memory grew from 300 to 400 MiB"
    assert wear.after_episode(10, 1.0, None).reason(limits) is not None


def test_a_lasting_slowdown_is_seen_against_the_first_200_steps():
    limits = Recycling(slowdown=2.0)
    well = [(100, 1.0)] * 7
    assert after(well).slowdown() == pytest.approx(1.0)
    assert after([*well, (100, 9.0), (100, 9.0)]).reason(limits) is None
    worn = after([*well, *[(100, 2.0)] * 3])
    assert worn.reason(limits) == "a step takes 2.0 times as long as at first"


def test_episodes_without_steps_tell_no_latency():
    wear = after([(0, 0.0)] * 9 + [(200, 2.0)] + [(0, 1.0)] * 9)
    assert wear.episodes == 19
    assert wear.slowdown() is None


def test_steps_that_took_no_time_at_first_tell_no_slowdown():
    assert after([(200, 0.0)] + [(10, 1.0)] * 5).slowdown() is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("episodes", 0), ("memory_mib", 0.0), ("slowdown", 1.0), ("slowdown", float("nan"))],
)
def test_a_limit_that_makes_no_sense_names_its_field(field, value):
    with pytest.raises(ConfigError, match=rf"Recycling\.{field}.*{value!r}"):
        Recycling(**{field: value})
