"""When a Remote is worn: what its episodes told about it, and the limits to that."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from raygym.errors import ConfigError

_FIRST_STEPS = 200
_RECENT_EPISODES = 5


@dataclass(frozen=True, kw_only=True)
class Recycling:
    """At which wear a Remote is replaced, at the end of an episode; None for no limit."""

    episodes: int | None = None
    """Most episodes that it plays, 1 or more."""
    memory_mib: float | None = None
    """How much its memory may grow from the first measurement, in MiB, above 0."""
    slowdown: float | None = None
    """How many times as long as at first a step may take, above 1."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 0), ("memory_mib", 0), ("slowdown", 1)):
            value = getattr(self, name)
            if value is not None and not value > least:
                raise ConfigError(f"Recycling.{name}: expected more than {least}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Wear:
    """What the episodes of one Remote told, for as long as this process has had it."""

    episodes: int = 0
    """How many it played."""
    first_memory_mib: float | None = None
    """The first measurement of its memory."""
    memory_mib: float | None = None
    """The last one."""
    first_steps: int = 0
    """How many steps ``first_step_s`` is of."""
    first_step_s: tuple[float, ...] = ()
    """Mean seconds of a step in each of its first episodes, until 200 steps are covered."""
    recent_step_s: tuple[float, ...] = ()
    """The same of its last 5 episodes after those."""

    def after_episode(self, steps: int, seconds: float, memory_mib: float | None = None) -> Wear:
        """Returns the wear with one episode more.

        Args:
            steps: Of the episode; one without any counts, but tells no latency.
            seconds: That these steps took together, without the reset.
            memory_mib: Measured at its end; None where it was not.
        """
        first = memory_mib if self.first_memory_mib is None else self.first_memory_mib
        worn = replace(
            self,
            episodes=self.episodes + 1,
            first_memory_mib=first,
            memory_mib=self.memory_mib if memory_mib is None else memory_mib,
        )
        if steps <= 0:
            return worn
        step_s = seconds / steps
        if self.first_steps < _FIRST_STEPS:
            return replace(
                worn,
                first_steps=self.first_steps + steps,
                first_step_s=(*self.first_step_s, step_s),
            )
        return replace(worn, recent_step_s=(*self.recent_step_s, step_s)[-_RECENT_EPISODES:])

    def slowdown(self) -> float | None:
        """Returns how many times as long as at first a step takes now.

        Medians are compared, so that one slow episode says nothing. None until 5 episodes
        were played after the first 200 steps.
        """
        if len(self.recent_step_s) < _RECENT_EPISODES:
            return None
        first_s = statistics.median(self.first_step_s)
        return statistics.median(self.recent_step_s) / first_s if first_s > 0 else None

    def reason(self, limits: Recycling) -> str | None:
        """Returns why the Remote should be replaced; None where it is well."""
        if limits.episodes is not None and self.episodes >= limits.episodes:
            return f"it played {self.episodes} episodes"
        if (
            limits.memory_mib is not None
            and self.memory_mib is not None
            and self.first_memory_mib is not None
            and self.memory_mib - self.first_memory_mib >= limits.memory_mib
        ):
            return f"its memory grew from {self.first_memory_mib:.0f} to {self.memory_mib:.0f} MiB"
        slowdown = self.slowdown()
        if limits.slowdown is not None and slowdown is not None and slowdown >= limits.slowdown:
            return f"a step takes {slowdown:.1f} times as long as at first"
        return None
