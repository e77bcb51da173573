"""Many Remotes driven from one process as a Gymnasium vector environment."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from raygym.core import Backend, Timestep, UInt8Array
from raygym.errors import ConfigError, RaygymError, RemoteFailedToStart
from raygym.remote_env.pacing import Pacer
from raygym.remote_env.slot import Slot

logger = logging.getLogger(__name__)

_RETRY_S = 5.0
"""Pause between rounds of tries to replace a Remote."""
_JOIN_MARGIN_S = 30.0


class RealtimeVectorEnv(gymnasium.vector.VectorEnv[UInt8Array, Any, Any]):
    """Many Remotes driven from one process; none waits for another.

    One deadline paces all. A slot whose episode ended is reset behind the others, on a
    new Remote if its own was lost. Until it is ready its action is ignored, and it
    yields its last observation with reward 0; the step that gives the first observation
    of the new episode still ignores its action (``AutoresetMode.NEXT_STEP``).
    ``infos["running"]`` tells for each slot whether this step acted: learn from no other.

    ``infos`` holds an array per key of RealtimeEnv's info and, under ``_key``, where it has
    a value.

    Args:
        slots: What is behind it; closed with the environment.
        fps: Steps a second.
        render_mode: ``rgb_array`` or None.
        backend: Closed with the environment, where it belongs to it.
        clock: Seconds that only grow, as ``time.monotonic``.
        sleep: Waits, in seconds.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        fps: float,
        render_mode: str | None = None,
        backend: Backend | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._places: list[_Place] = []
        self._backend: Backend | None = None
        if not slots:
            raise ConfigError("RealtimeVectorEnv: expected at least one slot, got none")
        if math.isinf(fps):
            raise ConfigError("fps: a vector environment needs a rate, got inf")
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or rgb_array, got {render_mode!r}")
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": fps,
            "autoreset_mode": AutoresetMode.NEXT_STEP,
        }
        self.render_mode = render_mode
        self.num_envs = len(slots)
        self.single_observation_space = slots[0].observation_space
        self.single_action_space = slots[0].action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.fps = fps
        self._places = [_Place(slot) for slot in slots]
        self._pacer = Pacer(fps, slots[0].config.spec.fps)
        self._backend = backend
        self._clock = clock
        self._sleep = sleep

    @property
    def remotes_started(self) -> int:
        """How many Remotes were started or lent so far."""
        return sum(place.slot.remotes_started for place in self._places)

    @property
    def remotes_lost(self) -> int:
        """How many of them were lost."""
        return sum(place.slot.remotes_lost for place in self._places)

    @property
    def remote_ids(self) -> list[str | None]:
        """Ids of the Remotes behind the slots now."""
        return [place.slot.remote_id for place in self._places]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[UInt8Array, dict[str, Any]]:
        """Starts an episode in every slot, all at once.

        Args:
            seed: One per slot, or one number from which they count up.
            options: Not used.

        Returns:
            uint8[num_envs, ...] and the infos.

        Raises:
            RemoteFailedToStart: A slot found no Remote.
        """
        del options
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ConfigError(f"seed: expected {self.num_envs} seeds, got {len(seeds)}")
        for place in self._places:
            place.give_up_reset()
        for place, place_seed in zip(self._places, seeds, strict=True):
            place.begin_reset(place_seed, is_forever=False)
        for place in self._places:
            place.join()
        timesteps = [place.take_reset() for place in self._places]
        self._pacer.start(self._clock())
        # take_reset returned one for each, or raised
        infos = vector_infos([dict(t.info) for t in timesteps if t is not None])
        return np.stack([place.observation for place in self._places]), infos

    def step(
        self, actions: Any
    ) -> tuple[UInt8Array, npt.NDArray[np.float64], Any, Any, dict[str, Any]]:
        """Acts in every slot that is ready, waits for the deadline and returns what came.

        Args:
            actions: One per slot.

        Returns:
            Observations uint8[num_envs, ...], rewards float64[num_envs], terminations and
            truncations bool[num_envs], infos.

        Raises:
            RemoteFailedToStart: No slot has a Remote any more, nor finds one.
            ConfigError: An action makes no sense.
        """
        if len(actions) != self.num_envs:
            raise ConfigError(f"actions: expected {self.num_envs}, got {len(actions)}")
        running = np.array([not place.is_resetting for place in self._places])
        for place, action in zip(self._places, actions, strict=True):
            if not place.is_resetting:
                place.slot.act(action)
        self._wait()
        return self._collect(running)

    def render(self) -> tuple[Any, ...] | None:
        """Returns each region at full size, uint8[height, width, 3]; None without a mode."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(place.slot.picture() for place in self._places)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends every Remote and thread that belongs to it."""
        del kwargs
        for place in self._places:
            place.stop()
        if self._backend is not None:
            self._backend.close()
        for place in self._places:
            place.join()
            place.slot.close()

    def _wait(self) -> None:
        now_s = self._clock()
        left_s = self._pacer.window(now_s).deadline_s - now_s
        if left_s > 0:
            self._sleep(left_s)
        self._pacer.finish(self._clock(), None)

    def _collect(
        self, running: npt.NDArray[np.bool_]
    ) -> tuple[UInt8Array, npt.NDArray[np.float64], Any, Any, dict[str, Any]]:
        rewards = np.zeros(self.num_envs)
        terminations = np.zeros(self.num_envs, np.bool_)
        truncations = np.zeros(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = []
        for index, place in enumerate(self._places):
            timestep = place.slot.observe() if running[index] else place.take_reset()
            if timestep is None:
                infos.append({"running": False})
                continue
            infos.append({**timestep.info, "running": bool(running[index])})
            place.observation = timestep.observation
            rewards[index] = timestep.reward
            terminations[index] = timestep.terminated
            truncations[index] = timestep.truncated
            if timestep.terminated or timestep.truncated:
                place.begin_reset(None, is_forever=True)
        if all(place.has_failed for place in self._places):
            raise RemoteFailedToStart(
                "no slot has a remote any more: "
                + "; ".join(str(place.failure) for place in self._places)
            )
        observations = np.stack([place.observation for place in self._places])
        return observations, rewards, terminations, truncations, vector_infos(infos)


class _Place:
    """A slot and the thread that resets it behind the others."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.observation = slot.last()
        self.failure: Exception | None = None
        self._fatal: RaygymError | None = None
        self._thread: threading.Thread | None = None
        self._result: Timestep | None = None
        self._stopping = threading.Event()

    @property
    def is_resetting(self) -> bool:
        return self._thread is not None

    @property
    def has_failed(self) -> bool:
        return self.is_resetting and self.failure is not None

    def begin_reset(self, seed: int | None, *, is_forever: bool) -> None:
        self._result = self.failure = self._fatal = None
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._reset, args=(seed, is_forever), name="reset of a slot", daemon=True
        )
        self._thread.start()

    def take_reset(self) -> Timestep | None:
        """Returns what a finished reset gave, with the newest frame; None while it runs."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread.join()
        self._thread = None
        if self._fatal is not None:
            raise self._fatal
        assert self._result is not None  # noqa: S101  a thread leaves one or the other
        self.observation = self.slot.refresh()
        return self._result

    def give_up_reset(self) -> None:
        """Ends a reset that still runs, once its tries are over."""
        self._stopping.set()
        self.join()
        if self._thread is not None and self._thread.is_alive():
            raise RemoteFailedToStart(
                f"{self.slot.config.client_id}: an earlier reset has not ended yet; "
                "close this environment and make another"
            )
        self._thread = None

    def stop(self) -> None:
        self._stopping.set()
        self.slot.stop()

    def join(self) -> None:
        if self._thread is not None:
            config = self.slot.config
            self._thread.join(config.start_tries * config.start_timeout_s + _JOIN_MARGIN_S)

    def _reset(self, seed: int | None, is_forever: bool) -> None:
        while True:
            try:
                self._result = self.slot.reset(seed=seed)
                return
            except RemoteFailedToStart as error:
                self.failure = error
                if not is_forever or self._stopping.wait(_RETRY_S):
                    self._fatal = error
                    return
                logger.warning("trying again to replace a remote: %s", error)
            except RaygymError as error:
                self.failure = self._fatal = error
                return


def vector_infos(infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Turns one info per slot into arrays, as Gymnasium's vector environments do.

    Args:
        infos: One mapping per slot.

    Returns:
        For each key an array of one value per slot (numbers as they are, others as
        objects, mappings again as such a dict), and under ``_key`` a bool array that is
        False where a slot has no value or None.
    """
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos for key in info):
        values = [info.get(key) for info in infos]
        present = [value for value in values if value is not None]
        result[f"_{key}"] = np.array([value is not None for value in values])
        if present and all(isinstance(value, Mapping) for value in present):
            result[key] = vector_infos([value or {} for value in values])
            continue
        kinds = {type(value) for value in present}
        if kinds and kinds <= {bool}:
            dtype: Any = np.bool_
        elif kinds and kinds <= {int}:
            dtype = np.int64
        elif kinds and kinds <= {int, float}:
            dtype = np.float64
        else:
            dtype = object
        array = np.full(len(values), None if dtype is object else 0, dtype)
        for index, value in enumerate(values):
            if value is not None:
                array[index] = value
        result[key] = array
    return result
