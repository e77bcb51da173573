"""One Remote as a Gymnasium environment, in lock-step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium

from raygym.core import Outcome, Remote, UInt8Array
from raygym.errors import (
    ConfigError,
    LocalProtocolError,
    ProtocolError,
    RemoteEnvError,
    RemoteError,
    RemoteFailedToStart,
    RemoteProtocolError,
)
from raygym.remote_env.lockstep_remote import LockstepRemote
from raygym.remote_env.rpc.env import RpcEnv
from raygym.remote_env.rpc.link import Link
from raygym.remote_env.rpc.session import MakeOptions

log = logging.getLogger(__name__)

_OK = str(Outcome.OK)
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class LockstepConfig:
    """What a Remote in lock-step plays, and how long it may take."""

    name: str
    """EnvId, for messages."""
    options: MakeOptions
    """What to make."""
    fps: float | None = None
    """Frames the environment shows a second of its own time; None leaves it to the far end."""
    step_timeout_s: float = 70.0
    """Longest wait for a step. The far end's own deadline should be shorter."""
    start_timeout_s: float = 60.0
    """Longest time until a Remote has started, and of a reset."""
    start_tries: int = 3
    """How many Remotes a reset tries before it raises."""
    backoff_s: float = 0.5
    """Wait before the second try; it doubles with each."""


