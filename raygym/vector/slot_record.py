"""What is remembered of a slot over its life, whatever drives it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Outcome, Remote
from raygym.errors import ConfigError, MissingDependency, RaygymError
from raygym.vector.slots import SlotReport
from raygym.vector.supervision import Supervision

log = logging.getLogger(__name__)

EnvFactory: TypeAlias = Callable[[int], gymnasium.Env[Any, Any]]
"""Makes the environment of a slot, counted from 0."""

HOPELESS = (ConfigError, MissingDependency)
"""Another try would not help."""


class SlotRecord:
    """How one slot fares: its report, and how long it backs off after a failure.

    Args:
        slot: Which one.
        supervision: When it counts as quarantined, and how long it pauses.
    """

    def __init__(self, slot: int, supervision: Supervision) -> None:
        self._supervision = supervision
        self._report = SlotReport(slot=slot)
        self._cuts: dict[str, int] = {}

    def made(self) -> None:
        """Notes that an environment was made."""
        self._report.starts += 1

    def began(self) -> None:
        """Notes that an episode began."""
        self._report.state = "running"
        self._report.failures_in_a_row = 0

    def failed(self, error: BaseException | str) -> float:
        """Notes that a start or a reset failed; returns the pause before the next, in seconds."""
        report = self._report
        report.failures_in_a_row += 1
        report.error = explained(error)
        count = report.failures_in_a_row
        pause_s = self._supervision.retry_after_s(count)
        if count < self._supervision.quarantine_after:
            report.state = "retrying"
            log.warning("slot.retrying slot=%d failures=%d: %s", report.slot, count, report.error)
        elif report.state != "quarantined":
            report.state = "quarantined"
            log.error("slot.quarantined slot=%d failures=%d: %s", report.slot, count, report.error)
        return pause_s

    def cut(self, outcome: str, reason: str) -> None:
        """Notes that an episode failed."""
        self._cuts[outcome] = self._cuts.get(outcome, 0) + 1
        self._report.error = reason

    def gone(self, remotes_started: int, remotes_lost: int) -> None:
        """Keeps the counts of an environment that goes."""
        self._report.remotes_started += remotes_started
        self._report.remotes_lost += remotes_lost

    def closed(self) -> None:
        """Notes the end."""
        self._report.state = "closed"

    def report(self, env: gymnasium.Env[Any, Any] | None) -> SlotReport:
        """Returns the report of now.

        Args:
            env: The environment of now, if there is one.
        """
        now = replace(self._report, cuts=dict(self._cuts))
        if env is not None:
            started, lost = remotes_of(env)
            now.remotes_started += started
            now.remotes_lost += lost
            now.remote_id, now.remote = remote_of(env)
        return now


def remotes_of(env: gymnasium.Env[Any, Any]) -> tuple[int, int]:
    """Returns how many Remotes an environment has started, and how many it lost."""
    bare = env.unwrapped
    return getattr(bare, "remotes_started", 0), getattr(bare, "remotes_lost", 0)


def remote_of(env: gymnasium.Env[Any, Any]) -> tuple[str, Remote | None]:
    """Returns the id of the Remote that an environment plays on, and the Remote if it tells."""
    bare = env.unwrapped
    return getattr(bare, "remote_id", None) or "", getattr(bare, "remote", None)


def explained(error: BaseException | str) -> str:
    """Returns what an error says; one of ours ends with the log of its Remote."""
    if isinstance(error, str | RaygymError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def failure_info(error: BaseException) -> dict[str, Any]:
    """Returns the info of a step that raised."""
    is_ours = isinstance(error, RaygymError)
    outcome = Outcome.INFRA_FAILURE if is_ours else Outcome.ENV_FAILURE
    return {"outcome": str(outcome), "reason": explained(error)}


def empty_observations(space: gymnasium.Space[Any], count: int) -> npt.NDArray[Any]:
    """Returns room for observations: the space's dtype[count, ...], else objects [count]."""
    if space.shape is None or space.dtype is None or not is_array_space(space):
        return np.full(count, None, object)
    return np.zeros((count, *space.shape), space.dtype)


def is_array_space(space: gymnasium.Space[Any]) -> bool:
    """Whether each member is an array, or a number, of one shape and dtype."""
    kinds = gymnasium.spaces
    return isinstance(space, kinds.Box | kinds.Discrete | kinds.MultiBinary | kinds.MultiDiscrete)


def close_quietly(env: gymnasium.Env[Any, Any], *, is_lost: bool) -> None:
    """Closes an environment; what it raises is logged.

    Args:
        env: One that is not used any more.
        is_lost: Whether its Remote must not be used again, where it has one.
    """
    end = getattr(env.unwrapped, "abandon", env.close) if is_lost else env.close
    try:
        end()
    except Exception as error:  # noqa: BLE001  it may raise anything
        log.warning("slot.close_failed: %s", explained(error))
