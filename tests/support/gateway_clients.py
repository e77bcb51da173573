"""Many clients of a gateway on one event loop, as raygym.v1 speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np

from raygym.remote_env.rpc.channel import METHOD
from raygym.wire.leaves import leaves_to_messages
from raygym.wire.proto import raygym_v1_pb2 as pb

ENV_ID = "gym-core.CartPole-v1"


class StreamClient:
    """One stream.

    Args:
        channel: May be shared by many.
        client_id: Its name.
        metadata: Of the stream.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        client_id: str = "",
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._client_id = client_id
        stream: Any = channel.stream_stream(METHOD)
        self.call: Any = stream(metadata=tuple(metadata))
        self._requests = 0

    async def ask(self, **body: Any) -> pb.Response:
        """Returns the answer; raises AioRpcError where the stream ends."""
        # A write to a stream that was refused meanwhile would hide the reason.
        if not self._requests and "raygym-version" not in await self.call.initial_metadata():
            raise await self.ended()
        self._requests += 1
        request = pb.Request(id=self._requests, **body)
        await self.call.write(request.SerializeToString())
        answer = await self.call.read()
        if answer is grpc.aio.EOF:
            raise await self.ended()
        response = pb.Response.FromString(answer)
        assert response.id == self._requests
        return response

    async def ended(self) -> grpc.aio.AioRpcError:
        code, details = await self.call.code(), await self.call.details()
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)

    async def hello(self) -> pb.Welcome:
        return (await self.ask(hello=pb.Hello(version=1, client_id=self._client_id))).welcome

    async def make(self, env_id: str = ENV_ID, **more: Any) -> pb.Response:
        return await self.ask(make=pb.Make(env_id=env_id, autoreset=pb.DISABLED, **more))

    async def reset(self, seed: int) -> pb.Batch:
        return (await self.ask(reset=pb.Reset(seeds=[seed]))).batch

    async def step(self, action: int) -> pb.Batch:
        actions = leaves_to_messages([np.array([action])])
        return (await self.ask(step=pb.Step(envs=[0], actions=actions))).batch

    async def close(self) -> None:
        """Ends the stream, and waits until the gateway has ended it too."""
        await self.call.done_writing()
        assert await self.call.read() is grpc.aio.EOF


@dataclass
class Crowd:
    """What became of many clients."""

    made: list[int]
    """Numbers of those that were served, in the order in which they were."""
    refusals: dict[int, str]
    """What the others were told."""
    rewards: dict[int, float]


def is_fickle(number: int) -> bool:
    """Whether a client of ``play`` goes without a word as soon as it may play."""
    return number % 25 == 7


async def play(address: str, count: int, connections: int, opened: asyncio.Event) -> Crowd:
    """Lets clients come one after the other, wait for a slot, play and go, or merely go.

    Args:
        address: Of the gateway.
        count: How many.
        connections: How many they share.
        opened: They hold their slots until this is set.
    """
    crowd = Crowd([], {}, {})
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(connections)]

    async def one(number: int, client: StreamClient) -> None:
        made = await client.make()
        if made.HasField("error"):
            assert made.error.code == pb.Error.RESOURCE_EXHAUSTED
            crowd.refusals[number] = made.error.message
        else:
            crowd.made.append(number)
            await opened.wait()
            if is_fickle(number):
                # As a process that is killed does, as far as the gateway can see.
                client.call.cancel()
                return
            await client.reset(number)
            batches = [await client.step(number % 2) for _ in range(3)]
            crowd.rewards[number] = sum(float(np.frombuffer(b.rewards)[0]) for b in batches)
        await client.close()

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                client = StreamClient(channels[number % connections], f"client-{number}")
                await client.hello()
                tasks.create_task(one(number, client))
    finally:
        for channel in channels:
            await channel.close()
    return crowd
