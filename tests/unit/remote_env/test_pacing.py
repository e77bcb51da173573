from __future__ import annotations

import math

import pytest

from raygym.errors import ConfigError
from raygym.remote_env.pacing import Pacer


def test_a_step_may_end_from_half_a_frame_before_its_deadline_to_one_after() -> None:
    pacer = Pacer(fps=10, frame_fps=50)
    pacer.start(5.0)
    window = pacer.window(5.01)
    assert window.deadline_s == pytest.approx(5.1)
    assert window.opens_s == pytest.approx(5.09)
    assert window.closes_s == pytest.approx(5.12)


def test_the_first_window_starts_the_schedule() -> None:
    assert Pacer(fps=10, frame_fps=10).window(3.0).deadline_s == pytest.approx(3.1)


def test_steps_keep_the_rate_whatever_the_thinking_takes() -> None:
    pacer = Pacer(fps=20, frame_fps=20)
    pacer.start(0.0)
    deadlines = []
    for thinking_s in (0.0, 0.04, 0.01, 0.03):
        window = pacer.window((deadlines[-1] if deadlines else 0.0) + thinking_s)
        deadlines.append(window.deadline_s)
        pacer.finish(window.deadline_s, window.deadline_s)
    assert deadlines == pytest.approx([0.05, 0.10, 0.15, 0.20])


def test_the_schedule_moves_to_the_phase_of_the_frames() -> None:
    pacer = Pacer(fps=25, frame_fps=25)
    pacer.start(0.0)
    phase_s = 0.015
    distance_s = math.inf
    for _ in range(60):
        window = pacer.window(0.0)
        index = math.ceil((window.opens_s - phase_s) / 0.04)
        arrived_s = index * 0.04 + phase_s
        distance_s = abs(arrived_s - window.deadline_s)
        pacer.finish(arrived_s, arrived_s)
    assert distance_s < 0.001


def test_each_frame_of_a_game_at_the_same_rate_ends_exactly_one_step() -> None:
    pacer = Pacer(fps=25, frame_fps=25)
    pacer.start(0.0)
    jitter_s = [0.0, 0.006, -0.004, 0.003, -0.006, 0.005, 0.0, -0.002] * 5
    frames = [0.04 * (i + 1) + j for i, j in enumerate(jitter_s)]
    used = []
    for _ in range(30):
        window = pacer.window(frames[used[-1]] if used else 0.0)
        newer = [i for i in range(len(frames)) if not used or i > used[-1]]
        used.append(next(i for i in newer if frames[i] >= window.opens_s))
        assert frames[used[-1]] <= window.closes_s
        pacer.finish(frames[used[-1]], frames[used[-1]])
    assert used == list(range(30))


def test_a_stall_is_not_caught_up() -> None:
    pacer = Pacer(fps=10, frame_fps=10)
    pacer.start(0.0)
    window = pacer.window(7.0)
    assert window.deadline_s == 7.0
    pacer.finish(7.0, None)
    assert pacer.window(7.0).deadline_s == pytest.approx(7.1)


def test_a_step_that_ends_late_leaves_the_next_at_least_half_a_period() -> None:
    pacer = Pacer(fps=10, frame_fps=10)
    pacer.start(0.0)
    pacer.window(0.0)
    pacer.finish(0.19, None)
    assert pacer.window(0.19).deadline_s == pytest.approx(0.24)


def test_without_a_rate_each_step_ends_at_the_next_frame() -> None:
    pacer = Pacer(fps=math.inf, frame_fps=50)
    pacer.start(1.0)
    window = pacer.window(1.001)
    assert window.opens_s <= 1.001
    assert window.closes_s == pytest.approx(1.021, abs=0.002)
    pacer.finish(1.015, 1.014)
    assert pacer.window(1.016).closes_s == pytest.approx(1.036, abs=0.002)


@pytest.mark.parametrize("fps", [0, -5, math.nan])
def test_a_rate_that_is_not_positive_is_refused(fps: float) -> None:
    with pytest.raises(ConfigError, match="fps"):
        Pacer(fps=fps, frame_fps=25)
