"""The environments of one conversation, stepped together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from raygym.core import Outcome
from raygym.errors import ConfigError, StepTimeout
from raygym.runtimes.lockstep.answers import error_of, failure, refused
from raygym.runtimes.lockstep.picture import PictureMaker, wants_pictures
from raygym.runtimes.lockstep.slot import BROKEN, Slot, State
from raygym.wire.proto import raygym_v1_pb2 as pb

MAX_FRAME_SKIP = 10_000
"""Most frames of one step."""

Options = Mapping[str, Any]
EncodeFinal = Callable[[int, Any, Mapping[str, Any]], pb.Final]
"""Makes a Final of an environment's index, last observation and info."""


@dataclass
class Rows:
    """What a Reset or Step gave: one row for each environment that was asked for."""

    envs: Sequence[int]
    observations: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bytearray = field(default_factory=bytearray)
    truncated: bytearray = field(default_factory=bytearray)
    infos: list[Mapping[str, Any]] = field(default_factory=list)
    finals: list[pb.Final] = field(default_factory=list)
    failures: list[pb.Failure] = field(default_factory=list)

    def add(
        self,
        observation: Any,
        reward: float,
        info: Mapping[str, Any],
        *,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """Adds the row of the next environment."""
        self.observations.append(observation)
        self.rewards.append(reward)
        self.infos.append(info)
        self.terminated.append(terminated)
        self.truncated.append(truncated)


class EnvGroup:
    """Several environments of one kind, with their autoreset.

    Args:
        make: Makes one environment; called ``count`` times at once, and for each that broke.
        request: How many, and how they are played.
        encode_final: Called while a last observation still is what it was.

    Raises:
        Refused: The request makes no sense.
        ConfigError: The environments differ in their spaces.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        request: pb.Make,
        encode_final: EncodeFinal,
    ) -> None:
        if request.frame_skip > MAX_FRAME_SKIP:
            raise refused(
                pb.Error.INVALID_ARGUMENT, f"frame_skip: at most {MAX_FRAME_SKIP} frames a step"
            )
        if request.autoreset not in pb.Autoreset.values():
            raise refused(
                pb.Error.INVALID_ARGUMENT, f"autoreset: there is no mode {request.autoreset}"
            )
        self._autoreset = request.autoreset
        self._encode_final = encode_final
        frame_skip = request.frame_skip or 1
        self.slots = [Slot(make, frame_skip) for _ in range(request.count or 1)]
        """In the order of their indices."""
        self._losses: dict[int, pb.Failure] = {}
        try:
            self._start(request.picture)
        except BaseException:
            self.close()
            raise

    def _start(self, picture: pb.Picture) -> None:
        first = self.slots[0].start()
        self.action_space: gymnasium.Space[Any] = first.action_space
        self.observation_space: gymnasium.Space[Any] = first.observation_space
        self.metadata: Mapping[str, Any] = dict(first.metadata or {})
        maker = None
        if wants_pictures(picture):
            maker = PictureMaker(picture, first.observation_space)
            self.observation_space = maker.space
        for slot in self.slots:
            slot.picture = maker
            env = slot.start()
            if (env.observation_space, env.action_space) != (
                first.observation_space,
                first.action_space,
            ):
                raise ConfigError(
                    "the factory makes environments of different spaces, which one message cannot "
                    f"hold: {first.observation_space}, {first.action_space} and "
                    f"{env.observation_space}, {env.action_space}"
                )

    def lose(self, failures: Mapping[int, pb.Failure]) -> None:
        """Says what became of environments of an earlier process: all that were here.

        Args:
            failures: For those whose client does not know it yet.
        """
        for index, slot in enumerate(self.slots):
            slot.state = State.LOST if index in failures else State.FAILED
        self._losses.update(failures)

    def close(self) -> None:
        """Closes all environments. May be called twice."""
        for slot in self.slots:
            slot.close()

    def reset(
        self,
        envs: Sequence[int],
        seeds: Sequence[int | None],
        options: Sequence[Options | None],
    ) -> Rows:
        """Begins an episode in each of these environments."""
        rows = Rows(envs)
        for index, seed, option in zip(envs, seeds, options, strict=True):
            self._begin(rows, index, seed, option)
        return rows

    def uses_actions(self, envs: Sequence[int]) -> list[bool] | None:
        """Returns which of these environments look at their action in the next step; None: all.

        Raises:
            Refused: One of them must be reset before.
        """
        odd = [i for i in envs if self.slots[i].state is not State.RUNNING]
        if not odd:
            return None
        for index in odd:
            state = self.slots[index].state
            if state is State.NEW:
                raise refused(
                    pb.Error.FAILED_PRECONDITION,
                    f"step: environment {index} was never reset; reset it first",
                )
            if self._autoreset == pb.DISABLED and state is not State.LOST:
                raise refused(
                    pb.Error.FAILED_PRECONDITION,
                    f"step: the episode of environment {index} is over, and autoreset is disabled; "
                    "reset it first",
                )
        return [self.slots[i].state is State.RUNNING for i in envs]

    def step(self, envs: Sequence[int], actions: Sequence[Any]) -> Rows:
        """Takes one step in each of these environments, after ``uses_actions`` allowed it."""
        rows = Rows(envs)
        add, slots, running = rows.add, self.slots, State.RUNNING
        for index, action in zip(envs, actions, strict=True):
            slot = slots[index]
            if slot.state is not running:
                self._revive(rows, index)
                continue
            try:
                observation, reward, terminated, truncated, info = slot.step(action)
                reward = float(reward)
                if terminated or truncated:
                    self._end(rows, index, (observation, reward, terminated, truncated, info))
                    continue
            except BROKEN as error:
                self._fail(rows, index, error)
                continue
            slot.last = observation
            add(observation, reward, info)
        return rows

    def render(self, envs: Sequence[int]) -> list[Any]:
        """Returns what each of these environments renders; whatever one raises goes through."""
        pictures = []
        for index in envs:
            env = self.slots[index].env
            pictures.append(None if env is None else env.render())
        return pictures

    def spoil(self, rows: Rows, row: int, error: pb.Error) -> None:
        """Makes a failure of a row that holds an observation which its space does not."""
        index = rows.envs[row]
        self.slots[index].give_up()
        self.slots[index].last = None
        rows.observations[row] = None
        rows.rewards[row], rows.infos[row] = 0.0, {}
        rows.terminated[row], rows.truncated[row] = False, True
        rows.failures.append(failure(index, Outcome.ENV_FAILURE, error))

    def _begin(
        self, rows: Rows, index: int, seed: int | None = None, options: Options | None = None
    ) -> None:
        slot = self.slots[index]
        self._losses.pop(index, None)
        try:
            slot.last, info = slot.reset(seed, options)
        except BROKEN as error:
            self._fail(rows, index, error)
        else:
            rows.add(slot.last, 0.0, info)

    def _revive(self, rows: Rows, index: int) -> None:
        lost = self._losses.pop(index, None)
        if self.slots[index].state is State.LOST and lost is not None:
            self.slots[index].state = State.FAILED
            self._report(rows, lost)
        else:
            self._begin(rows, index)

    def _end(self, rows: Rows, index: int, stepped: tuple[Any, ...]) -> None:
        """Adds the last step of an episode; what comes after it depends on the autoreset."""
        observation, reward, terminated, truncated, info = stepped
        slot = self.slots[index]
        slot.last, slot.state = observation, State.ENDED
        ends = {"terminated": bool(terminated), "truncated": bool(truncated)}
        if self._autoreset != pb.SAME_STEP:
            rows.add(observation, reward, info, **ends)
            return
        final = self._encode_final(index, observation, info)
        slot.last, info = slot.reset()
        rows.finals.append(final)
        rows.add(slot.last, reward, info, **ends)

    def _fail(self, rows: Rows, index: int, error: BaseException) -> None:
        self.slots[index].give_up()
        is_late = isinstance(error, StepTimeout)
        outcome = Outcome.TIMEOUT if is_late else Outcome.ENV_FAILURE
        self._report(rows, failure(index, outcome, error_of(error)))

    def _report(self, rows: Rows, report: pb.Failure) -> None:
        rows.failures.append(report)
        rows.add(self.slots[report.env].last, 0.0, {}, truncated=True)


def zeros(space: gymnasium.Space[Any]) -> Any:
    """Returns what stands for an observation where there is none: zeros, or empty texts."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: zeros(part) for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(zeros(part) for part in space.spaces)
    if isinstance(space, gymnasium.spaces.Text):
        return ""
    return np.zeros(space.shape or (), space.dtype)[()]
