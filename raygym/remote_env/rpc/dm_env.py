"""A world of any dm_env_rpc server, remote-gym's among them, as a Gymnasium environment."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from raygym.core import Outcome, UInt8Array
from raygym.errors import ConfigError, LocalProtocolError, RemoteError, RemoteProtocolError
from raygym.remote_env.rpc.dm_session import Channel, DmRefusal, DmSession, Settings
from raygym.remote_env.rpc.dm_spaces import SpecSpace
from raygym.wire.dm_tensors import tensor_from_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm

log = logging.getLogger(__name__)

END_IS_AMBIGUOUS = "raygym.end_ambiguous"
"""Key of ``info``: the server says terminated where it may have been truncated."""

_REMOTE_GYM_WORLD = "world"
_NOT_OBSERVED = ("reward", "discount", "rendering")


class DmEnv(gymnasium.Env[Any, Any]):
    """A world of a dm_env_rpc server as a Gymnasium environment.

    A single spec becomes its space; several become a Dict, nested at the dots of their names.
    ``reward`` is the reward, ``rendering`` what ``render`` returns, ``discount`` goes into
    ``info``. A server that is lost ends the episode as truncated, with ``info["outcome"]``
    ``infra_failure``; the next ``reset`` opens a new stream.

    The protocol carries no ``info`` and no ``options``. A seed travels as the setting ``seed``
    of a Reset, or where that is refused of a ResetWorld. remote-gym ignores seeds and calls
    every end terminated; ``info["raygym.end_ambiguous"]`` is True with such an end.

    Args:
        open_channel: Opens a connection of its own and the stream of ``dm_session.METHOD``.
        name: Of the server, for messages.
        world_settings: Of the CreateWorld. None sends remote-gym's ``args``, and nothing to a
            server that refuses them.
        join_settings: Of the JoinWorld.
        remote_args: remote-gym's ``entrypoint`` and ``entrypoint_kwargs``; JSON-like.
        render_mode: None, or ``rgb_array`` where the server offers ``rendering``.
        start_timeout_s: Longest wait for a world, or for the start of an episode.
        step_timeout_s: Longest wait for a step.

    Raises:
        ConfigError: A setting makes no sense, or the server does not render.
        RemoteError: The server is out of reach, or refuses.
        RemoteProtocolError: What it says of itself makes no sense.
    """

    def __init__(
        self,
        open_channel: Callable[[], Channel],
        *,
        name: str,
        world_settings: Settings | None = None,
        join_settings: Settings | None = None,
        remote_args: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        start_timeout_s: float = 60.0,
        step_timeout_s: float = 60.0,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or rgb_array, got {render_mode!r}")
        if world_settings is not None and remote_args is not None:
            raise ConfigError("give world_settings or remote_args, not both")
        self.render_mode = render_mode
        self._open_channel = open_channel
        self._name = name
        self._world_settings = world_settings
        self._join_settings = join_settings or {}
        self._args = _args(remote_args)
        self._start_timeout_s = start_timeout_s
        self._step_timeout_s = step_timeout_s
        self._seeding = [self._seed_with_reset, self._seed_with_reset_world]
        self._is_running = False
        self._picture: UInt8Array | None = None
        self._is_remote_gym = False
        self._said: set[str] = set()
        self._session: DmSession | None = None
        session, self._specs = self._open()
        try:
            self._read_specs()
        except BaseException:
            session.close()
            raise
        self._session = session

    @property
    def is_remote_gym(self) -> bool:
        """Whether the server behaves as remote-gym's does."""
        return self._is_remote_gym

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, on a new stream if the old one was lost.

        Args:
            seed: Goes to the server where it takes one; else a warning is logged once.
            options: The protocol has none; a warning is logged once.

        Raises:
            RemoteError: The server is out of reach, or refuses.
        """
        super().reset(seed=seed)
        if options:
            self._warn("options", "dm_env_rpc has no options; these are not sent")
        if self._session is not None:
            try:
                return self._begin(self._session, seed)
            except DmRefusal:
                raise
            except RemoteError as error:
                self._lose(error)
        session, specs = self._open()
        self._session = session
        if specs != self._specs:
            self._lose(None)
            raise RemoteProtocolError(f"{self._name} has other spaces than it had before")
        return self._begin(session, seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Goes on by one step.

        Raises:
            ConfigError: The action is not in the space.
            LocalProtocolError: No episode runs; reset first.
            DmRefusal: The server refused; the reason is in the message.
        """
        if self._session is None or not self._is_running:
            raise LocalProtocolError(f"{self._name}: no episode runs; call reset() first")
        actions = self._actions.pack(action)
        try:
            answer = self._session.step(actions, self._uids, is_first=False)
        except DmRefusal:
            raise
        except RemoteError as error:
            self._lose(error)
            lost = {"outcome": str(Outcome.INFRA_FAILURE), "reason": str(error)}
            return self._last, 0.0, False, True, lost
        info = self._take(answer)
        reward = float(self._scalar(answer, "reward", 0.0))
        is_terminated = answer.state == dm.TERMINATED
        if answer.state != dm.RUNNING:
            self._is_running = False
            if self._is_remote_gym:
                info[END_IS_AMBIGUOUS] = True
        return self._last, reward, is_terminated, answer.state == dm.INTERRUPTED, info

    def render(self) -> UInt8Array | None:  # type: ignore[override]
        """Returns uint8[H, W, 3] of the last step; None without a render mode."""
        return self._picture

    def close(self) -> None:
        """Ends the world and hangs up; may be called twice."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._is_running = False

    def _open(self) -> tuple[DmSession, dm.ActionObservationSpecs]:
        session = DmSession(
            self._open_channel(),
            name=self._name,
            start_timeout_s=self._start_timeout_s,
            step_timeout_s=self._step_timeout_s,
        )
        try:
            self._create(session)
            return session, session.join_world(self._join_settings)
        except BaseException:
            session.close()
            raise

    def _create(self, session: DmSession) -> None:
        if self._world_settings is not None:
            session.create_world(self._world_settings)
            return
        try:
            world_name = session.create_world({"args": json.dumps(self._args)})
        except DmRefusal:
            if self._args:
                raise
            session.create_world({})
        else:
            self._is_remote_gym = world_name == _REMOTE_GYM_WORLD

    def _read_specs(self) -> None:
        observations = dict(self._specs.observations)
        self._extra_uids = {
            spec.name: uid for uid, spec in observations.items() if spec.name in _NOT_OBSERVED
        }
        observed = {
            uid: spec for uid, spec in observations.items() if spec.name not in _NOT_OBSERVED
        }
        self._actions = SpecSpace(dict(self._specs.actions), "action")
        self._observations = SpecSpace(observed, "observation")
        self.action_space = self._actions.space
        self.observation_space = self._observations.space
        can_render = "rendering" in self._extra_uids
        self.metadata = {"render_modes": ["rgb_array"] if can_render else []}
        if self.render_mode is not None and not can_render:
            raise ConfigError(
                f"render_mode {self.render_mode!r}: {self._name} sends no rendering; start its "
                "environment with render_mode rgb_array"
            )
        wanted = {"reward", "discount"} | ({"rendering"} if self.render_mode else set())
        extras = [uid for name, uid in self._extra_uids.items() if name in wanted]
        self._uids = self._observations.uids + extras

    def _begin(self, session: DmSession, seed: int | None) -> tuple[Any, dict[str, Any]]:
        self._is_running = False
        if seed is None or not self._send_seed(session, seed):
            session.reset({})
        answer = session.step({}, self._uids, is_first=True)
        if answer.state != dm.RUNNING:
            raise RemoteProtocolError(
                f"{self._name} began an episode in state {answer.state}, not RUNNING"
            )
        self._is_running = True
        info = self._take(answer)
        return self._last, info

    def _send_seed(self, session: DmSession, seed: int) -> bool:
        """Resets with a seed in the first way that the server takes; False if it takes none."""
        if self._is_remote_gym:
            self._warn("seed", "remote-gym takes no seeds; this one is not sent")
            return False
        while self._seeding:
            try:
                self._seeding[0](session, np.int64(seed))
            except DmRefusal as error:
                del self._seeding[0]
                log.debug("dm_env.seed_refused name=%s cause=%s", self._name, error)
            else:
                return True
        self._warn("seed", "the server takes no seeds; this one has no effect")
        return False

    def _seed_with_reset(self, session: DmSession, seed: np.int64) -> None:
        session.reset({"seed": seed})

    def _seed_with_reset_world(self, session: DmSession, seed: np.int64) -> None:
        session.reset_world({"seed": seed})

    def _take(self, answer: dm.StepResponse) -> dict[str, Any]:
        self._last = self._observations.unpack(answer.observations)
        if self.render_mode is not None:
            tensor = answer.observations[self._extra_uids["rendering"]]
            self._picture = np.array(tensor_from_message(tensor))
        info: dict[str, Any] = {"outcome": str(Outcome.OK)}
        if "discount" in self._extra_uids:
            info["discount"] = float(self._scalar(answer, "discount", 1.0))
        return info

    def _scalar(self, answer: dm.StepResponse, name: str, default: float) -> Any:
        uid = self._extra_uids.get(name)
        if uid is None:
            return default
        value = tensor_from_message(answer.observations[uid])
        if value.size != 1:
            raise RemoteProtocolError(f"{self._name} sent a {name} of shape {value.shape}")
        return value.item()

    def _lose(self, cause: RemoteError | None) -> None:
        log.warning("dm_env.session_lost name=%s cause=%s", self._name, cause)
        self.close()

    def _warn(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            log.warning("dm_env.%s_not_sent name=%s: %s", topic, self._name, text)


def _args(remote_args: Mapping[str, Any] | None) -> dict[str, Any]:
    args = dict(remote_args or {})
    try:
        json.dumps(args)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"remote_args: only what JSON can say travels to a server; {error}"
        ) from error
    return args
