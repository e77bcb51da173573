"""A bare client that plays one environment of a remote in lock-step."""

from __future__ import annotations

from typing import Any

import numpy as np

from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.values import map_from_message
from tests.support.lockstep import Client


class Player:
    """A conversation that plays one environment."""

    def __init__(self, client: Client, env_id: str, frame_skip: int, fields: Any) -> None:
        self.client = client
        client.hello()
        fields = {"autoreset": pb.DISABLED, **fields}
        self.made = client.make(env_id=env_id, frame_skip=frame_skip, **fields)

    def reset(self, seed: int | None = None) -> Row:
        return Row(self.client.reset(seeds=[] if seed is None else [seed]))

    def step(self, action: int) -> Row:
        return Row(self.client.step(action).batch)

    def render(self) -> np.ndarray:
        (picture,) = self.client.ask(render=pb.Render()).pictures.pictures
        return np.frombuffer(picture.data, np.uint8).reshape(tuple(picture.shape))

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_error: Any) -> None:
        self.client.close()


class Row:
    """What a reset or step brought."""

    def __init__(self, batch: pb.Batch) -> None:
        self.failures = list(batch.failures)
        (leaf,) = batch.observations
        self.picture = np.frombuffer(leaf.array.data, np.uint8).reshape(tuple(leaf.array.shape))[0]
        (self.reward,) = np.frombuffer(batch.rewards, "<f8") if batch.rewards else (0.0,)
        self.terminated, self.truncated = batch.terminated == b"\1", batch.truncated == b"\1"
        self.info = map_from_message(batch.infos[0].map) if batch.infos else {}

    @property
    def is_over(self) -> bool:
        return self.terminated or self.truncated

    @property
    def frame(self) -> int:
        return self.info["game_state"]["frame"]

    def content(self) -> bytes:
        state = sorted(self.info.get("game_state", {}).items())
        ends = (float(self.reward), self.terminated, self.truncated, state)
        return self.picture.tobytes() + repr(ends).encode()
