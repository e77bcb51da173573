"""Many environments of one raygym.v1 conversation as a Gymnasium vector environment."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from raygym.core import Outcome, UInt8Array
from raygym.errors import (
    ConfigError,
    ProtocolError,
    RaygymError,
    RemoteError,
)
from raygym.remote_env.rpc.answers import (
    check_arguments,
    exception_of_failure,
    info_of,
    our_metadata,
    outcome_of,
    reason_of,
)
from raygym.remote_env.rpc.batching import ActionBatches, batch_of, merged
from raygym.remote_env.rpc.env import Failures
from raygym.remote_env.rpc.link import Link
from raygym.remote_env.rpc.session import LockstepSession, Rows
from raygym.wire.leaves import LeafValue, single_from_messages

_Flags: TypeAlias = npt.NDArray[np.bool_]
_Infos: TypeAlias = dict[str, Any]
_Stepped: TypeAlias = tuple[Any, npt.NDArray[np.float64], _Flags, _Flags, _Infos]

# What numpy and Gymnasium raise where infos of two environments fit no common array.
_UNLIKE = (TypeError, ValueError, AttributeError, IndexError)


class RpcVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """N environments of one raygym.v1 conversation; a step of all is one message.

    Observations, rewards, ends and infos are those of Gymnasium's SyncVectorEnv over the same
    environments, in each autoreset mode. They belong to the caller.

    Failures are as in RpcEnv. With ``failures="raise"`` the first environment that broke is
    raised, with its index as the field ``env``; the others have taken their step. With
    ``"truncate"`` they end its episode alone: ``infos["outcome"]`` and ``infos["reason"]`` say
    why, and every environment has an outcome in each step. A lost server ends all episodes.
    Unless the mode is DISABLED the next ``step`` begins new ones; ``reset`` always does.

    Args:
        link: To a server that hosts these environments; closed with it.
        count: How many there are.
        autoreset: As the environments were made.
        failures: What a step does about a failure.
        render_mode: ``rgb_array`` or None, as the environments were made.
        step_timeout_s: Longest wait for a step of all.
        start_timeout_s: Longest wait for a reset.
    """

    def __init__(
        self,
        link: Link,
        count: int,
        *,
        autoreset: AutoresetMode = AutoresetMode.NEXT_STEP,
        failures: Failures = "raise",
        render_mode: str | None = None,
        step_timeout_s: float = 70.0,
        start_timeout_s: float = 75.0,
    ) -> None:
        check_arguments(failures, render_mode)
        self.num_envs = count
        self.metadata = {**our_metadata(link.metadata), "autoreset_mode": autoreset}
        self.render_mode = render_mode
        self.single_observation_space = link.observation_space
        self.single_action_space = link.action_space
        self.observation_space = batch_space(link.observation_space, count)
        self.action_space = batch_space(link.action_space, count)
        self._link = link
        self._autoreset = autoreset
        self._failures = failures
        self._step_timeout_s = step_timeout_s
        self._start_timeout_s = start_timeout_s
        self._actions = ActionBatches(link.action_space, self.action_space, count)
        self._is_running = False
        # Views of the last answer: they hold until the next request.
        self._last: list[LeafValue] = []
        self._ended: _Flags = np.zeros(count, np.bool_)

    @property
    def sessions_lost(self) -> int:
        """How many conversations with the server were lost so far."""
        return self._link.sessions_lost

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, _Infos]:
        """Starts episodes, on a new connection if the old one was lost.

        Args:
            seed: One for each environment, or a number that counts up over them; None for none.
            options: For each environment. Under ``reset_mask`` it may hold bool[N]: only these
                environments are reset, unless the others were lost with their connection.

        Returns:
            All observations, and the infos of the environments that were reset.

        Raises:
            ConfigError: Seeds or mask do not fit the environments.
            RemoteEnvError: An environment raised, or ended its process.
            StepTimeout: One did not answer in time.
            RemoteError, ProtocolError: The server is out of reach, or refuses.
        """
        envs, options = self._envs_of(options)
        return self._begin(envs, self._seeds_of(seed), options)

    def step(self, actions: Any) -> _Stepped:
        """Takes one step in each environment.

        Raises:
            ConfigError: An action is not in its space, or an environment must be reset first.
            RemoteEnvError: An environment raised, or ended its process.
            StepTimeout: One did not answer in time.
            SessionLost: The server is gone.
        """
        if not self._is_running:
            raise ConfigError("step: no episodes run; call reset first")
        is_odd = bool(self._ended.any())
        if is_odd and self._autoreset is AutoresetMode.DISABLED:
            raise ConfigError(
                f"step: the episodes of environments {np.flatnonzero(self._ended).tolist()} are "
                "over; reset them with options={'reset_mask': mask}"
            )
        leaves = self._actions.leaves(actions, self._ended if is_odd else None)
        session = self._link.session
        if session is None:
            return self._begin_again()
        try:
            rows = session.step(leaves, timeout_s=self._step_timeout_s)
        except (RemoteError, ProtocolError) as error:
            return self._lose(error)
        return self._stepped(rows)

    def render(self) -> tuple[UInt8Array | None, ...] | None:  # type: ignore[override]
        """Returns uint8[H, W, 3] of now for each environment; None without a render mode.

        Raises:
            RemoteError, ProtocolError: An environment raised, or the server is gone.
        """
        session = self._link.session
        if self.render_mode is None or session is None:
            return None
        try:
            return tuple(session.render(timeout_s=self._step_timeout_s))
        except RaygymError as error:
            self._is_running = not self._link.forget_if_lost(error)
            raise

    def close_extras(self, **_kwargs: Any) -> None:
        """Ends the environments and hangs up."""
        self._link.close()
        self._is_running = False

    def _seeds_of(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + index for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ConfigError(f"reset: {len(seed)} seeds for {self.num_envs} environments")
        return list(seed)

    def _envs_of(self, options: dict[str, Any] | None) -> tuple[list[int], dict[str, Any] | None]:
        if options is None or "reset_mask" not in options:
            return list(range(self.num_envs)), options
        mask = options["reset_mask"]
        is_mask = isinstance(mask, np.ndarray) and mask.dtype == np.bool_
        if not is_mask or mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(
                f"reset: reset_mask must be bool[{self.num_envs}] with at least one True, got "
                f"{mask!r}"
            )
        rest = {key: value for key, value in options.items() if key != "reset_mask"}
        return np.flatnonzero(mask).tolist(), rest

    def _begin(
        self, envs: list[int], seeds: list[int | None], options: dict[str, Any] | None
    ) -> tuple[Any, _Infos]:
        known = self._link.session if self._is_running else None
        asked = envs

        def ask(session: LockstepSession) -> Rows:
            nonlocal asked
            asked = envs if session is known else list(range(self.num_envs))
            return session.reset(
                envs=() if len(asked) == self.num_envs else asked,
                seeds=[seeds[env] for env in asked],
                options=options,
                timeout_s=self._start_timeout_s,
            )

        # What the next answer may overwrite is copied first.
        before = [leaf.copy() for leaf in self._last] if len(envs) < self.num_envs else []
        self._is_running = False
        rows = self._link.reset(ask)
        if rows.failures:
            raise exception_of_failure(rows.failures[0], self._name)
        is_whole = len(asked) == self.num_envs
        self._last = rows.observations if is_whole else merged(before, rows.observations, asked)
        self._ended[asked] = False
        self._is_running = True
        return batch_of(self.single_observation_space, self._last), self._infos(rows, asked)

    def _begin_again(self) -> _Stepped:
        count = self.num_envs
        observations, infos = self._begin(list(range(count)), [None] * count, None)
        no = np.zeros(count, np.bool_)
        return observations, np.zeros(count), no, no.copy(), infos

    def _stepped(self, rows: Rows) -> _Stepped:
        self._last = rows.observations
        ended = rows.terminated | rows.truncated
        if self._autoreset is AutoresetMode.SAME_STEP:
            ended[:] = False
            ended[[failure.env for failure in rows.failures]] = True
        self._ended = ended
        if rows.failures and self._failures == "raise":
            raise exception_of_failure(rows.failures[0], self._name)
        return (
            batch_of(self.single_observation_space, rows.observations),
            rows.rewards.copy(),
            rows.terminated,
            rows.truncated,
            self._infos(rows, range(self.num_envs)),
        )

    def _infos(self, rows: Rows, envs: Sequence[int]) -> _Infos:
        infos: _Infos = {}
        if rows.infos or rows.finals:
            finals = {final.env: final for final in rows.finals}
            for row, env in enumerate(envs):
                if env in finals:
                    final = finals[env]
                    last = single_from_messages(self.single_observation_space, final.observation)
                    told = {"final_obs": copy.deepcopy(last)}
                    told["final_info"] = info_of(final.info)
                    infos = self._add_info(infos, told, env)
                if rows.infos:
                    infos = self._add_info(infos, info_of(rows.infos[row]), env)
        if self._failures == "truncate":
            for failure in rows.failures:
                told = {"outcome": failure.outcome, "reason": reason_of(failure)}
                infos = self._add_info(infos, told, failure.env)
            self._fill_outcomes(infos, envs)
        return infos

    def _add_info(self, vector_infos: _Infos, env_info: dict[str, Any], env_num: int) -> _Infos:
        """Adds one environment's info; values that fit no common array get one of objects."""
        try:
            return super()._add_info(vector_infos, env_info, env_num)
        except _UNLIKE:
            for key, value in env_info.items():
                try:
                    super()._add_info(vector_infos, {key: value}, env_num)
                except _UNLIKE:
                    self._add_object(vector_infos, key, value, env_num)
            return vector_infos

    def _add_object(self, infos: _Infos, key: str, value: Any, env: int) -> None:
        objects = np.full(self.num_envs, None, object)
        mask = infos[f"_{key}"]
        for other in np.flatnonzero(mask):
            objects[other] = infos[key][other]
        objects[env] = value
        mask[env] = True
        infos[key] = objects

    def _fill_outcomes(self, infos: _Infos, envs: Sequence[int]) -> None:
        """Gives the outcome ``ok`` to those of whom nothing else was said."""
        outcomes = infos.setdefault("outcome", np.full(self.num_envs, None, object))
        said = infos.setdefault("_outcome", np.zeros(self.num_envs, np.bool_))
        asked = np.zeros(self.num_envs, np.bool_)
        asked[envs] = True
        outcomes[asked & ~said] = str(Outcome.OK)
        said |= asked

    def _lose(self, error: RemoteError | ProtocolError) -> _Stepped:
        if not self._link.forget_if_lost(error):
            raise error
        if self._failures == "raise":
            self._is_running = False
            raise error
        count = self.num_envs
        self._ended = np.ones(count, np.bool_)
        infos: _Infos = {}
        for key, value in (("outcome", outcome_of(error)), ("reason", str(error))):
            infos[key] = np.full(count, value, object)
            infos[f"_{key}"] = np.ones(count, np.bool_)
        observations = batch_of(self.single_observation_space, self._last)
        no, yes = np.zeros(count, np.bool_), np.ones(count, np.bool_)
        return observations, np.zeros(count), no, yes, infos

    @property
    def _name(self) -> str:
        session = self._link.session
        return "the server" if session is None else session.name
