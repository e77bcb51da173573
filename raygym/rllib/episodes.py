"""Turns Rollouts into the episodes that RLlib learns from. T is time, B the number of slots."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import tree  # type: ignore[import-untyped]
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from raygym.core import Rollout

RAW_ACTIONS = "raw_actions"
"""Name of the extra that keeps the actions as they were drawn, where the environment got others."""
STATE_PART = "state_out_{}"
"""Name of the extra that keeps one part of the recurrent state after each step."""
_REWARD_SPACE = gymnasium.spaces.Box(-np.inf, np.inf, (), np.float32)

Array = npt.NDArray[Any]


@dataclass
class _Ongoing:
    """An episode that was cut by the end of a Rollout."""

    id: str
    steps: int
    number: int


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Steps ``start`` to ``stop`` (not with it) of one column; all of one episode."""

    column: int
    start: int
    stop: int
    final_observation: Array
    """What followed the last of them."""
    terminated: bool
    truncated: bool


class EpisodeCutter:
    """Cuts the columns of Rollouts where episodes end, and chains what goes on in the next one.

    A step that failed is left out, and its episode is truncated at the observation before it, so
    that a learner bootstraps from there. A step that a time limit cut is left out, too, unless it
    is a Rollout's last: the Rollout does not hold the observation after it.

    Args:
        observation_space: Of one slot.
        action_space: Of one slot, as the policy draws.
        state: Recurrent state of one slot, a nest of arrays that gives the structure; None or
            empty for a feed-forward policy.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        *,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._observation_space = observation_space
        self._action_space = action_space
        self._state = state or None
        self._ongoing: dict[int, _Ongoing] = {}

    def cut(self, rollout: Rollout) -> list[SingleAgentEpisode]:
        """Returns the episodes, and parts of episodes, of a Rollout; each has a step or more.

        Their arrays may be views of the Rollout's.

        Args:
            rollout: ``extras`` must hold ``action_dist_inputs``, and the parts of the recurrent
                state if there is one.
        """
        slots, numbers = self._numbers(rollout)
        ends = rollout.terminated | rollout.truncated | ~rollout.mask
        episodes: list[SingleAgentEpisode] = []
        for column, slot in enumerate(slots):
            ongoing = self._ongoing.pop(int(slot), None)
            if ongoing is not None and ongoing.number != numbers[0, column]:
                ongoing = None
            start = 0
            for end in np.flatnonzero(ends[:, column]):
                part = self._ended(rollout, column, start, int(end))
                episodes += self._episode(rollout, part, ongoing)
                start, ongoing = int(end) + 1, None
            if start < len(ends):
                part = self._cut_off(rollout, column, start)
                (episode,) = self._episode(rollout, part, ongoing)
                episodes.append(episode)
                self._ongoing[int(slot)] = _Ongoing(
                    episode.id_, episode.t, int(numbers[-1, column])
                )
        return episodes

    def forget(self) -> None:
        """Forgets the episodes that go on; what comes next begins anew."""
        self._ongoing.clear()

    def _numbers(self, rollout: Rollout) -> tuple[Array, Array]:
        """Returns the slots, int64[B], and the number of each step's episode, int64[T, B]."""
        if rollout.traces is not None:
            return rollout.traces.slots, rollout.traces.episodes
        columns = rollout.mask.shape[1]
        return np.arange(columns), np.zeros(rollout.mask.shape, np.int64)

    def _ended(self, rollout: Rollout, column: int, start: int, end: int) -> _Part:
        """Returns the part whose episode ends with step ``end``."""
        is_ok = bool(rollout.mask[end, column])
        terminated = is_ok and bool(rollout.terminated[end, column])
        follower = _follower(rollout, column, end) if is_ok else None
        return _Part(
            column=column,
            start=start,
            stop=end + 1 if terminated or follower is not None else end,
            # Nothing is learned from what follows an end; only its shape must be right.
            final_observation=(rollout.observations[end, column] if follower is None else follower),
            terminated=terminated,
            truncated=not terminated,
        )

    def _cut_off(self, rollout: Rollout, column: int, start: int) -> _Part:
        """Returns the part whose episode goes on in the next Rollout."""
        return _Part(
            column=column,
            start=start,
            stop=len(rollout.mask),
            final_observation=rollout.last_observation[column],
            terminated=False,
            truncated=False,
        )

    def _episode(
        self, rollout: Rollout, part: _Part, ongoing: _Ongoing | None
    ) -> list[SingleAgentEpisode]:
        """Returns one episode, or none where the part has no step."""
        if part.start == part.stop:
            return []
        rows = slice(part.start, part.stop)
        count = part.stop - part.start
        actions = rollout.extras.get(RAW_ACTIONS, rollout.actions)
        seen = rollout.observations[rows, part.column]
        return [
            SingleAgentEpisode(
                id_=ongoing.id if ongoing else uuid.uuid4().hex,
                observations=InfiniteLookbackBuffer(
                    np.concatenate([seen, part.final_observation[None]])
                ),
                observation_space=self._observation_space,
                infos=InfiniteLookbackBuffer([{} for _ in range(count + 1)]),
                actions=InfiniteLookbackBuffer(actions[rows, part.column]),
                action_space=self._action_space,
                rewards=InfiniteLookbackBuffer(
                    rollout.rewards[rows, part.column], space=_REWARD_SPACE
                ),
                terminated=part.terminated,
                truncated=part.truncated,
                extra_model_outputs=self._outputs(rollout, part, rows),
                t_started=self._started(rollout, part, ongoing),
                len_lookback_buffer=0,
            )
        ]

    def _started(self, rollout: Rollout, part: _Part, ongoing: _Ongoing | None) -> int:
        """Returns the number of steps before the part, as far as it is known.

        RLlib takes the module's initial state at 0, and the state in the look-back buffer
        otherwise: a part whose beginning was lost must not count as one that begins.
        """
        if ongoing is not None:
            return ongoing.steps
        has_state = part.start == 0 and any(s[part.column].any() for s in rollout.initial_state)
        return 1 if has_state else 0

    def _outputs(
        self, rollout: Rollout, part: _Part, rows: slice
    ) -> dict[str, InfiniteLookbackBuffer]:
        column = part.column
        versions = (
            rollout.traces.weights_versions[rows, column]
            if rollout.traces is not None
            else np.full(part.stop - part.start, rollout.weights_version)
        )
        outputs = {
            Columns.ACTION_LOGP: InfiniteLookbackBuffer(rollout.log_probabilities[rows, column]),
            Columns.ACTION_DIST_INPUTS: InfiniteLookbackBuffer(
                rollout.extras[Columns.ACTION_DIST_INPUTS][rows, column]
            ),
            WEIGHTS_SEQ_NO: InfiniteLookbackBuffer(versions),
        }
        if self._state is not None:
            outputs[Columns.STATE_OUT] = self._states(rollout, part, rows)
        return outputs

    def _states(self, rollout: Rollout, part: _Part, rows: slice) -> InfiniteLookbackBuffer:
        """Returns the states after each step, and that before them where the Rollout has it."""
        has_before = part.start == 0
        parts = []
        for number, before in enumerate(rollout.initial_state):
            after = rollout.extras[STATE_PART.format(number)][rows, part.column]
            parts.append(
                np.concatenate([before[part.column][None], after]) if has_before else after
            )
        nested = InfiniteLookbackBuffer(tree.unflatten_as(self._state, parts))
        nested.lookback = int(has_before)
        return nested


def _follower(rollout: Rollout, column: int, end: int) -> npt.NDArray[Any] | None:
    """Returns what a step that ended an episode led to; None where nobody kept it."""
    if rollout.final_observations is not None and rollout.is_cut[end, column]:
        before = int(rollout.is_cut[:end].sum() + rollout.is_cut[end, :column].sum())
        kept: npt.NDArray[Any] = rollout.final_observations[before]
        return kept
    if end + 1 == len(rollout.mask):
        last: npt.NDArray[Any] = rollout.last_observation[column]
        return last
    return None
