from __future__ import annotations

import pytest

from raygym.remote_env.lag import LagMeter
from raygym.wire.timing import TimingMark

NOW_S = 1_700_000_000.0


def mark(painted_s: float, input_s: float = NOW_S - 50, count: int = 0) -> TimingMark:
    def stamp(seconds: float) -> int:
        return round(seconds * 1000) % 2**32

    return TimingMark(stamp(painted_s), stamp(input_s), count % 256)


def action_ms(meter: LagMeter, now_s: float = NOW_S + 1) -> float | None:
    return meter.lag(now_s, 0.0, None).action_ms


def test_nothing_is_measured_before_anything_was_seen() -> None:
    lag = LagMeter().lag(NOW_S, 0.0, None)
    assert (lag.observation_ms, lag.action_ms, lag.reward_ms, lag.thinking_ms) == (None,) * 4
    assert lag.reaction_ms is None


@pytest.mark.parametrize("skew_s", [0.0, 2.5, -3.0])
def test_the_observation_lag_is_the_age_of_the_frame_without_the_skew(skew_s: float) -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S + skew_s - 0.030), skew_s)
    assert meter.lag(NOW_S, skew_s, None).observation_ms == pytest.approx(30, abs=1)


def test_an_unreadable_strip_leaves_what_was_seen_before() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S - 0.030), 0.0)
    meter.seen(None, 0.0)
    assert meter.lag(NOW_S, 0.0, None).observation_ms == pytest.approx(30, abs=1)


def test_without_a_known_skew_no_lag_between_the_ends_is_told() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S), None)
    lag = meter.lag(NOW_S, None, NOW_S)
    assert (lag.observation_ms, lag.reward_ms) == (None, None)


@pytest.mark.parametrize("skew_s", [0.0, 2.5, -3.0])
def test_the_action_lag_is_the_way_of_an_event(skew_s: float) -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S + skew_s, count=7), skew_s)
    meter.sent(1, NOW_S + 0.100)
    meter.seen(mark(NOW_S + skew_s + 0.140, NOW_S + skew_s + 0.112, count=8), skew_s)
    lag = meter.lag(NOW_S + 0.2, skew_s, None)
    assert lag.action_ms == pytest.approx(12, abs=1)


def test_a_lag_longer_than_a_step_is_matched_with_its_own_event() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S, count=255), 0.0)
    for step in range(5):
        meter.sent(1, NOW_S + step * 0.04)
    meter.seen(mark(NOW_S + 0.2, NOW_S + 0.14, count=256), 0.0)
    assert action_ms(meter) == pytest.approx(140, abs=1)
    meter.seen(mark(NOW_S + 0.25, NOW_S + 0.22, count=258), 0.0)
    assert action_ms(meter) == pytest.approx(140, abs=1)


def test_events_of_others_spoil_no_measurement() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S, count=0), 0.0)
    meter.sent(1, NOW_S)
    meter.seen(mark(NOW_S + 0.05, NOW_S + 0.04, count=3), 0.0)
    assert action_ms(meter) is None
    meter.sent(1, NOW_S + 0.1)
    meter.seen(mark(NOW_S + 0.15, NOW_S + 0.11, count=4), 0.0)
    assert action_ms(meter) == pytest.approx(10, abs=1)


def test_an_event_that_never_arrives_is_given_up() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S, count=0), 0.0)
    meter.sent(1, NOW_S)
    assert action_ms(meter, NOW_S + 3) is None
    meter.sent(1, NOW_S + 3)
    meter.seen(mark(NOW_S + 3.1, NOW_S + 3.02, count=1), 0.0)
    assert action_ms(meter, NOW_S + 4) == pytest.approx(20, abs=1)


def test_a_measured_action_lag_grows_old() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S, count=0), 0.0)
    meter.sent(1, NOW_S)
    meter.seen(mark(NOW_S + 0.1, NOW_S + 0.02, count=1), 0.0)
    assert action_ms(meter, NOW_S + 9) is not None
    assert action_ms(meter, NOW_S + 11) is None


def test_a_probe_is_wanted_after_a_second_without_keys_and_only_with_a_strip() -> None:
    meter = LagMeter()
    assert not meter.wants_probe(NOW_S)
    meter.seen(mark(NOW_S), 0.0)
    assert meter.wants_probe(NOW_S)
    meter.sent(2, NOW_S)
    assert not meter.wants_probe(NOW_S + 0.9)
    assert meter.wants_probe(NOW_S + 1.1)


def test_the_reward_lag_is_the_age_of_its_message_without_the_skew() -> None:
    lag = LagMeter().lag(NOW_S, 5.0, NOW_S + 5.0 - 0.008)
    assert lag.reward_ms == pytest.approx(8, abs=0.01)


def test_thinking_is_the_time_between_two_steps() -> None:
    meter = LagMeter()
    meter.called(NOW_S)
    meter.returned(NOW_S + 0.04)
    meter.called(NOW_S + 0.046)
    assert meter.lag(NOW_S + 0.1, 0.0, None).thinking_ms == pytest.approx(6, abs=0.01)


def test_the_reaction_time_adds_up_all_three() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S, count=0), 0.0)
    meter.returned(NOW_S)
    meter.called(NOW_S + 0.005)
    meter.sent(1, NOW_S + 0.005)
    meter.seen(mark(NOW_S + 0.030, NOW_S + 0.010, count=1), 0.0)
    assert meter.lag(NOW_S + 0.040, 0.0, None).reaction_ms == pytest.approx(20, abs=2)


def test_lags_are_never_negative() -> None:
    meter = LagMeter()
    meter.seen(mark(NOW_S + 0.5), 0.0)
    assert meter.lag(NOW_S, 0.0, NOW_S + 1).observation_ms == 0.0
