"""How long a slot may take, and how often it is tried again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raygym.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """When a slot is cut and its environment made anew."""

    step_timeout_s: float = 75.0
    """A slot silent for longer within a step is cut (outcome ``timeout``)."""
    reset_timeout_s: float = 120.0
    """Longest time to make an environment, and to reset it."""
    slow_factor: float | None = None
    """A slot whose mean time of a step grew beyond so many times the median of the others, or
    its own first mean where there are too few of them, is cut (outcome ``timeout``) and
    replaced; None for never."""
    first_retry_s: float = 0.5
    """Pause after the first failed start or reset; each further one doubles it."""
    longest_retry_s: float = 30.0
    """The longest such pause."""
    quarantine_after: int = 5
    """Failures in a row from which a slot counts as quarantined: it is tried only after the
    longest pause, and its error is logged once."""

    def __post_init__(self) -> None:
        for name in ("step_timeout_s", "reset_timeout_s", "longest_retry_s"):
            value = getattr(self, name)
            if not value > 0 or math.isnan(value):
                raise ConfigError(f"Supervision.{name}: expected more than 0 s, got {value!r}")
        if not 0 <= self.first_retry_s <= self.longest_retry_s:
            raise ConfigError(
                f"Supervision.first_retry_s: expected 0..{self.longest_retry_s} s "
                f"(longest_retry_s), got {self.first_retry_s!r}"
            )
        if self.slow_factor is not None and not self.slow_factor > 1:
            raise ConfigError(
                f"Supervision.slow_factor: expected None or more than 1, got {self.slow_factor!r}"
            )
        if self.quarantine_after < 1:
            raise ConfigError(
                f"Supervision.quarantine_after: expected 1 or more, got {self.quarantine_after!r}"
            )

    def retry_after_s(self, failures_in_a_row: int) -> float:
        """Returns the pause before the next try.

        Args:
            failures_in_a_row: How many tries failed since the last that did not, from 1.
        """
        if failures_in_a_row >= self.quarantine_after:
            return self.longest_retry_s
        return doubling_pause_s(self.first_retry_s, self.longest_retry_s, failures_in_a_row)


def doubling_pause_s(first_s: float, longest_s: float, failures_in_a_row: int) -> float:
    """Returns the pause after a failure: ``first_s``, doubled with each further failure.

    Args:
        first_s: The pause after the first, in seconds.
        longest_s: Never more than this.
        failures_in_a_row: From 1; any number.
    """
    # Beyond 2**1023 a float overflows, which an outage of hours gets to.
    return min(first_s * 2.0 ** min(failures_in_a_row - 1, 64), longest_s)
