"""dm_env_rpc worlds on conversations, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from raygym.errors import RemoteProtocolError
from raygym.runtimes.lockstep.conversation import LoopConversation
from raygym.runtimes.lockstep.dm_fields import RequestRefused
from raygym.runtimes.lockstep.dm_service import ConversationWorld, answer_bytes
from raygym.runtimes.lockstep.dm_settings import CreateSettings
from raygym.runtimes.lockstep.dm_worlds import Stream, WorldFailed, Worlds
from raygym.runtimes.lockstep.env_loop import EnvLoop
from raygym.wire.leaves import leaves_to_messages
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from raygym.wire.proto import raygym_v1_pb2 as pb
from raygym.wire.spaces import space_to_message
from raygym.wire.values import map_to_message
from tests.peers.peer_envs import Pictures, Raising
from tests.unit.runtimes.lockstep.dm_peer import Server

DISCRETE = gymnasium.spaces.Discrete(2)


class ScriptedConversation:
    """Answers each kind of request with a given body."""

    def __init__(self, **answers: Any) -> None:
        made = pb.Made(
            observation_space=space_to_message(DISCRETE), action_space=space_to_message(DISCRETE)
        )
        self.answers = {
            "hello": {"welcome": pb.Welcome(version=1)},
            "make": {"made": made},
            "reset": {"batch": batch()},
            "step": {"batch": batch()},
            "render": {"pictures": pb.Pictures()},
        } | answers
        self.asked: list[pb.Request] = []

    async def ask(self, request: bytes) -> bytes:
        self.asked.append(pb.Request.FromString(request))
        answer = self.answers[self.asked[-1].WhichOneof("body")]
        if isinstance(answer, bytes):
            return answer
        return pb.Response(id=self.asked[-1].id, **answer).SerializeToString()

    async def close(self) -> None:
        pass


def batch(**changes: Any) -> pb.Batch:
    """Returns one row."""
    row = {
        "envs": [0],
        "observations": leaves_to_messages([np.array([1])]),
        "rewards": np.array([0.5], "<f8").tobytes(),
        "terminated": b"\0",
        "truncated": b"\0",
    }
    return pb.Batch(**(row | changes))


async def opened(conversation: Any, **settings_of_world: Any) -> ConversationWorld:
    world = ConversationWorld(conversation)
    await world.open(CreateSettings(**settings_of_world))
    return world


def test_a_world_asks_for_one_environment_that_is_never_reset_by_itself() -> None:
    conversation = ScriptedConversation()
    asyncio.run(opened(conversation, env_id="Maze-v0", kwargs={"size": 3}))
    hello, make = conversation.asked
    assert hello.hello.version == 1
    assert (make.make.env_id, make.make.count, make.make.autoreset) == ("Maze-v0", 1, pb.DISABLED)
    assert make.make.kwargs == map_to_message({"size": 3})


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, dm.RUNNING),
        ({"terminated": b"\1"}, dm.TERMINATED),
        ({"truncated": b"\1"}, dm.INTERRUPTED),
        ({"terminated": b"\1", "truncated": b"\1"}, dm.TERMINATED),
    ],
)
def test_ends_become_states(changes: dict[str, bytes], state: int) -> None:
    async def step() -> Any:
        world = await opened(ScriptedConversation(step={"batch": batch(**changes)}))
        await world.reset(None)
        return await world.step([np.int64(1)])

    moment = asyncio.run(step())
    assert (moment.state, moment.observation, moment.reward) == (state, [1], 0.5)


def test_a_seed_goes_with_the_reset() -> None:
    conversation = ScriptedConversation()

    async def reset() -> None:
        world = await opened(conversation)
        await world.reset(7)
        await world.reset(None)

    asyncio.run(reset())
    assert [list(asked.reset.seeds) for asked in conversation.asked[2:]] == [[7], []]


FAILURE = pb.Failure(
    outcome="env_failure",
    error=pb.Error(code=pb.Error.UNKNOWN, type="OSError", message="gone", traceback="line 1"),
)
REFUSAL = pb.Error(code=pb.Error.NOT_FOUND, message="no such environment")


@pytest.mark.parametrize(
    ("answers", "error", "part"),
    [
        ({"make": {"error": REFUSAL}}, RequestRefused, "no such environment"),
        ({"reset": {"batch": batch(failures=[FAILURE])}}, WorldFailed, "OSError: gone\nline 1"),
        ({"reset": {"batch": batch(rewards=b"")}}, RemoteProtocolError, "0 rewards"),
        ({"reset": b"\xff"}, RemoteProtocolError, "raygym.v1"),
    ],
)
def test_what_goes_wrong_in_a_conversation_is_told(
    answers: dict[str, Any], error: type[Exception], part: str
) -> None:
    async def play() -> None:
        world = await opened(ScriptedConversation(**answers))
        await world.reset(None)

    with pytest.raises(error, match=part):
        asyncio.run(play())


async def on_env(
    factory: Callable[[], gymnasium.Env[Any, Any]], use: Callable[[ConversationWorld], Any]
) -> Any:
    """Runs ``use`` on a world of an environment in this process."""
    conversation = LoopConversation(EnvLoop(lambda _id, kwargs: factory(**kwargs)))
    try:
        world = await opened(conversation, kwargs={"render_mode": "rgb_array"})
        return await use(world)
    finally:
        await conversation.close()


def test_a_picture_has_the_shape_that_was_found_out_at_the_start() -> None:
    async def use(world: ConversationWorld) -> None:
        assert world.picture_shape == (40, 60, 3)
        await world.reset(None)
        assert (await world.render()).shape == (40, 60, 3)
        world.picture_shape = (1, 1, 3)
        with pytest.raises(RequestRefused, match="shape"):
            await world.render()

    asyncio.run(on_env(Pictures, use))


def test_an_environment_that_raised_works_again_after_a_reset() -> None:
    async def use(world: ConversationWorld) -> None:
        await world.reset(None)
        await world.step([np.int64(0)])
        with pytest.raises(WorldFailed, match="the ball is lost"):
            await world.step([np.int64(0)])
        assert (await world.reset(None)).state == dm.RUNNING
        assert (await world.step([np.int64(0)])).state == dm.RUNNING

    asyncio.run(on_env(Raising, use))


async def _no_world(_settings: CreateSettings) -> Any:
    raise RequestRefused("there are too many", code=pb.Error.RESOURCE_EXHAUSTED)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes) -> None:
    answer = asyncio.run(answer_bytes(Stream(Worlds(_no_world)), data))
    response = dm.EnvironmentResponse.FromString(answer)
    assert response.WhichOneof("payload") in ("error", "leave_world")


def test_what_refuses_a_world_says_why_with_its_code() -> None:
    create = dm.EnvironmentRequest(create_world=dm.CreateWorldRequest())
    answer = asyncio.run(answer_bytes(Stream(Worlds(_no_world)), create.SerializeToString()))
    error = dm.EnvironmentResponse.FromString(answer).error
    assert (error.code, error.message) == (pb.Error.RESOURCE_EXHAUSTED, "there are too many")


def _as_tensor(data: bytes) -> dm.Tensor | None:
    try:
        return dm.Tensor.FromString(data)
    except DecodeError:
        return None


_PAYLOADS = ("floats", "doubles", "int8s", "uint8s", "bools")
TENSORS = st.one_of(
    st.binary(max_size=60).map(_as_tensor).filter(lambda tensor: tensor is not None),
    st.builds(
        lambda shape, name, data: dm.Tensor(shape=shape, **{name: dm.Packed(array=data)}),
        st.lists(st.integers(-3, 2**31 - 1), max_size=4),
        st.sampled_from(_PAYLOADS),
        st.binary(max_size=40),
    ),
)
ACTIONS = gymnasium.spaces.Dict(
    {
        "box": gymnasium.spaces.Box(-1, 1, (2, 3), np.float32),
        "bits": gymnasium.spaces.MultiBinary(3),
        "go": gymnasium.spaces.Discrete(3, dtype=np.int8),
        "say": gymnasium.spaces.Text(4),
    }
)


@settings(deadline=None, max_examples=200)
@given(TENSORS, st.integers(0, 5), st.sampled_from(["seed", "args", "env_id", "raygym.caps"]))
def test_any_tensor_as_an_action_or_a_setting_is_answered(
    tensor: dm.Tensor, uid: int, name: str
) -> None:
    peer = Server(action_space=ACTIONS).joined()
    peer.step()
    kind = type(peer.send(step=dm.StepRequest(actions={uid: tensor})))
    assert kind in (dm.StepResponse, dm.Status)
    peer.leave()
    for answer in (peer.create(**{name: tensor}), peer.join(peer.world, **{name: tensor})):
        assert type(answer) in (dm.CreateWorldResponse, dm.JoinWorldResponse, dm.Status)
