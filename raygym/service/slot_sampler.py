"""Drives slots with a policy and fills Rollouts. T is time, B the number of slots.

Each slot has two columns, one in each of two blocks. It fills one; where it may run ahead it
goes on in the other until the first was taken, and else it waits. So no slot holds another,
and memory is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from raygym.core import Acted, Float32Array, Rollout
from raygym.errors import ConfigError
from raygym.service.reports import SamplerReport
from raygym.service.rollout_block import EmptyArray, RolloutBlock, Stepped, as_acted, layout
from raygym.service.rollouts import join_rollouts
from raygym.service.slot_accounts import SlotAccounts
from raygym.service.spectators import Spectators
from raygym.vector.slots import Ready, SlotReport, Slots

Int64Array = npt.NDArray[np.int64]
_SEEDS = 2**31


class SlotPolicy(Protocol):
    """What a SlotSampler asks of a policy; ``set_weights(weights, version)`` may be there too."""

    weights_version: int

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns the recurrent state at the start of an episode, each float32[batch, ...]."""
        ...

    def act(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> Acted | tuple[npt.NDArray[Any], Float32Array, Float32Array, tuple[Float32Array, ...]]:
        """Chooses actions for [B, ...] observations."""
        ...

    def values(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> Float32Array:
        """Returns float32[B]."""
        ...


class SlotSampler:
    """Plays slots, each at its own pace, and hands out Rollouts that own their memory.

    Whoever is ready first is acted for first. The steps of a slot come in order, each in
    exactly one Rollout. Not for two threads at once.

    Args:
        slots: What to play; closed with the sampler.
        policy: Acts.
        rollout_steps: T.
        seed: Of the resets: each slot draws from a stream of its own.
        reward_scale: Factor between a reward and what is learned from; scores are not scaled.
        first_slot: Number of the first slot, in Traces and reports.
        seeds_every_episode: Resets each episode with a seed of its own; otherwise the first
            one of a slot and that after a failure.
        runs_ahead: Whether a slot whose column is full goes on in a second one.
        least_batch: How many slots to act for at once, where so many are under way.
        env_id: For the log.
        first_episodes: From where each slot counts its episodes; None: 0. Other numbers, other
            seeds.
        empty: Makes the arrays of observations, [T + 1, B, ...] with the last ones.
        spectators: They look on; closed with the sampler.
        clock: Seconds, steady.

    Raises:
        ConfigError: A setting or a space makes no sense.
    """

    def __init__(
        self,
        slots: Slots,
        policy: SlotPolicy,
        *,
        rollout_steps: int,
        seed: int = 0,
        reward_scale: float = 1.0,
        first_slot: int = 0,
        seeds_every_episode: bool = False,
        runs_ahead: bool = False,
        least_batch: int = 1,
        env_id: str = "",
        first_episodes: Sequence[int] | None = None,
        empty: EmptyArray = np.empty,
        spectators: Spectators | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if rollout_steps < 1:
            raise ConfigError(f"SlotSampler.rollout_steps: expected 1 or more, got {rollout_steps}")
        self._slots = slots
        self._policy = policy
        self._steps = rollout_steps
        self._reward_scale = reward_scale
        self._seeds_every_episode = seeds_every_episode
        self._runs_ahead = runs_ahead
        self._least_batch = least_batch
        self._empty = empty
        self._clock = clock
        count = slots.num_slots
        episodes = first_episodes or [0] * count
        self._random = [
            np.random.default_rng(np.random.SeedSequence([seed, first_slot + slot, episode]))
            for slot, episode in enumerate(episodes)
        ]
        self._spectators = Spectators() if spectators is None else spectators
        self._accounts = SlotAccounts(
            episodes, first_slot=first_slot, env_id=env_id, spectators=self._spectators
        )
        self._sent_s = np.zeros(count)
        """When each slot got its last action."""
        self._blocks = [self._new_block(), self._new_block()]
        self._filling = np.zeros(count, np.int64)
        dtype, shape = layout(slots.single_observation_space, "observation")
        self._observations = np.empty((count, *shape), dtype)
        self._state = tuple(np.array(part) for part in policy.initial_state(count))
        self._is_waiting = np.zeros(count, np.bool_)
        """Slots that have an observation and no action yet."""
        self._has_begun = False
        self._begun_s: float | None = None
        """When the Rollout that is being filled was first asked for."""
        self._until_s: float | None = None
        """How long it waits for those who are late; None where there are not enough yet."""
        self.slot_reports: Sequence[SlotReport] = ()
        """How each slot fared at the last call of ``reports``."""

    def collect(
        self, *, columns: int | None = None, timeout_s: float | None = None, linger: float = 0.0
    ) -> Rollout | None:
        """Plays until enough slots have T steps each.

        Args:
            columns: How many slots are enough; None: all. Others that have T steps by then
                come along.
            timeout_s: Longest time; None plays on.
            linger: Once there are enough, waits for the others this share of the time that it
                took to get there.

        Returns:
            Those columns side by side, without a copy where they are all of one block; None
            at the timeout, after which the next call goes on where this one stopped.

        Raises:
            ConfigError, MissingDependency: An environment cannot be made at all.
        """
        count = self._slots.num_slots
        wanted = count if columns is None else columns
        if not 1 <= wanted <= count:
            raise ConfigError(f"SlotSampler.collect: columns: expected 1 to {count}, got {wanted}")
        now_s = self._clock()
        deadline_s = None if timeout_s is None else now_s + timeout_s
        if self._begun_s is None:
            self._begun_s, self._until_s = now_s, None
        is_late = False
        while True:
            full = self._count_full()
            if full >= wanted and self._until_s is None:
                now_s = self._clock()
                self._until_s = now_s + linger * (now_s - self._begun_s)
            if self._until_s is not None and (full == count or self._clock() >= self._until_s):
                self._begun_s = None
                rollout = self._take()
                self._accounts.note_rollout(rollout)
                return rollout
            if is_late:
                return None
            self._play(_earlier(deadline_s, self._until_s))
            is_late = deadline_s is not None and self._clock() >= deadline_s

    def set_policy(self, policy: SlotPolicy) -> None:
        """Has another policy act from now on; episodes and their states go on.

        Raises:
            ConfigError: Its recurrent state is of another shape.
        """
        fresh = policy.initial_state(self._slots.num_slots)
        if [part.shape for part in fresh] != [part.shape for part in self._state]:
            raise ConfigError(
                f"SlotSampler.set_policy: a state of shapes {[part.shape for part in fresh]} "
                f"cannot go on from one of {[part.shape for part in self._state]}"
            )
        self._policy = policy

    def reports(self) -> list[SamplerReport]:
        """Returns one report a slot: what happened since the last call."""
        self.slot_reports = self._slots.reports()
        return self._accounts.take(self.slot_reports)

    def close(self) -> None:
        """Closes the slots; may be called twice."""
        try:
            self._slots.close()
        finally:
            self._spectators.close()

    def _play(self, deadline_s: float | None) -> None:
        """Acts for whoever waits and takes what is ready."""
        if not self._has_begun:
            self._has_begun = True
            self._reset(np.arange(self._slots.num_slots), np.ones(self._slots.num_slots, np.bool_))
        self._act()
        left_s = None if deadline_s is None else max(0.0, deadline_s - self._clock())
        under_way = int((~self._is_waiting).sum())
        ready = self._slots.recv(
            at_least=max(1, min(self._least_batch, under_way)), timeout_s=left_s
        )
        if len(ready.slots) == 0:
            return
        self._observations[ready.slots] = ready.observations
        if self._spectators:
            self._show(ready)
        self._note_first(ready)
        self._note_steps(ready)

    def _act(self) -> None:
        waiting = self._is_waiting.nonzero()[0]
        rows = np.array([block.rows[waiting] for block in self._blocks])
        filling = self._filling[waiting]
        if self._runs_ahead:
            filling = self._choose_blocks(filling, rows)
            self._filling[waiting] = filling
        slots = waiting[rows[filling, np.arange(len(waiting))] < self._steps]
        if len(slots) == 0:
            return
        is_all = len(slots) == len(self._observations)
        observations = self._observations if is_all else self._observations[slots]
        state = tuple(part[slots] for part in self._state)
        version = int(self._policy.weights_version)
        acted = as_acted(self._policy.act(observations, state))
        for number, block in enumerate(self._blocks):
            rows = (self._filling[slots] == number).nonzero()[0]
            if len(rows) == 0:
                continue
            # The usual case, all in one block, is spared a copy of the pictures.
            is_one = len(rows) == len(slots)
            block.write_acted(
                slots[rows],
                observations if is_one else observations[rows],
                state if is_one else tuple(part[rows] for part in state),
                acted if is_one else _rows_of(acted, rows),
                version,
                self._accounts.episodes[slots[rows]],
            )
        for kept, part in zip(self._state, acted.state, strict=True):
            kept[slots] = part
        self._is_waiting[slots] = False
        self._sent_s[slots] = self._clock()
        self._slots.send(slots, acted.actions)

    def _show(self, ready: Ready) -> None:
        stepped = ready.slots[~ready.is_first]
        step_s = float((self._clock() - self._sent_s[stepped]).mean()) if len(stepped) else 0.0
        first_slot = self._accounts.names.first_slot
        self._spectators.stepped(ready.slots + first_slot, ready.observations, step_s)

    def _choose_blocks(self, filling: Int64Array, rows: Int64Array) -> Int64Array:
        """Returns the block that each waiting slot writes to next.

        A slot within a column stays. One that begins takes the block that most slots write to,
        if it is free there: so columns of one age meet in one block, which needs no copy.

        Args:
            filling: int64[n]: the blocks of before.
            rows: int64[2, n]: the next rows of the slots in both blocks.
        """
        own = rows[filling, np.arange(len(filling))]
        begins = (own == 0) | (own == self._steps)
        if not begins.any():
            return filling
        can_write = rows < self._steps
        popular = int(2 * self._filling.sum() >= len(self._filling))
        chosen = np.where(
            can_write[popular], popular, np.where(can_write[1 - popular], 1 - popular, filling)
        )
        return np.where(begins, chosen, filling)

    def _note_first(self, ready: Ready) -> None:
        rows = ready.is_first.nonzero()[0]
        if len(rows) == 0:
            return
        slots = ready.slots[rows]
        self._accounts.begin(slots, [ready.infos[row] for row in rows.tolist()], self._clock())
        for kept, part in zip(self._state, self._policy.initial_state(len(slots)), strict=True):
            kept[slots] = part
        self._is_waiting[slots] = True

    def _note_steps(self, ready: Ready) -> None:
        rows = (~ready.is_first).nonzero()[0]
        if len(rows) == 0:
            return
        slots = ready.slots[rows]
        outcomes, lag_ms = self._accounts.step(slots, ready, rows)
        has_failed = outcomes != 0
        terminated = ready.terminated[rows] & ~has_failed
        truncated = ready.truncated[rows] | has_failed
        stepped = Stepped(
            rewards=ready.rewards[rows] * self._reward_scale,
            terminated=terminated,
            truncated=truncated,
            outcomes=outcomes,
            final_values=self._final_values(slots, truncated & ~terminated & ~has_failed),
            lag_ms=lag_ms,
            remotes=self._accounts.remotes[slots],
            leases=self._accounts.leases[slots],
        )
        for number, block in enumerate(self._blocks):
            mine = (self._filling[slots] == number).nonzero()[0]
            if len(mine):
                some = stepped if len(mine) == len(slots) else stepped.rows(mine)
                block.write_stepped(slots[mine], some, self._observations)
        is_over = terminated | truncated
        self._is_waiting[slots[~is_over]] = True
        if is_over.any():
            now_s = self._clock()
            for index in is_over.nonzero()[0].tolist():
                info = ready.infos[int(rows[index])]
                self._accounts.end(int(slots[index]), int(outcomes[index]), info, now_s)
            self._reset(slots[is_over], has_failed[is_over])

    def _final_values(self, slots: Int64Array, is_cut: npt.NDArray[np.bool_]) -> Float32Array:
        values = np.zeros(len(slots), np.float32)
        if is_cut.any():
            cut = slots[is_cut]
            state = tuple(part[cut] for part in self._state)
            values[is_cut] = self._policy.values(self._observations[cut], state)
        return values

    def _reset(self, slots: Int64Array, needs_seed: npt.NDArray[np.bool_]) -> None:
        seeds = [
            int(self._random[slot].integers(_SEEDS)) if needs or self._seeds_every_episode else None
            for slot, needs in zip(slots, needs_seed, strict=True)
        ]
        self._slots.reset(slots, seeds)

    def _count_full(self) -> int:
        first, second = self._blocks
        return int((first.is_full | second.is_full).sum())

    def _take(self) -> Rollout:
        """Returns the oldest full column of each slot that has one."""
        # Where both are full, the one that is not being filled is the older.
        full = np.stack([block.is_full for block in self._blocks])
        all_slots = np.arange(full.shape[1])
        older = np.where(full[1 - self._filling, all_slots], 1 - self._filling, self._filling)
        has_any = full.any(axis=0)
        for number, block in enumerate(self._blocks):
            if (has_any & (older == number)).all():
                self._blocks[number] = self._new_block()
                return block.rollout(self._accounts.names)
        taken = [
            block.take((has_any & (older == number)).nonzero()[0], self._accounts.names)
            for number, block in enumerate(self._blocks)
            if (has_any & (older == number)).any()
        ]
        return join_rollouts(taken)

    def _new_block(self) -> RolloutBlock:
        return RolloutBlock(
            self._steps,
            self._slots.num_slots,
            self._slots.single_observation_space,
            self._slots.single_action_space,
            self._empty,
        )


def _rows_of(acted: Acted, rows: Int64Array) -> Acted:
    return Acted(
        actions=acted.actions[rows],
        log_probabilities=acted.log_probabilities[rows],
        values=acted.values[rows],
        state=(),
        extras={name: values[rows] for name, values in acted.extras.items()},
    )


def _earlier(first_s: float | None, second_s: float | None) -> float | None:
    known = [at_s for at_s in (first_s, second_s) if at_s is not None]
    return min(known, default=None)
