"""Plays one environment for ever, and writes down what becomes of each episode.

What it writes outlives it: one line of JSON at a time is appended to a file of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import raygym
from raygym.config import ObservationConfig
from raygym.errors import RaygymError
from raygym.service.leased import leased_backend_on_ray

STOP_FILE = "stop"

_STEP_S = 0.03
_TOLD_EVERY_S = 0.1
_SEED = 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one player plays; each of its episodes is the same, unless it is cut."""

    client_id: str
    env_id: str
    variant: tuple[str, ...]
    length: int
    """Steps of an episode that nobody cut."""
    options: dict[str, Any] = field(default_factory=dict)
    """More of ``raygym.make``."""

    @property
    def act(self) -> Callable[[Any], int]:
        """Chooses an action that ends no episode early."""
        return _balance if "CartPole" in self.env_id else _drive


PARTS = (
    Part(
        client_id="chaos-neon",
        env_id="flashgames.NeonRace-v0",
        variant=("--mode", "lockstep"),
        length=125,
        options={
            "frame_skip": 9,
            "observation": ObservationConfig(height_px=84, width_px=84, is_grey=True),
        },
    ),
    Part(
        client_id="chaos-cart",
        env_id="gym-core.CartPole-v1",
        variant=("--mode", "lockstep", "--any-env"),
        length=125,
        options={"env_kwargs": {"max_episode_steps": 125}},
    ),
)


class Player:
    """One environment in a process of its own.

    Args:
        part: What is played.
        directory: Holds the file that is written to; where a file ``stop`` appears, it ends.
        ttl_s: How long its lease lasts without it.
        keep_s: How long its Remote is kept after its end.
    """

    def __init__(self, part: Part, directory: Path, *, ttl_s: float, keep_s: float) -> None:
        self._part = part
        self._path = directory / f"{part.client_id}.jsonl"
        self._stop = directory / STOP_FILE
        self._leases = {"ttl_s": ttl_s, "keep_s": keep_s}
        self._told_s = 0.0

    def play(self) -> None:
        """Plays until it is told to stop, and gives its Remote back."""
        part = self._part
        backend = leased_backend_on_ray(variant=part.variant, env_id=part.env_id, **self._leases)
        try:
            while not self._stop.exists():
                try:
                    self._make_and_play(backend)
                except RaygymError as error:
                    self._tell("waits", error=type(error).__name__, message=str(error))
                    time.sleep(_TOLD_EVERY_S)
        finally:
            backend.close()
        self._tell("stopped")

    def _make_and_play(self, backend: Any) -> None:
        part = self._part
        env = raygym.make(
            part.env_id,
            client_id=part.client_id,
            backend=backend,
            mode="lockstep",
            **part.options,
        )
        try:
            while not self._stop.exists():
                self._play_episode(env)
        finally:
            env.close()

    def _play_episode(self, env: Any) -> None:
        observation, info = env.reset(seed=_SEED)
        self._tell("begin", remote_id=info["remote_id"])
        steps, is_over = 0, False
        while not is_over:
            if self._stop.exists():
                return
            began_s = time.monotonic()
            observation, _, terminated, truncated, info = env.step(self._part.act(observation))
            steps += 1
            is_over = terminated or truncated
            if began_s - self._told_s > _TOLD_EVERY_S and not is_over:
                self._told_s = began_s
                self._tell("steps", steps=steps)
            time.sleep(max(0.0, _STEP_S - (time.monotonic() - began_s)))
        self._tell(
            "end",
            steps=steps,
            terminated=terminated,
            truncated=truncated,
            outcome=info["outcome"],
            reason=str(info.get("reason", "")),
            score=float(info["episode_score"]),
        )

    def _tell(self, event: str, **what: Any) -> None:
        line = {"event": event, "at_s": time.time(), "pid": os.getpid(), **what}
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


def _balance(observation: Any) -> int:
    position, speed, angle, turning = observation
    return int(angle + 0.3 * turning + 0.02 * position + 0.04 * speed > 0)


def _drive(observation: Any) -> int:
    return 2
