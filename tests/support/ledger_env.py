"""An environment that counts its steps where everybody sees it, and a ledger that checks them.

An observation names the environment and says how many steps it has taken, so whatever was lost,
made up, mixed up or taken twice on the way shows in the rollouts.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import ray

from raygym.core import Float32Array, Rollout
from raygym.vector.inline_slots import InlineSlots
from raygym.vector.process_slots import ProcessSlots
from raygym.vector.slots import Slots
from raygym.vector.supervision import Supervision

ACTIONS = 1000
INSTANCE, COUNT, PROCESS, NODE = range(4)
"""What the numbers of an observation are."""


class LedgerEnv(gymnasium.Env[npt.NDArray[np.int64], int]):
    """Rewards the action that answers its newest observation with 1, any other with 0.

    Observations are int64[4]: a number that no other environment has, the steps it has taken
    since it was made, its process and its Ray node.

    Args:
        episode_steps: Length of its episodes.
        step_s: How long a step takes.
        node: Number of the Ray node.
    """

    def __init__(self, *, episode_steps: int = 20, step_s: float = 0.0, node: int = 0) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 2**62, (4,), np.int64)
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)
        self._instance = int.from_bytes(os.urandom(7))
        self._episode_steps = episode_steps
        self._step_s = step_s
        self._node = node
        self._count = 0
        self._left = 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        super().reset(seed=seed)
        self._left = self._episode_steps
        return self._observation(), {}

    def step(self, action: int) -> tuple[npt.NDArray[np.int64], float, bool, bool, dict[str, Any]]:
        time.sleep(self._step_s)
        reward = float(int(action) == self._count % ACTIONS)
        self._count += 1
        self._left -= 1
        return self._observation(), reward, self._left == 0, False, {}

    def _observation(self) -> npt.NDArray[np.int64]:
        return np.array([self._instance, self._count, os.getpid(), self._node], np.int64)


def node_number(node_id: str) -> int:
    """Returns a Ray node's id as it stands in observations."""
    return int(node_id[:12], 16)


