"""A bare client of raygym.v1, and environments that misbehave."""

from __future__ import annotations

import ctypes
import os
import queue
import socket
import sys
import threading
import time
from typing import Any, ClassVar

import grpc
import gymnasium
import numpy as np

from raygym.machine import machine_id
from raygym.wire.leaves import leaves_from_messages, leaves_to_messages
from raygym.wire.proto import raygym_v1_pb2 as pb

METHOD = "/raygym.v1.Environments/Converse"
HERE = f"{__file__}"


class Trouble(gymnasium.Env):
    """Counts its steps; an action other than 0 brings the trouble of that number."""

    observation_space = gymnasium.spaces.Box(0, 1000, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(10)
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, length: int = 1000, render_mode: str | None = None, hang_s: float = 600.0):
        self.length, self.hang_s, self.render_mode = length, hang_s, render_mode
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        told = {"seed": seed, "options": options} if seed is not None or options else {}
        if options and options.get("raise"):
            raise RuntimeError("told to raise in reset")
        return self._observation(seed or 0), told

    def step(self, action):
        self.steps += 1
        kind = int(action)
        if kind == 1:
            raise ValueError("told to raise")
        if kind == 2:
            os._exit(7)
        if kind == 3:
            ctypes.string_at(0)
        if kind == 4:
            time.sleep(self.hang_s)
        if kind == 5:
            sys.exit("told to exit")
        if kind == 6:
            return np.zeros(3, np.float32), 0.0, False, False, {}
        if kind == 7:
            return self._observation(0), None, False, False, {}
        if kind == 8:
            return self._observation(0), 0.5, False, False, {"pid": os.getpid()}
        return self._observation(0), 1.0, self.steps >= self.length, False, {}

    def render(self):
        return np.full((4, 6, 3), self.steps, np.uint8)

    def _observation(self, first: int):
        return np.array([first, self.steps], np.float32)


def trouble(**kwargs: Any) -> gymnasium.Env:
    return Trouble(**kwargs)


def broken(**_kwargs: Any) -> gymnasium.Env:
    raise OSError("no such thing here")


class Frames:
    """A framed conversation over a unix socket."""

    def __init__(self, name: str, timeout_s: float = 30.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout_s)
        try:
            self.sock.connect(name)
        except OSError:
            self.sock.close()
            raise

    def exchange(self, data: bytes) -> bytes:
        self.sock.sendall(len(data).to_bytes(4, "little") + data)
        return self.read()

    def read(self) -> bytes:
        length = int.from_bytes(self._exactly(4), "little")
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self.sock.recv(length - len(data))
            if not part:
                raise ConnectionResetError("the server hung up")
            data += part
        return bytes(data)

    def close(self) -> None:
        self.sock.close()


class Grpc:
    """A conversation over gRPC."""

    def __init__(self, target: str, metadata=(), timeout_s: float = 30.0, credentials=None) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if credentials is None:
            self.channel = grpc.insecure_channel(target, options)
        else:
            self.channel = grpc.secure_channel(target, credentials, options)
        self.requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.call = self.channel.stream_stream(METHOD)(
            iter(self.requests.get, None), metadata=metadata, timeout=timeout_s
        )

    def exchange(self, data: bytes) -> bytes:
        self.requests.put(data)
        return next(self.call)

    def close(self) -> None:
        self.requests.put(None)
        self.call.cancel()
        self.channel.close()


class Client:
    """Asks one request after the other, over whatever carries them."""

    def __init__(self, carrier: Frames | Grpc) -> None:
        self.carrier = carrier
        self.id = 0
        self.made: pb.Made | None = None

    def ask(self, **body: Any) -> pb.Response:
        self.id += 1
        request = pb.Request(id=self.id, **body)
        response = pb.Response.FromString(self.carrier.exchange(request.SerializeToString()))
        assert response.id == self.id, response
        return response

    def hello(self, machine: str | None = None) -> pb.Welcome:
        here = machine_id() if machine is None else machine
        return self.ask(hello=pb.Hello(version=1, client_id="test", machine=here)).welcome

    def make(self, **fields: Any) -> pb.Made:
        response = self.ask(make=pb.Make(**fields))
        assert response.HasField("made"), response
        self.made = response.made
        return response.made

    def reset(self, **fields: Any) -> pb.Batch:
        response = self.ask(reset=pb.Reset(**fields))
        assert response.HasField("batch"), response
        return response.batch

    def step(self, *actions: Any, envs=(), dtype: Any = np.int64) -> pb.Response:
        leaves = leaves_to_messages([np.array(actions, dtype)])
        return self.ask(step=pb.Step(envs=envs, actions=leaves))

    def close(self) -> None:
        self.carrier.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: Any) -> None:
        self.close()


def observations(batch: pb.Batch, space=Trouble.observation_space) -> np.ndarray:
    return leaves_from_messages(batch.observations, [space], len(batch.envs))[0]


def in_threads(count: int, job) -> list[Any]:
    """Runs ``job(index)`` in as many threads; returns what each returned or raised."""
    results: list[Any] = [None] * count

    def run(index: int) -> None:
        try:
            results[index] = job(index)
        except Exception as error:  # noqa: BLE001
            results[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return results


class Pictures(Trouble):
    """Shows its seed in every pixel."""

    observation_space = gymnasium.spaces.Box(0, 255, (210, 160, 3), np.uint8)

    def _observation(self, first: int):
        return np.full((210, 160, 3), first, np.uint8)


def pictures(**kwargs: Any) -> gymnasium.Env:
    return Pictures(**kwargs)
