"""Many environments on one Remote in lock-step, any of them reset or stepped at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from raygym.core import Outcome, Remote
from raygym.errors import ConfigError, ProtocolError, RemoteError
from raygym.remote_env.lockstep_env import LockstepConfig
from raygym.remote_env.lockstep_remote import LockstepRemote
from raygym.remote_env.rpc.answers import exception_of_failure, info_of, outcome_of, reason_of
from raygym.remote_env.rpc.link import Link
from raygym.remote_env.rpc.session import LockstepSession, Rows
from raygym.wire.leaves import explain, stack_values, unstack_values

log = logging.getLogger(__name__)

_OK = str(Outcome.OK)
_Flags: TypeAlias = npt.NDArray[np.bool_]
_Stepped: TypeAlias = tuple[Any, npt.NDArray[np.float64], _Flags, _Flags, list[dict[str, Any]]]


class LockstepBatch:
    """Environments of one Remote and one ``Make``; a step of several is one message.

    Rows and infos are those of LockstepEnv, one for each environment asked for. A lost Remote
    ends all episodes: those asked for at once, the others when they are stepped next. The next
    ``reset`` starts another Remote.

    Args:
        remote: What is behind it; ended with this.
        config: What is played; ``config.options.count`` says how many, without autoreset.
        close_also: Called last by ``close``.

    Raises:
        RemoteError: No Remote got ready.
    """

    def __init__(
        self,
        remote: LockstepRemote,
        config: LockstepConfig,
        *,
        close_also: Callable[[], None] = lambda: None,
    ) -> None:
        self.num_envs = config.options.count
        self.config = config
        self._remote = remote
        self._close_also = close_also
        self._link: Link | None = None
        self._is_worn = False
        try:
            link = self._connected()
        except BaseException:
            self.close()
            raise
        self.single_observation_space: gymnasium.Space[Any] = link.observation_space
        self.single_action_space: gymnasium.Space[Any] = link.action_space
        self._is_array = isinstance(link.observation_space, gymnasium.spaces.Box)
        self._lost: dict[int, tuple[str, str]] = {}
        self._is_running = np.zeros(self.num_envs, np.bool_)
        self._last: list[Any] = [None] * self.num_envs
        self._seeds: list[int | None] = [None] * self.num_envs
        self._scores = np.zeros(self.num_envs)
        self._steps = np.zeros(self.num_envs, np.int64)

    @property
    def remotes_started(self) -> int:
        """How many Remotes were started or lent so far."""
        return self._remote.started

    @property
    def remotes_lost(self) -> int:
        """How many of them were lost."""
        return self._remote.lost

    @property
    def remote_id(self) -> str | None:
        """Id of the Remote of now, if there is one."""
        remote = self._remote.remote
        return None if remote is None else remote.id

    @property
    def remote(self) -> Remote | None:
        """The Remote behind it now, if there is one."""
        return self._remote.remote

    def reset(
        self,
        envs: Sequence[int],
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
    ) -> tuple[_Stepped, dict[int, Exception]]:
        """Begins episodes, on a new Remote if there is none or it was lost.

        Args:
            envs: Which.
            seeds: One for each.
            options: For all of them.

        Returns:
            A row for each, and what those raised that did not begin.

        Raises:
            RemoteError, ProtocolError: None began.
            ConfigError, MissingDependency: Another try would not help.
        """
        given = None if options is None else dict(options)
        self._count_episodes(envs)

        def ask(session: LockstepSession) -> Rows:
            return session.reset(
                envs=envs, seeds=seeds, options=given, timeout_s=self.config.start_timeout_s
            )

        try:
            rows = ask(self._session())
        except (RemoteError, ProtocolError) as error:
            self._note(error)
            raise
        name = self._name
        failures: dict[int, Exception] = {
            failure.env: exception_of_failure(failure, name) for failure in rows.failures
        }
        for env, seed in zip(envs, seeds, strict=True):
            self._lost.pop(env, None)
            self._is_running[env] = env not in failures
            self._seeds[env], self._scores[env], self._steps[env] = seed, 0.0, 0
        if self._remote.tenancy is not None:
            self._remote.tenancy.begin_episode()
        told = self._told(envs, rows, steps=0)
        told[4][0].update(self._remote.claims.news())
        return told, failures

    def step(self, envs: Sequence[int], actions: Sequence[Any]) -> _Stepped:
        """Takes steps in environments that are within an episode.

        Raises:
            ConfigError: An action is not in the space; nothing was done.
        """
        for env, action in zip(envs, actions, strict=True):
            why = explain(self.single_action_space, action, where=f"the action of slot {env}")
            if why is not None:
                raise ConfigError(f"step: {why}")
        tenancy = self._remote.tenancy
        if tenancy is not None and (taken := tenancy.lost()):
            self._lose_all(str(Outcome.PREEMPTED), taken)
        live = [row for row, env in enumerate(envs) if env not in self._lost]
        rows: Rows | None = None
        if live:
            try:
                rows = self._ask_step([envs[row] for row in live], [actions[row] for row in live])
            except (RemoteError, ProtocolError) as error:
                if not self._note(error):
                    raise
        if rows is not None and len(live) == len(envs):
            return self._told(envs, rows, steps=1)
        return self._mixed(envs, live if rows is not None else [], rows)

    def close(self) -> None:
        """Gives the Remote back and ends all else. May be called twice."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._remote.release()
        self._close_also()

    @property
    def _name(self) -> str:
        return f"{self.config.name} on {self.remote_id}"

    def _connected(self) -> Link:
        """Returns the conversation, begun on a new Remote if there is none."""
        if self._link is None:
            self._link = Link(
                self._remote.open,
                self.config.options,
                connect_timeout_s=self.config.start_timeout_s,
                start_timeout_s=self.config.start_timeout_s,
            )
            self._is_worn = False
        return self._link

    def _session(self) -> LockstepSession:
        return self._connected().ensure()

    def _note(self, error: RemoteError | ProtocolError) -> bool:
        """Notes the loss of the Remote, if that is what an error means; returns whether it is."""
        link = self._link
        if link is not None and link.session is not None and not link.session.is_closed:
            return False
        self._lose_all(outcome_of(error), str(error))
        return True

    def _ask_step(self, envs: list[int], actions: list[Any]) -> Rows:
        link = self._link
        session = None if link is None else link.session
        if session is None:
            raise RemoteError(f"{self.config.name}: its remote is gone")
        leaves = stack_values(self.single_action_space, actions)
        return session.step(leaves, envs=envs, timeout_s=self.config.step_timeout_s)

    def _lose_all(self, outcome: str, reason: str) -> None:
        """Gives the Remote up; each running episode ends with the next step asked of it."""
        for env in np.flatnonzero(self._is_running).tolist():
            self._lost[env] = (outcome, reason)
        self._is_running[:] = False
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._remote.remote is not None:
            log.warning("batch.lost remote_id=%s cause=%s", self.remote_id, reason)
        is_taken = outcome == str(Outcome.PREEMPTED)
        self._remote.note_loss("preempted" if is_taken else "infra_failure")
        self._remote.drop()

    def _count_episodes(self, envs: Sequence[int]) -> None:
        """Tells the backend of episodes that are over; lets a worn Remote go between episodes."""
        tenancy = self._remote.tenancy
        if tenancy is None:
            return
        for env in envs:
            self._is_running[env] = False
            self._is_worn |= tenancy.is_worn_after(int(self._steps[env]))
        if self._is_worn and not self._is_running.any() and self._link is not None:
            self._link.close()
            self._link = None
            self._remote.wear_out()

    def _told(self, envs: Sequence[int], rows: Rows, *, steps: int) -> _Stepped:
        """Returns what came, with the infos of LockstepEnv; notes scores and ends."""
        infos = [info_of(info) for info in rows.infos] or [{} for _ in envs]
        by_env = {env: row for row, env in enumerate(envs)}
        for failure in rows.failures:
            infos[by_env[failure.env]].update(outcome=failure.outcome, reason=reason_of(failure))
        count = len(envs)
        if self._is_array:
            leaf: Any = rows.observations[0]
            observations = leaf.copy()
            singles: Any = observations
        else:
            owned = [leaf if isinstance(leaf, list) else leaf.copy() for leaf in rows.observations]
            singles = unstack_values(self.single_observation_space, owned, count)
            observations = _objects(singles)
        ended = rows.terminated | rows.truncated
        for row, env in enumerate(envs):
            self._last[env] = singles[row]
            self._scores[env] += rows.rewards[row]
            self._steps[env] += steps
            if ended[row]:
                self._is_running[env] = False
            self._complete(env, infos[row])
        return observations, rows.rewards.copy(), rows.terminated, rows.truncated, infos

    def _mixed(self, envs: Sequence[int], live: list[int], rows: Rows | None) -> _Stepped:
        """Returns rows some or all of which are of environments that were lost."""
        count = len(envs)
        rewards, infos = np.zeros(count), [dict[str, Any]() for _ in envs]
        terminated, truncated = np.zeros(count, np.bool_), np.ones(count, np.bool_)
        if rows is not None:
            told = self._told([envs[row] for row in live], rows, steps=1)
            rewards[live], terminated[live], truncated[live] = told[1], told[2], told[3]
            for row, info in zip(live, told[4], strict=True):
                infos[row] = info
        for row, env in enumerate(envs):
            if row not in live:
                outcome, reason = self._lost.pop(env, (str(Outcome.INFRA_FAILURE), ""))
                infos[row] = {"outcome": outcome, "reason": reason}
                self._complete(env, infos[row])
        singles = [self._last[env] for env in envs]
        observations = np.stack(singles) if self._is_array else _objects(singles)
        return observations, rewards, terminated, truncated, infos

    def _complete(self, env: int, info: dict[str, Any]) -> None:
        info.setdefault("outcome", _OK)
        info.update(
            episode_score=float(self._scores[env]),
            episode_steps=int(self._steps[env]),
            remote_id=self.remote_id,
        )
        if self._remote.lease_id:
            info["lease_id"] = self._remote.lease_id
        if self._seeds[env] is not None:
            info["seed"] = self._seeds[env]


def _objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    objects = np.full(len(values), None, object)
    for row, value in enumerate(values):
        objects[row] = value
    return objects
