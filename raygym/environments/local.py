"""Gymnasium's own environments in this process, without any Remote."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import gymnasium

from raygym import gym_ids
from raygym.config import ObservationConfig
from raygym.core import Outcome, UInt8Array
from raygym.errors import ConfigError, RemoteEnvError
from raygym.remote_env.rpc.pictures import picture_message
from raygym.runtimes.lockstep.answers import Refused
from raygym.runtimes.lockstep.picture import PictureMaker, wants_pictures
from raygym.runtimes.lockstep.slot import BROKEN, Slot

log = logging.getLogger(__name__)

_OK = str(Outcome.OK)
_Stepped: TypeAlias = tuple[Any, float, bool, bool, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """What is played in this process; it pickles."""

    env_id: str
    """An id that ``raygym.gym_ids.find`` takes: ``CartPole-v1``, ``gym-core.Pong-v0``."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """For ``gymnasium.make``."""
    observation: ObservationConfig | None = None
    """What becomes of observations that are pictures."""
    frame_skip: int = 1
    """Frames of one step, the action held."""
    render_mode: str | None = None
    """``rgb_array`` or None."""

    def make(self) -> gymnasium.Env[Any, Any]:
        """Makes the environment itself, as a Remote would.

        Raises:
            ConfigError: There is none of that id, or it cannot be made so.
        """
        kwargs = dict(self.env_kwargs)
        if self.render_mode is not None:
            kwargs["render_mode"] = self.render_mode
        return gym_ids.make(self.env_id, **kwargs)


class LocalEnv(gymnasium.Env[Any, Any]):
    """One of Gymnasium's environments, right here, as it would be on a Remote in lock-step.

    Observations, rewards, ends and failures are the same: an environment that raises within a
    step ends the episode with ``info["outcome"]`` ``env_failure`` and a ``reason``, and the
    next ``reset`` makes another. ``info`` is the environment's own, and ``outcome``,
    ``episode_score``, ``episode_steps`` and, where it is known, ``seed``.

    Observations may be the environment's own array; copy what must last.

    Args:
        config: What is played.

    Raises:
        ConfigError: There is none of that id, or its observations are no pictures and some
            were asked for.
    """

    def __init__(self, config: LocalConfig) -> None:
        self.config = config
        self.render_mode = config.render_mode
        self._slot = Slot(config.make, config.frame_skip)
        env = self._slot.start()
        self.metadata = {**(env.metadata or {}), "render_modes": ["rgb_array"]}
        self.action_space = env.action_space
        self.observation_space: gymnasium.Space[Any] = env.observation_space
        picture = picture_message(config.observation)
        if picture is not None and wants_pictures(picture):
            try:
                self._slot.picture = PictureMaker(picture, env.observation_space)
            except Refused as error:
                self._slot.close()
                raise ConfigError(f"{config.env_id}: {error.message}") from error
            self.observation_space = self._slot.picture.space
            self._slot.start()
        self._is_running = False
        self._last: Any = None
        self._seed: int | None = None
        self._score = 0.0
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, in a new environment if the old one broke.

        Raises:
            RemoteEnvError: The environment raised.
            ConfigError: It cannot be made.
        """
        self._is_running = False
        try:
            self._last, info = self._slot.reset(seed, options)
        except ConfigError:
            raise
        except BROKEN as error:
            self._slot.give_up()
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            raise RemoteEnvError(
                f"{self.config.env_id}: reset raised {kind}: {error}", type=kind
            ) from error
        self._is_running = True
        self._seed, self._score, self._steps = seed, 0.0, 0
        return self._last, self._told(info)

    def step(self, action: Any) -> _Stepped:
        """Takes one step.

        Raises:
            ConfigError: The action is not in the space, or no episode runs.
        """
        if not self._is_running:
            raise ConfigError("step: no episode runs; call reset first")
        if action not in self.action_space:
            raise ConfigError(f"step: the action {action!r} is not in {self.action_space}")
        try:
            self._last, reward, terminated, truncated, info = self._slot.step(action)
        except BROKEN as error:
            return self._failed(error)
        reward = float(reward)
        self._score += reward
        self._steps += 1
        if terminated or truncated:
            self._is_running = False
        return self._last, reward, bool(terminated), bool(truncated), self._told(info)

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns the picture of now, uint8[H, W, 3]; None without a mode."""
        if self.render_mode is None or self._slot.env is None:
            return None
        return self._slot.env.render()  # type: ignore[return-value]

    def close(self) -> None:
        """Closes the environment. May be called twice."""
        self._slot.close()
        self._is_running = False

    def _failed(self, error: BaseException) -> _Stepped:
        self._slot.give_up()
        self._is_running = False
        reason = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        log.warning("local.failed env_id=%s: %s", self.config.env_id, reason)
        info = {"outcome": str(Outcome.ENV_FAILURE), "reason": reason}
        return self._last, 0.0, False, True, self._told(info)

    def _told(self, given: Mapping[str, Any]) -> dict[str, Any]:
        info = {
            "outcome": _OK,
            **given,
            "episode_score": self._score,
            "episode_steps": self._steps,
        }
        if self._seed is not None:
            info["seed"] = self._seed
        return info
