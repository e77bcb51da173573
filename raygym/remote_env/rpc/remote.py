"""An address as an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from raygym.core import UInt8Array
from raygym.remote_env.rpc.open import open_env, open_vector_env


class RemoteEnv(gymnasium.Env[Any, Any]):
    """An environment that another process hosts, in lock-step.

    ``raygym.serve_env`` and ``python -m raygym.runtimes gym-core`` host them; any dm_env_rpc
    server, remote-gym's among them, can be driven too, as far as that protocol goes.

    Args:
        address: ``grpc://host:port``, ``grpcs://host:port?token=...`` (TLS), or
            ``grpc+unix:///path/of/a.sock``.
        **options: ``env_id``, ``env_kwargs``, ``render_mode``, ``frame_skip``, ``observation``,
            ``token``, ``tls``, ``is_insecure``, ``connect_timeout_s``, ``step_timeout_s``,
            ``start_timeout_s``, ``failures``, ``client_id`` and others: see
            ``raygym.remote_env.rpc.open.RpcOptions``.

    Raises:
        ConfigError: An argument makes no sense, or the server refuses one.
        RemoteUnreachable: Nothing listens there, or something else.
        HandshakeRefused: TLS was not agreed on, or the token is missing or wrong.
        RemoteEnvError: The environment's factory raised.
    """

    def __init__(self, address: str, **options: Any) -> None:
        self._env = open_env(address, **options)
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space
        self.metadata = self._env.metadata
        self.render_mode = self._env.render_mode
        self.spec = self._env.spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see ``RpcEnv.reset``."""
        super().reset(seed=seed)
        return self._env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes one step; see ``RpcEnv.step``."""
        return self._env.step(action)

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns uint8[H, W, 3] of now, RGB; None without a render mode."""
        return self._env.render()

    def close(self) -> None:
        """Ends the environment and hangs up. May be called twice."""
        self._env.close()


class RemoteVectorEnv(gymnasium.vector.VectorWrapper):
    """Many environments of one server, in lock-step; a step is one message for all.

    Args:
        address: Of a server that speaks raygym.v1; see ``RemoteEnv``.
        count: How many.
        autoreset: What follows the end of an episode.
        **options: See ``RemoteEnv``.

    Raises:
        ConfigError, RemoteUnreachable, HandshakeRefused, RemoteEnvError: See ``RemoteEnv``.
    """

    def __init__(
        self,
        address: str,
        count: int,
        *,
        autoreset: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        super().__init__(open_vector_env(address, count, autoreset=autoreset, **options))