class LockstepEnv(gymnasium.Env[Any, Any]):
    """One Remote as a Gymnasium environment, in lock-step: it stands still between two steps.

    The same seed and actions give the same observations, rewards and ends. What breaks cuts
    the episode: such a step gives the last observation, reward 0.0, ``truncated``, and
    ``info["outcome"]`` other than ``ok`` with a ``reason``; the next ``reset`` mends it, on a
    new Remote where the old one was lost.

    ``info`` of each step is the environment's own, and ``outcome``, ``episode_score``,
    ``episode_steps``, ``remote_id``, ``lease_id`` where one is held, and, where it is known,
    ``seed``.

    Args:
        remote: What is behind it; closed with the environment.
        config: What is played.
        spaces: Observation and action space, where they are known before a Remote runs; then
            the first ``reset`` starts it. None starts it now to learn them.
        close_also: Called last by ``close``.
        sleep: Waits between tries, in seconds.

    Raises:
        RemoteError: Without ``spaces``: no Remote got ready.
    """

    def __init__(
        self,
        remote: LockstepRemote,
        config: LockstepConfig,
        *,
        spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None,
        close_also: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.render_mode = config.options.render_mode
        self.metadata = {"render_modes": ["rgb_array"]}
        if config.fps is not None:
            self.metadata["render_fps"] = config.fps / max(1, config.options.frame_skip)
        self._remote = remote
        self._close_also = close_also
        self._sleep = sleep
        self._env: RpcEnv | None = None
        self._sessions_lost = 0
        self._seed: int | None = None
        self._score = 0.0
        self._steps = 0
        if spaces is None:
            try:
                env = self._with_tries(self._connected)
            except BaseException:
                self.close()
                raise
            spaces = env.observation_space, env.action_space
            self.metadata = {**env.metadata, **self.metadata}
        self.observation_space, self.action_space = spaces

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
        """Id of the Remote behind it now, if there is one."""
        remote = self._remote.remote
        return None if remote is None else remote.id

    @property
    def remote(self) -> Remote | None:
        """The Remote behind it now, if there is one."""
        return self._remote.remote

    def abandon(self) -> None:
        """Closes it, and ends its Remote instead of giving it back."""
        self._remote.abandon()
        self.close()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, on a new Remote if there is none or it was lost.

        Args:
            seed: Sent to the Remote; None lets it choose.
            options: Sent to the Remote.

        Raises:
            RemoteEnvError: The environment itself raised.
            RemoteFailedToStart: No Remote got ready in ``start_tries`` tries.
            ConfigError, MissingDependency: Another try would not help.
        """
        super().reset(seed=seed)
        self._end_episode()
        observation, info = self._with_tries(
            lambda: self._connected().reset(seed=seed, options=options)
        )
        self._seed = info.get("seed", seed)
        self._score, self._steps = 0.0, 0
        if self._remote.tenancy is not None:
            self._remote.tenancy.begin_episode()
        return observation, {**self._told(info), **self._remote.claims.news()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Acts, has the environment run on by its frames, and returns what came of it.

        Raises:
            ConfigError: The action is not in the space, or no episode runs.
        """
        if self._env is None:
            raise ConfigError("step: no episode runs; call reset first")
        tenancy = self._remote.tenancy
        lost = tenancy.lost() if tenancy is not None else ""
        if lost:
            return self._preempted(self._env, lost)
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._score += reward
        self._steps += 1
        if self._env.sessions_lost > self._sessions_lost:
            self._sessions_lost = self._env.sessions_lost
            self._remote.note_loss()
        return observation, reward, terminated, truncated, self._told(info)

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns the picture of now at full size, uint8[H, W, 3]; None without a mode."""
        if self._env is None or self.render_mode is None:
            return None
        return self._env.render()

    def close(self) -> None:
        """Gives the Remote back and ends all else. May be called twice."""
        if self._env is not None:
            self._env.close()
            self._env = None
        self._remote.release()
        self._close_also()

    def _preempted(self, env: RpcEnv, reason: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Ends the episode because the Remote is somebody else's; the next reset takes another."""
        *stepped, info = env.cut(str(Outcome.PREEMPTED), reason)
        told = self._told(info)
        self._give_up("preempted")
        return *stepped, told

    def _end_episode(self) -> None:
        """Counts the episode before, and lets go of a Remote that is lost or worn by now."""
        tenancy = self._remote.tenancy
        if self._env is None or tenancy is None:
            return
        if tenancy.lost():
            self._give_up("preempted")
        elif tenancy.is_worn_after(self._steps):
            self._env.close()
            self._env = None
            self._remote.wear_out()

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        info.setdefault("outcome", _OK)
        info.update(
            episode_score=self._score,
            episode_steps=self._steps,
            remote_id=self.remote_id,
        )
        if self._remote.lease_id:
            info["lease_id"] = self._remote.lease_id
        if self._seed is not None:
            info["seed"] = self._seed
        return info

    def _connected(self) -> RpcEnv:
        """Returns the conversation, begun if there is none."""
        if self._env is None:
            config = self.config
            link = Link(
                self._remote.open,
                config.options,
                connect_timeout_s=config.start_timeout_s,
                start_timeout_s=config.start_timeout_s,
            )
            self._check_spaces(link)
            self._sessions_lost = 0
            self._env = RpcEnv(
                link,
                failures="truncate",
                render_mode=config.options.render_mode,
                step_timeout_s=config.step_timeout_s,
                start_timeout_s=config.start_timeout_s,
            )
        return self._env

    def _check_spaces(self, link: Link) -> None:
        wanted = getattr(self, "observation_space", None), getattr(self, "action_space", None)
        came = link.observation_space, link.action_space
        if wanted[0] is not None and came != wanted:
            link.close()
            raise RemoteProtocolError(
                f"{self.config.name}: the remote has the spaces {came[0]} and {came[1]}, expected "
                f"{wanted[0]} and {wanted[1]}; does it run the same version of raygym and of the "
                "game?"
            )

    def _with_tries(self, attempt: Callable[[], _T]) -> _T:
        causes: list[Exception] = []
        tries = self.config.start_tries
        while len(causes) < tries:
            if causes:
                self._sleep(self.config.backoff_s * 2 ** (len(causes) - 1))
            try:
                return attempt()
            except (RemoteError, ProtocolError) as error:
                if isinstance(error, LocalProtocolError):
                    raise
                if isinstance(error, RemoteEnvError) and error.type:
                    raise
                log.warning("%s: try %d: %s", self._remote.client_id, len(causes) + 1, error)
                causes.append(error)
                self._give_up()
        raise RemoteFailedToStart(
            f"{self.config.name} for {self._remote.client_id}: no remote got ready in {tries} "
            "tries:\n" + "\n".join(f"{i + 1}. {cause}" for i, cause in enumerate(causes)),
            causes=[str(cause) for cause in causes],
        ) from causes[-1]

    def _give_up(self, cause: str = "infra_failure") -> None:
        """Drops the conversation and the Remote that did not do."""
        env, self._env = self._env, None
        if env is not None:
            env.close()
        self._remote.note_loss(cause)
        self._remote.drop()
