"""Deadlines and pauses."""

from __future__ import annotations

from typing import Any

import pytest

from raygym.errors import ConfigError
from raygym.vector.supervision import Supervision


def test_pauses_double_up_to_the_longest() -> None:
    supervision = Supervision(first_retry_s=0.5, longest_retry_s=3.0, quarantine_after=9)
    assert [supervision.retry_after_s(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_quarantined_slot_pauses_longest() -> None:
    supervision = Supervision(first_retry_s=0.5, longest_retry_s=30.0, quarantine_after=2)
    assert supervision.retry_after_s(2) == 30.0


def test_an_outage_of_any_length_keeps_the_longest_pause() -> None:
    supervision = Supervision(first_retry_s=0.5, longest_retry_s=30.0, quarantine_after=10**9)
    assert supervision.retry_after_s(10**6) == 30.0


@pytest.mark.parametrize(
    "setting",
    [
        {"step_timeout_s": 0.0},
        {"reset_timeout_s": float("nan")},
        {"first_retry_s": -1.0},
        {"first_retry_s": 31.0},
        {"longest_retry_s": 0.0},
        {"slow_factor": 1.0},
        {"quarantine_after": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Supervision"):
        Supervision(**setting)
