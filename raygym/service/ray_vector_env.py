"""A vector environment whose environments live in Ray actors, wherever in the cluster."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import ray
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError

from raygym.core import Outcome
from raygym.environments import make
from raygym.errors import ConfigError, MissingDependency, RaygymError, RemoteFailedToStart
from raygym.service.placement import actor_options
from raygym.service.ray_running import ACTOR_CPUS

log = logging.getLogger(__name__)

Row: TypeAlias = tuple[Any, float, bool, bool, dict[str, Any]]
"""What one environment answered: observation, reward, terminated, truncated, info."""
_Stepped: TypeAlias = tuple[
    Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
]
EnvFactory: TypeAlias = Callable[[int], gymnasium.Env[Any, Any]]

CLOSE_TIMEOUT_S = 5.0
START_ATTEMPTS = 5
"""So many failed resets of one actor's slots in a row end the run."""


class EnvGroup:
    """The environments of one actor; a plain class, made a Ray actor where it is spawned.

    An environment whose episode ended is reset by the next ``step``, whose action it ignores.

    Args:
        env_factory: Makes the environment of a slot; called at the first need.
        slots: Which slots live here.
    """

    def __init__(self, env_factory: EnvFactory, slots: Sequence[int]) -> None:
        self._env_factory = env_factory
        self._slots = slots
        self._envs: list[gymnasium.Env[Any, Any]] = []
        self._is_over = [True] * len(slots)

    def describe(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any], dict[str, Any]]:
        """Returns the observation space, the action space and the metadata of one."""
        self._open()
        env = self._envs[0]
        return env.observation_space, env.action_space, dict(env.metadata)

    def reset(self, seeds: Sequence[int | None], options: dict[str, Any] | None) -> list[Row]:
        """Begins an episode in each."""
        self._open()
        rows = [
            _first_row(env.reset(seed=seed, options=options))
            for env, seed in zip(self._envs, seeds, strict=True)
        ]
        self._is_over = [False] * len(rows)
        return rows

    def step(self, actions: Sequence[Any]) -> list[Row]:
        """Steps each, or begins its next episode."""
        rows: list[Row] = []
        for i, (env, action) in enumerate(zip(self._envs, actions, strict=True)):
            if self._is_over[i]:
                rows.append(_first_row(env.reset()))
            else:
                observation, reward, terminated, truncated, info = env.step(action)
                rows.append((observation, float(reward), bool(terminated), bool(truncated), info))
            self._is_over[i] = rows[i][2] or rows[i][3]
        return rows

    def close(self) -> None:
        """Closes them; may be called twice."""
        while self._envs:
            env: Any = self._envs.pop()
            env.close()

    def _open(self) -> None:
        if not self._envs:
            self._envs = [self._env_factory(slot) for slot in self._slots]


@dataclass
class _Actor:
    """One actor, as the driver sees it."""

    slots: list[int]
    handle: Any
    has_episodes: bool = False
    failures_in_a_row: int = 0


@dataclass(frozen=True)
class _Failure:
    """Why an actor gave no rows."""

    outcome: Outcome
    reason: str


_Asked: TypeAlias = dict[ObjectRef[Any], tuple[_Actor, float]]
"""Who was asked, and until when (``time.monotonic``) the answer may come."""


class RayVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Environments in Ray actors, stepped from here: every step crosses Ray.

    The price: a step of 8 CartPoles on 2 busy cores took about 10 ms with an actor each, 1.5 ms
    with all of them in one actor, and 0.3 ms in the processes of ``raygym.make_vec``
    (``benchmarks/service.py price``). So this is for environments that need other machines and
    are slow themselves, where somebody must see every step. ``raygym.RolloutService`` crosses
    Ray once for each Rollout.

    The step after an episode's end resets that environment and ignores its action
    (``AutoresetMode.NEXT_STEP``). Every ``infos["outcome"]`` says how the step went, in words of
    ``raygym.Outcome``. An actor that ends (``infra_failure``), does not answer in time
    (``timeout``) or raises (``env_failure``) cuts the episodes of its slots: truncated, reward
    0, the last observation again and a ``reason``. A new actor takes its place, which the next
    step waits for. No step is ever sent twice.

    Args:
        env: An environment id for ``raygym.make``, or what makes the environment of a slot,
            called in its actor; must pickle.
        num_envs: How many, 1 or more.
        envs_per_actor: How many share one actor: cheaper to cross, but one after another, and
            they fail together.
        make_kwargs: More for ``raygym.make``.
        actor_options: Ray's options of each actor, such as ``resources`` or ``runtime_env``.
        step_timeout_s: Longest wait for a step.
        reset_timeout_s: Longest wait for an actor to start and to begin its episodes.

    Raises:
        ConfigError: Ray does not run, or a setting makes no sense.
        MissingDependency: What the environment needs is absent.
        RemoteFailedToStart: The first environment could not be made.
    """

    def __init__(
        self,
        env: str | EnvFactory,
        num_envs: int,
        *,
        envs_per_actor: int = 1,
        make_kwargs: Mapping[str, Any] | None = None,
        actor_options: Mapping[str, Any] | None = None,
        step_timeout_s: float = 75.0,
        reset_timeout_s: float = 120.0,
    ) -> None:
        self._actors: list[_Actor] = []
        _check(num_envs, envs_per_actor)
        self._factory = _factory(env, dict(make_kwargs or {})) if isinstance(env, str) else env
        self._actor_options = {"num_cpus": ACTOR_CPUS, **(actor_options or {})}
        self._step_timeout_s = step_timeout_s
        self._reset_timeout_s = reset_timeout_s
        self.actors_lost = 0
        self.num_envs = num_envs
        for first in range(0, num_envs, envs_per_actor):
            slots = list(range(first, min(first + envs_per_actor, num_envs)))
            self._actors.append(_Actor(slots, self._spawn(slots)))
        self.single_observation_space, self.single_action_space, metadata = self._describe()
        self.metadata = {**metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rows: list[Row] = []

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in each slot; an actor that fails is replaced and asked again.

        Args:
            seed: One for each; a number stands for itself and those that follow.
            options: For all.

        Raises:
            ConfigError: There are more or fewer seeds than slots.
            RemoteFailedToStart: An actor failed ``START_ATTEMPTS`` times in a row.
        """
        seeds = _seeds(seed, self.num_envs)
        rows: dict[int, Row] = {}
        waiting = list(self._actors)
        while waiting:
            asked = dict(
                self._ask_reset(actor, [seeds[slot] for slot in actor.slots], options)
                for actor in waiting
            )
            waiting = []
            for actor, answer in self._answers(asked):
                if isinstance(answer, _Failure):
                    self._replace(actor, answer)
                    waiting.append(actor)
                else:
                    rows.update(_playing(actor, answer))
        observations, _, _, _, infos = self._gather(rows)
        return observations, infos

    def step(self, actions: Any) -> _Stepped:
        """Steps every slot, or begins the next episode where one was over.

        Args:
            actions: One for each, as the action space says.

        Returns:
            Observations, rewards float64[N], terminated bool[N], truncated bool[N], infos.

        Raises:
            ConfigError: There are more or fewer actions than slots, or there was no reset yet.
            RemoteFailedToStart: An actor failed ``START_ATTEMPTS`` times in a row.
        """
        each = list(iterate(self.action_space, actions))
        if len(each) != self.num_envs or not self._rows:
            raise ConfigError(
                f"step: expected {self.num_envs} actions after a reset, got {len(each)} "
                f"{'after' if self._rows else 'before'} it"
            )
        asked = dict(
            self._ask_step(actor, [each[s] for s in actor.slots]) for actor in self._actors
        )
        rows: dict[int, Row] = {}
        for actor, answer in self._answers(asked):
            if isinstance(answer, _Failure):
                self._replace(actor, answer)
                info = {"outcome": answer.outcome.value, "reason": answer.reason}
                cut = [(self._rows[slot][0], 0.0, False, True, info) for slot in actor.slots]
                rows.update(zip(actor.slots, cut, strict=True))
            else:
                rows.update(_playing(actor, answer))
        return self._gather(rows)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the environments and ends the actors, within ``CLOSE_TIMEOUT_S``."""
        del kwargs
        if self._actors and ray.is_initialized():
            closing = [actor.handle.close.remote() for actor in self._actors]
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_TIMEOUT_S)
            for actor in self._actors:
                ray.kill(actor.handle)
        self._actors = []

    def _describe(self) -> Any:
        first = self._actors[0]
        while True:
            deadline_s = time.monotonic() + self._reset_timeout_s
            try:
                ((_, answer),) = self._answers(
                    {first.handle.describe.remote(): (first, deadline_s)}
                )
                if not isinstance(answer, _Failure):
                    return answer
                self._replace(first, answer)
            except BaseException:
                self.close()
                raise

    def _spawn(self, slots: Sequence[int]) -> Any:
        options = {**actor_options(len(slots)), **self._actor_options}
        return ray.remote(EnvGroup).options(**options).remote(self._factory, slots)

    def _ask_reset(
        self, actor: _Actor, seeds: Sequence[int | None], options: dict[str, Any] | None
    ) -> tuple[ObjectRef[Any], tuple[_Actor, float]]:
        deadline_s = time.monotonic() + self._reset_timeout_s
        return actor.handle.reset.remote(seeds, options), (actor, deadline_s)

    def _ask_step(
        self, actor: _Actor, actions: Sequence[Any]
    ) -> tuple[ObjectRef[Any], tuple[_Actor, float]]:
        if not actor.has_episodes:
            return self._ask_reset(actor, [None] * len(actions), None)
        has_resets = any(self._rows[slot][2] or self._rows[slot][3] for slot in actor.slots)
        timeout_s = self._reset_timeout_s if has_resets else self._step_timeout_s
        return actor.handle.step.remote(actions), (actor, time.monotonic() + timeout_s)

    def _answers(self, asked: _Asked) -> list[tuple[_Actor, Any]]:
        """Returns what each actor answered, or its ``_Failure``, once all have or are late."""
        answers: list[tuple[_Actor, Any]] = []
        while asked:
            left_s = min(deadline_s for _, deadline_s in asked.values()) - time.monotonic()
            done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=max(0.0, left_s))
            answers += [(asked.pop(ref)[0], _answer(ref)) for ref in done]
            now_s = time.monotonic()
            for ref, (actor, deadline_s) in list(asked.items()):
                if now_s >= deadline_s:
                    del asked[ref]
                    late = _Failure(Outcome.TIMEOUT, "its actor did not answer in time")
                    answers.append((actor, late))
        return answers

    def _replace(self, actor: _Actor, failure: _Failure) -> None:
        log.warning("actor.lost slots=%s cause=%s", actor.slots, failure.reason)
        ray.kill(actor.handle)
        self.actors_lost += 1
        actor.failures_in_a_row += 1
        if actor.failures_in_a_row >= START_ATTEMPTS:
            raise RemoteFailedToStart(
                f"RayVectorEnv: the actor of slots {actor.slots} failed {START_ATTEMPTS} times in "
                f"a row, the last time so: {failure.reason}. `ray list actors --detail` and "
                "`ray logs actor` show more",
                slots=actor.slots,
            )
        actor.handle = self._spawn(actor.slots)
        actor.has_episodes = False

    def _gather(self, rows: Mapping[int, Row]) -> _Stepped:
        self._rows = [rows[slot] for slot in range(self.num_envs)]
        infos: dict[str, Any] = {}
        for slot, row in enumerate(self._rows):
            infos = self._add_info(infos, {"outcome": Outcome.OK.value, **row[4]}, slot)
        space = self.single_observation_space
        out = create_empty_array(space, self.num_envs, fn=np.empty)
        observations = concatenate(space, [row[0] for row in self._rows], out)
        return (
            observations,
            np.array([row[1] for row in self._rows], np.float64),
            np.array([row[2] for row in self._rows], np.bool_),
            np.array([row[3] for row in self._rows], np.bool_),
            infos,
        )


def _answer(ref: ObjectRef[Any]) -> Any:
    """Returns what an actor answered, or how it failed.

    Raises:
        ConfigError, MissingDependency: The environment cannot be made at all.
    """
    try:
        return ray.get(ref)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ConfigError | MissingDependency):
            raise cause from None
        is_infra = isinstance(cause, RaygymError)
        outcome = Outcome.INFRA_FAILURE if is_infra else Outcome.ENV_FAILURE
        return _Failure(outcome, f"{type(cause).__name__}: {cause}")
    except RayError as error:
        lines = str(error).strip().splitlines()
        return _Failure(
            Outcome.INFRA_FAILURE, f"{type(error).__name__}: {lines[0] if lines else ''}"
        )


def _playing(actor: _Actor, rows: Sequence[Row]) -> Iterable[tuple[int, Row]]:
    """Notes that an actor plays; returns its rows by slot."""
    actor.has_episodes = True
    actor.failures_in_a_row = 0
    return zip(actor.slots, rows, strict=True)


def _first_row(answer: tuple[Any, dict[str, Any]]) -> Row:
    return answer[0], 0.0, False, False, answer[1]


def _factory(env_id: str, make_kwargs: dict[str, Any]) -> EnvFactory:
    return functools.partial(_make, env_id, make_kwargs)


def _make(env_id: str, make_kwargs: dict[str, Any], slot: int) -> gymnasium.Env[Any, Any]:
    client_id = make_kwargs.get("client_id")
    if client_id is not None:
        make_kwargs = {**make_kwargs, "client_id": f"{client_id}-{slot}"}
    return make(env_id, **make_kwargs)


def _check(num_envs: int, envs_per_actor: int) -> None:
    for name, value in (("num_envs", num_envs), ("envs_per_actor", envs_per_actor)):
        if value < 1:
            raise ConfigError(f"RayVectorEnv.{name}: expected 1 or more, got {value!r}")
    if not ray.is_initialized():
        raise ConfigError("RayVectorEnv: Ray does not run in this process; call ray.init() first")


def _seeds(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    if seed is None:
        return [None] * count
    seeds: list[int | None] = list(range(seed, seed + count) if isinstance(seed, int) else seed)
    if len(seeds) != count:
        raise ConfigError(f"reset: expected {count} seeds, got {len(seeds)}")
    return seeds
