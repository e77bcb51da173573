"""Keeps what happened in each slot since the last report: episodes, times, Remotes, outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raygym.core import LAGS, OUTCOMES, Float32Array, Outcome, Rollout, UInt8Array
from raygym.service.episode_log import log_episode
from raygym.service.reports import TIMES_MS, Claim, EpisodeRecord, SamplerReport
from raygym.service.rollout_block import Names, lags
from raygym.service.spectators import Spectators
from raygym.vector.slots import Ready, SlotReport

Int64Array = npt.NDArray[np.int64]

_CODES = {str(outcome): code for code, outcome in enumerate(OUTCOMES)}
_NONE = -1


class SlotAccounts:
    """The running accounts of a number of slots.

    Args:
        first_episodes: From where each slot counts its episodes.
        first_slot: Number of the first in reports.
        env_id: For the log.
        spectators: Told of episodes and reports.
    """

    def __init__(
        self,
        first_episodes: Sequence[int],
        *,
        first_slot: int,
        env_id: str,
        spectators: Spectators | None = None,
    ) -> None:
        num_slots = len(first_episodes)
        self._num_slots = num_slots
        self._env_id = env_id
        self._spectators = Spectators() if spectators is None else spectators
        self.rollouts = 0
        """How many Rollouts were handed out."""
        self.names = Names(first_slot=first_slot)
        self.episodes = np.array(first_episodes, np.int64) - 1
        """int64[slots]: counts each slot's episodes."""
        self.remotes = np.full(num_slots, _NONE, np.int32)
        """int32[slots]: the Remote that each plays on."""
        self.leases = np.full(num_slots, _NONE, np.int32)
        """int32[slots]: the lease that holds it."""
        self._scores = np.zeros(num_slots)
        self._episode_steps = np.zeros(num_slots, np.int64)
        self._started_s = np.zeros(num_slots)
        self._steps = np.zeros(num_slots, np.int64)
        self._reports = [SamplerReport(slot=first_slot + i) for i in range(num_slots)]

    def begin(self, slots: Int64Array, infos: Sequence[Mapping[str, Any]], now_s: float) -> None:
        """Notes the first observation of an episode in some slots."""
        self.episodes[slots] += 1
        self._scores[slots] = 0.0
        self._episode_steps[slots] = 0
        self._started_s[slots] = now_s
        for slot, info in zip(slots.tolist(), infos, strict=True):
            if info:
                self._note_ids(slot, info)
                claim = Claim.of(info)
                if claim is not None:
                    self._reports[slot].claims.append(claim)

    def step(
        self, slots: Int64Array, ready: Ready, rows: Int64Array
    ) -> tuple[UInt8Array, Float32Array]:
        """Notes a step of some slots.

        Args:
            slots: int64[n].
            ready: What they answered, among others.
            rows: int64[n]: where in it.

        Returns:
            Outcomes uint8[n] and lags float32[n, 4], as in ``Traces``.
        """
        self._scores[slots] += ready.rewards[rows]
        self._episode_steps[slots] += 1
        self._steps[slots] += 1
        outcomes = np.zeros(len(slots), np.uint8)
        lag_ms = np.full((len(slots), len(LAGS)), np.nan, np.float32)
        for index, (slot, row) in enumerate(zip(slots.tolist(), rows.tolist(), strict=True)):
            info = ready.infos[row]
            if not info:
                continue
            outcomes[index] = _CODES[str(info.get("outcome", Outcome.OK))]
            self._note_ids(slot, info)
            if self._note_times(slot, info):
                lag_ms[index] = lags(info)
        return outcomes, lag_ms

    def end(self, slot: int, outcome: int, info: Mapping[str, Any], now_s: float) -> None:
        """Notes that an episode ended."""
        record = EpisodeRecord(
            slot=self.names.first_slot + slot,
            score=float(self._scores[slot]),
            steps=int(self._episode_steps[slot]),
            duration_s=now_s - float(self._started_s[slot]),
            outcome=OUTCOMES[outcome],
            reason=str(info.get("reason") or "") if outcome else "",
            episode=int(self.episodes[slot]),
            rollout=f"{self._spectators.actor or 'rollouts'}-{self.rollouts}",
            remote_id=self._name(self.remotes[slot], self.names.remote_ids),
            lease_id=self._name(self.leases[slot], self.names.lease_ids),
            node=self._spectators.node,
        )
        self._reports[slot].episodes.append(record)
        log_episode(record, env_id=self._env_id)
        self._spectators.ended(record)

    def note_rollout(self, rollout: Rollout) -> None:
        """Counts a Rollout that is handed out, and checks that what failed is masked in it."""
        self.rollouts += 1
        if rollout.traces is not None:
            is_fabricated = (rollout.traces.outcomes != 0) & rollout.mask
            for column in is_fabricated.any(axis=0).nonzero()[0].tolist():
                slot = int(rollout.traces.slots[column]) - self.names.first_slot
                self._reports[slot].fabricated_zeros += int(is_fabricated[:, column].sum())

    def take(self, states: Sequence[SlotReport]) -> list[SamplerReport]:
        """Returns one report a slot and begins new ones.

        Args:
            states: How the slots fare, one each.
        """
        done = self._reports
        first = self.names.first_slot
        self._reports = [SamplerReport(slot=first + i) for i in range(self._num_slots)]
        for state in states:
            report = done[state.slot]
            report.state = state.state
            report.remotes_started = state.remotes_started
            report.remotes_lost = state.remotes_lost
            report.remote = state.remote
            report.start_failures = state.failures_in_a_row
            report.error = state.error if state.failures_in_a_row else ""
        for slot, report in enumerate(done):
            report.steps = int(self._steps[slot])
            report.remote_id = self._name(self.remotes[slot], self.names.remote_ids)
            report.lease_id = self._name(self.leases[slot], self.names.lease_ids)
        self._steps[:] = 0
        self._spectators.reported(done)
        return done

    def _note_ids(self, slot: int, info: Mapping[str, Any]) -> None:
        if "remote_id" in info:
            self.remotes[slot] = _number(str(info["remote_id"] or ""), self.names.remote_ids)
        if "lease_id" in info:
            self.leases[slot] = _number(str(info["lease_id"] or ""), self.names.lease_ids)

    def _note_times(self, slot: int, info: Mapping[str, Any]) -> bool:
        """Returns whether there was a lag among them."""
        report, has_lag = self._reports[slot], False
        for name in TIMES_MS:
            if info.get(name) is not None:
                report.times_ms.setdefault(name, []).append(float(info[name]))
                has_lag = True
        for name, number in (info.get("stats") or {}).items():
            if isinstance(number, int | float):
                report.counts[name] = report.counts.get(name, 0.0) + number
        return has_lag

    @staticmethod
    def _name(number: int, names: Sequence[str]) -> str:
        return names[number] if number != _NONE else ""


def _number(name: str, names: list[str]) -> int:
    """Returns the number of a name, new at the end; -1 for an empty one."""
    if not name:
        return _NONE
    # The newest is the likeliest: a slot changes its Remote seldom.
    for number in range(len(names) - 1, -1, -1):
        if names[number] == name:
            return number
    names.append(name)
    return len(names) - 1
