"""One environment of a raygym.v1 server as a Gymnasium environment."""

from __future__ import annotations

import copy
from typing import Any, Literal, TypeAlias

import gymnasium

from raygym.core import Outcome, UInt8Array
from raygym.errors import ConfigError, ProtocolError, RaygymError, RemoteError
from raygym.remote_env.rpc.answers import (
    check_arguments,
    exception_of_failure,
    info_of,
    our_metadata,
    outcome_of,
    reason_of,
)
from raygym.remote_env.rpc.link import Link
from raygym.remote_env.rpc.session import LockstepSession, Rows
from raygym.wire.leaves import LeafValue, explain, stack_values, unstack_values

Failures: TypeAlias = Literal["raise", "truncate"]
"""What a step does about an environment that broke, or a server that was lost."""

_Stepped: TypeAlias = tuple[Any, float, bool, bool, dict[str, Any]]


class RpcEnv(gymnasium.Env[Any, Any]):
    """One environment of a raygym.v1 server, in lock-step.

    Spaces, rewards, ends, infos, seeds and options are the environment's own. Observations
    belong to the caller. ``metadata`` names no render mode but ``rgb_array``.

    An environment that raises or ends its process, a step beyond a deadline, and a lost server
    are failures. With ``failures="raise"`` they are RemoteEnvError, StepTimeout and SessionLost.
    With ``"truncate"`` they end the episode: the step gives the last observation, reward 0.0,
    ``truncated``, and ``info`` with ``outcome`` (``env_failure``, ``timeout`` or
    ``infra_failure``) and ``reason``; other steps have the outcome ``ok`` if the environment
    says nothing else. Either way the next ``reset`` works, on a new connection where need be.

    Args:
        link: To a server that hosts one such environment; closed with it.
        failures: What a step does about a failure.
        render_mode: ``rgb_array`` or None, as the environment was made.
        step_timeout_s: Longest wait for a step or a picture. The server's own deadline should
            be shorter: it can end an environment and keep the connection.
        start_timeout_s: Longest wait for a reset.
    """

    def __init__(
        self,
        link: Link,
        *,
        failures: Failures = "raise",
        render_mode: str | None = None,
        step_timeout_s: float = 70.0,
        start_timeout_s: float = 75.0,
    ) -> None:
        check_arguments(failures, render_mode)
        self.observation_space = link.observation_space
        self.action_space = link.action_space
        self.metadata = our_metadata(link.metadata)
        self.render_mode = render_mode
        self._link = link
        self._failures = failures
        self._step_timeout_s = step_timeout_s
        self._start_timeout_s = start_timeout_s
        self._is_box = isinstance(self.observation_space, gymnasium.spaces.Box)
        self._is_running = False
        self._last: Any = None

    @property
    def sessions_lost(self) -> int:
        """How many conversations with the server were lost so far."""
        return self._link.sessions_lost

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, on a new connection if the old one was lost.

        Args:
            seed: For the environment; None for none.
            options: For the environment.

        Raises:
            RemoteEnvError: The environment raised, or ended its process.
            StepTimeout: It did not answer in time.
            RemoteError, ProtocolError: The server is out of reach, or refuses.
        """
        super().reset(seed=seed)
        self._is_running = False
        rows = self._reset(seed, options)
        if rows.failures:
            raise exception_of_failure(rows.failures[0], self._name)
        self._is_running = True
        self._last = self._observation(rows)
        return self._last, self._info(rows)

    def step(self, action: Any) -> _Stepped:
        """Takes one step.

        Raises:
            ConfigError: The action is not in the space, or no episode runs.
            RemoteEnvError: The environment raised, or ended its process.
            StepTimeout: It did not answer in time.
            SessionLost: The server is gone.
        """
        session = self._link.session
        if not self._is_running or session is None:
            raise ConfigError("step: no episode runs; call reset first")
        actions = self._leaves(action)
        try:
            rows = session.step(actions, timeout_s=self._step_timeout_s)
        except (RemoteError, ProtocolError) as error:
            return self._lose(error)
        if rows.failures:
            return self._break(rows)
        self._last = self._observation(rows)
        terminated, truncated = bool(rows.terminated[0]), bool(rows.truncated[0])
        if terminated or truncated:
            self._is_running = False
        return self._last, float(rows.rewards[0]), terminated, truncated, self._info(rows)

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns uint8[H, W, 3] of now, RGB; None without a render mode.

        Raises:
            RemoteError, ProtocolError: The environment raised, or the server is gone.
        """
        session = self._link.session
        if self.render_mode is None or session is None:
            return None
        try:
            return session.render(timeout_s=self._step_timeout_s)[0]
        except RaygymError as error:
            if self._link.forget_if_lost(error):
                self._is_running = False
            raise

    def cut(self, outcome: str, reason: str) -> _Stepped:
        """Ends the episode for a reason of the caller's, hangs up, and returns the last step."""
        self.close()
        return self._failed(outcome, reason)

    def close(self) -> None:
        """Ends the environment and hangs up. May be called twice."""
        self._link.close()
        self._is_running = False

    @property
    def _name(self) -> str:
        session = self._link.session
        return "the server" if session is None else session.name

    def _reset(self, seed: int | None, options: dict[str, Any] | None) -> Rows:
        def ask(session: LockstepSession) -> Rows:
            timeout_s = self._start_timeout_s
            return session.reset(seeds=(seed,), options=options, timeout_s=timeout_s)

        return self._link.reset(ask)

    def _leaves(self, action: Any) -> list[LeafValue]:
        why = explain(self.action_space, action)
        if why is not None:
            raise ConfigError(f"step: {why}")
        return stack_values(self.action_space, [action])

    def _observation(self, rows: Rows) -> Any:
        leaves = rows.observations
        if self._is_box:
            leaf: Any = leaves[0]
            return leaf[0].copy()
        owned = [leaf if isinstance(leaf, list) else leaf.copy() for leaf in leaves]
        return unstack_values(self.observation_space, owned, 1)[0]

    def _info(self, rows: Rows) -> dict[str, Any]:
        info = info_of(rows.infos[0]) if rows.infos else {}
        if self._failures == "truncate":
            info.setdefault("outcome", str(Outcome.OK))
        return info

    def _lose(self, error: RemoteError | ProtocolError) -> _Stepped:
        if not self._link.forget_if_lost(error):
            raise error
        self._is_running = False
        if self._failures == "raise":
            raise error
        return self._failed(outcome_of(error), str(error))

    def _break(self, rows: Rows) -> _Stepped:
        failure = rows.failures[0]
        self._is_running = False
        if self._failures == "raise":
            raise exception_of_failure(failure, self._name)
        self._last = self._observation(rows)
        return self._failed(failure.outcome, reason_of(failure))

    def _failed(self, outcome: str, reason: str) -> _Stepped:
        info = {"outcome": outcome, "reason": reason}
        return copy.deepcopy(self._last), 0.0, False, True, info