def this_node() -> int:
    """Returns the number of the Ray node that this process is on; 0 outside Ray."""
    return node_number(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else 0


class AnsweringPolicy:
    """Answers each observation as LedgerEnv wants it."""

    def __init__(self) -> None:
        self.weights_version = 0

    def initial_state(self, batch: int) -> tuple[Float32Array, ...]:
        """Returns nothing: it needs no memory."""
        return ()

    def act(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> tuple[npt.NDArray[np.int64], Float32Array, Float32Array, tuple[Float32Array, ...]]:
        """Answers with the steps taken."""
        nothing = np.zeros(len(observations), np.float32)
        return observations[:, COUNT] % ACTIONS, nothing, nothing, ()

    def values(
        self, observations: npt.NDArray[Any], state: tuple[Float32Array, ...]
    ) -> Float32Array:
        """Returns zeros."""
        return np.zeros(len(observations), np.float32)

    def set_weights(self, weights: Any, version: int) -> None:
        """Takes over the version; there are no weights."""
        self.weights_version = version


class Ledger:
    """Takes rollouts in the order in which they came, and raises where the books do not balance."""

    def __init__(self) -> None:
        self.steps = 0
        """Steps that were taken in."""
        self.failed: list[tuple[int, int, int]] = []
        """Slot, episode and outcome of each step that failed."""
        self.instances: dict[int, list[int]] = {}
        """The environments of each slot, in their order."""
        self.processes: dict[int, int] = {}
        """The process in which each slot was played last."""
        self.nodes: dict[int, int] = {}
        """The number of the Ray node on which each slot was played last."""
        self.outcomes: dict[tuple[int, int], int] = {}
        """How each episode of a slot ended, of those that did."""
        self.slot_steps: dict[int, int] = {}
        """Steps of each slot."""
        self.leases: dict[int, list[str]] = {}
        """The leases of each slot, in their order."""
        self._next: dict[int, int] = {}
        self._at: dict[int, tuple[int, int, bool]] = {}

    def note(self, rollout: Rollout) -> None:
        """Takes in a rollout."""
        traces = rollout.traces
        assert traces is not None
        failed = traces.outcomes != 0
        assert (rollout.mask == ~failed).all(), "the mask and the outcomes disagree"
        assert rollout.truncated[failed].all(), "a step that failed does not cut its episode"
        assert not rollout.terminated[failed].any(), "a step that failed ends its episode"
        assert (rollout.rewards[~failed] == 1.0).all(), "an action answered something else"
        assert (rollout.rewards[failed] == 0.0).all(), "a reward was made up"
        assert len(set(traces.slots.tolist())) == len(traces.slots), "a slot came twice at once"
        for column, slot in enumerate(traces.slots.tolist()):
            for step in range(len(rollout.mask)):
                self._note_step(rollout, traces.episodes, step, column, slot)
                if failed[step, column]:
                    episode = int(traces.episodes[step, column])
                    self.failed.append((slot, episode, int(traces.outcomes[step, column])))
        self.steps += rollout.mask.size

    def _note_step(
        self, rollout: Rollout, episodes: npt.NDArray[np.int64], step: int, column: int, slot: int
    ) -> None:
        seen = rollout.observations[step, column]
        instance, count = int(seen[INSTANCE]), int(seen[COUNT])
        episode = int(episodes[step, column])
        known = self.instances.setdefault(slot, [])
        if instance not in known:
            assert instance not in self._next, f"slot {slot}: another slot's environment"
            known.append(instance)
            self._next[instance] = 0
        assert instance == known[-1], f"slot {slot}: an environment came back"
        assert count == self._next[instance], (
            f"slot {slot}: step {count} came where step {self._next[instance]} was due"
        )
        self._next[instance] = count + 1
        if slot in self._at:
            before, played_on, is_over = self._at[slot]
            is_same = episode == before and instance == played_on and not is_over
            # Of an episode whose actor was lost nobody says how it ended.
            is_next = episode > before and (is_over or instance != played_on)
            assert is_same or is_next, (
                f"slot {slot}: episode {episode} of {instance} came after {self._at[slot]}"
            )
        is_over = bool(rollout.terminated[step, column] or rollout.truncated[step, column])
        self._at[slot] = (episode, instance, is_over)
        if is_over:
            assert rollout.traces is not None
            self.outcomes[slot, episode] = int(rollout.traces.outcomes[step, column])
        self._note_lease(rollout, step, column, slot)
        self.processes[slot] = int(seen[PROCESS])
        self.nodes[slot] = int(seen[NODE])
        self.slot_steps[slot] = self.slot_steps.get(slot, 0) + 1

    def _note_lease(self, rollout: Rollout, step: int, column: int, slot: int) -> None:
        assert rollout.traces is not None
        number = int(rollout.traces.leases[step, column])
        known = self.leases.setdefault(slot, [])
        if number >= 0:
            lease_id = rollout.traces.lease_ids[number]
            if lease_id not in known:
                known.append(lease_id)
            assert lease_id == known[-1], f"slot {slot}: a lease came back"


@dataclass(frozen=True, kw_only=True)
class LedgerSlots:
    """Makes the slots of an actor; it pickles.

    Args:
        has_processes: Whether each environment gets a process of its own.
        step_s: How long a step takes.
        episode_steps: Length of an episode.
        supervision: Of environments in processes.
    """

    has_processes: bool = False
    step_s: float = 0.002
    episode_steps: int = 20
    supervision: Supervision = field(default_factory=Supervision)

    def __call__(self, first_slot: int, num_slots: int) -> Slots:
        """Makes ``num_slots`` of them."""
        factory = functools.partial(_make, self.step_s, self.episode_steps, this_node())
        if self.has_processes:
            return ProcessSlots(
                factory, num_slots, num_processes=num_slots, supervision=self.supervision
            )
        return InlineSlots(factory, num_slots)


def _make(step_s: float, episode_steps: int, node: int, slot: int) -> LedgerEnv:
    return LedgerEnv(step_s=step_s, episode_steps=episode_steps, node=node)


def play_until(
    rollouts: Iterator[Rollout], ledger: Ledger, condition: Callable[[], bool], *, within_s: float
) -> None:
    """Takes rollouts into the ledger until something is so."""
    deadline_s = time.monotonic() + within_s
    for rollout in rollouts:
        ledger.note(rollout)
        if condition():
            return
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s"
    raise AssertionError("the rollouts ended")
