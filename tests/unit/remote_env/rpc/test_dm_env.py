"""The client of dm_env_rpc servers, on channels that are function calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from raygym.errors import (
    ConfigError,
    LocalProtocolError,
    RemoteProtocolError,
    SessionLost,
)
from raygym.remote_env.rpc.dm_env import END_IS_AMBIGUOUS, DmEnv
from raygym.remote_env.rpc.dm_session import DmRefusal
from raygym.runtimes.lockstep.dm_service import answer_bytes
from raygym.runtimes.lockstep.dm_worlds import Stream, Worlds
from raygym.wire.dm_tensors import tensor_to_message
from raygym.wire.proto import dm_env_rpc_mirror_pb2 as dm
from tests.unit.runtimes.lockstep.dm_peer import Server

Change = Callable[[dm.EnvironmentRequest, dm.EnvironmentResponse], Any]


class Channel:
    """Hands requests to a server in this process, and answers on through ``change``."""

    def __init__(self, server: Server, change: Change | None = None) -> None:
        self._stream = Stream(server.worlds)
        self._change = change
        self.requests: list[dm.EnvironmentRequest] = []
        self.timeouts_s: list[float] = []
        self.is_lost = False
        self.is_closed = False

    def ask(self, request: bytes, *, timeout_s: float) -> bytes:
        if self.is_lost:
            raise SessionLost("the stream ended")
        self.requests.append(dm.EnvironmentRequest.FromString(request))
        self.timeouts_s.append(timeout_s)
        data = asyncio.run(answer_bytes(self._stream, request))
        if self._change is None:
            return data
        answer = dm.EnvironmentResponse.FromString(data)
        changed = self._change(self.requests[-1], answer)
        if isinstance(changed, bytes):
            return changed
        return (answer if changed is None else changed).SerializeToString()

    def close(self) -> None:
        self.is_closed = True
        asyncio.run(self._stream.close())

    @property
    def kinds(self) -> list[str | None]:
        return [request.WhichOneof("payload") for request in self.requests]


class Connected:
    """A client and all the channels that it opened."""

    def __init__(
        self, change: Change | None = None, options: dict[str, Any] | None = None, **script: Any
    ) -> None:
        self.server = Server(**script)
        self.channels: list[Channel] = []

        def open_channel() -> Channel:
            self.channels.append(Channel(self.server, change))
            return self.channels[-1]

        self.env = DmEnv(open_channel, name="grpc://peer:1", **(options or {}))

    @property
    def world(self) -> Any:
        return self.server.made[-1]


def test_an_episode_is_played_to_its_end_and_the_next_begins() -> None:
    env = Connected().env
    assert env.reset()[0].tolist() == [0.0]
    steps = [env.step(1) for _ in range(3)]
    assert [step[0].tolist() for step in steps] == [[1.0], [2.0], [3.0]]
    assert [step[1:4] for step in steps] == [
        (0.5, False, False),
        (1.0, False, False),
        (1.5, True, False),
    ]
    assert END_IS_AMBIGUOUS not in steps[-1][4]
    assert env.reset()[0].tolist() == [0.0]


def test_interrupted_is_truncated() -> None:
    env = Connected(end=dm.INTERRUPTED).env
    env.reset()
    assert [env.step(0)[2:4] for _ in range(3)][-1] == (False, True)


def test_a_step_outside_an_episode_is_our_own_mistake() -> None:
    env = Connected().env
    with pytest.raises(LocalProtocolError, match="reset"):
        env.step(0)
    env.reset()
    for _ in range(3):
        env.step(0)
    with pytest.raises(LocalProtocolError, match="reset"):
        env.step(0)


def test_an_action_outside_its_space_is_not_sent() -> None:
    connected = Connected()
    connected.env.reset()
    with pytest.raises(ConfigError, match=r"Discrete\(3\)"):
        connected.env.step(7)
    assert connected.world.actions == []


def test_a_nested_space_comes_out_as_it_went_in() -> None:
    inner = spaces.Dict(
        {"go": spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2)]), "say": spaces.Text(3)}
    )
    connected = Connected(action_space=inner)
    connected.env.reset()
    connected.env.step({"go": (np.int64(2), np.array([1, 0], np.int8)), "say": "ab"})
    number, bits, text = connected.world.actions[0]
    assert (number, bits.tolist(), text) == (2, [1, 0], "ab")


def test_starts_are_kept_where_both_ends_know_them() -> None:
    space = spaces.Discrete(3, start=4)
    assert Connected(action_space=space).env.action_space == spaces.Discrete(3)
    options = {"join_settings": {"raygym.caps": "spaces"}}
    assert Connected(options=options, action_space=space).env.action_space == space


def test_a_seed_goes_with_the_reset() -> None:
    connected = Connected()
    connected.env.reset(seed=3)
    connected.env.reset()
    assert connected.world.seeds == [3, None]


def refusing(*kinds: str) -> Change:
    """Refuses requests of these kinds that have settings."""

    def change(request: dm.EnvironmentRequest, _answer: Any) -> dm.EnvironmentResponse | None:
        kind = request.WhichOneof("payload")
        if kind in kinds and getattr(request, kind).settings:
            return dm.EnvironmentResponse(error=dm.Status(code=3, message="no such setting"))
        return None

    return change


def test_a_seed_goes_with_a_reset_world_where_a_reset_takes_none() -> None:
    connected = Connected(refusing("reset"))
    for _ in range(2):
        connected.env.reset(seed=3)
    kinds = connected.channels[0].kinds
    assert kinds.count("reset") == 1
    assert kinds.count("reset_world") == 2


def test_a_server_that_takes_no_seeds_gets_none_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connected = Connected(refusing("reset", "reset_world"))
    with caplog.at_level(logging.WARNING):
        connected.env.reset(seed=3)
        connected.env.reset(seed=3, options={"level": 1})
        connected.env.reset(options={"level": 1})
    assert [record.message.split()[0] for record in caplog.records] == [
        "dm_env.seed_not_sent",
        "dm_env.options_not_sent",
    ]


def test_a_server_that_does_not_know_remote_gyms_settings_gets_none() -> None:
    connected = Connected(refusing("create_world"))
    creations = [request.create_world for request in connected.channels[0].requests[:2]]
    assert [list(creation.settings) for creation in creations] == [["args"], []]


def test_remote_args_that_are_refused_are_an_error() -> None:
    with pytest.raises(DmRefusal, match="no such setting"):
        Connected(refusing("create_world"), {"remote_args": {"entrypoint": "x"}})


@pytest.mark.parametrize(
    "options",
    [
        {"render_mode": "human"},
        {"render_mode": "rgb_array"},
        {"remote_args": {"entrypoint_kwargs": {"size": np.float32(1)}}},
        {"remote_args": {}, "world_settings": {}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Connected(options=options)


def test_a_picture_is_asked_for_only_where_it_is_wanted() -> None:
    plain = Connected(picture_shape=(4, 5, 3))
    assert plain.env.reset() is not None
    assert plain.env.render() is None
    assert 3 not in plain.channels[0].requests[-1].step.requested_observations
    shown = Connected(options={"render_mode": "rgb_array"}, picture_shape=(4, 5, 3)).env
    shown.reset()
    shown.step(0)
    picture = shown.render()
    assert picture is not None
    assert (picture.shape, int(picture.max())) == ((4, 5, 3), 1)


def called_world(request: dm.EnvironmentRequest, answer: dm.EnvironmentResponse) -> None:
    """Gives worlds the name that remote-gym's have."""
    if request.WhichOneof("payload") == "create_world":
        answer.create_world.world_name = "world"


def test_remote_gyms_ends_are_ambiguous_and_it_gets_no_seeds(monkeypatch) -> None:
    monkeypatch.setattr(Worlds, "find", lambda worlds, _name: worlds._entries["world-1"])
    connected = Connected(called_world)
    assert connected.env.is_remote_gym
    connected.env.reset(seed=4)
    assert connected.world.seeds == [None]
    infos = [connected.env.step(0)[4] for _ in range(3)]
    assert [info.get(END_IS_AMBIGUOUS) for info in infos] == [None, None, True]


def test_a_lost_stream_cuts_the_episode_and_a_reset_opens_another() -> None:
    connected = Connected()
    connected.env.reset()
    connected.env.step(0)
    connected.channels[0].is_lost = True
    observation, reward, is_terminated, is_truncated, info = connected.env.step(0)
    assert (observation.tolist(), reward, is_terminated, is_truncated) == ([1.0], 0.0, False, True)
    assert info == {"outcome": "infra_failure", "reason": "the stream ended"}
    assert connected.channels[0].is_closed
    connected.env.reset(seed=2)
    assert connected.world.seeds == [2]
    assert len(connected.server.made) == 2


def test_a_stream_lost_between_episodes_is_replaced_by_the_reset_itself() -> None:
    connected = Connected()
    connected.channels[0].is_lost = True
    assert connected.env.reset()[0].tolist() == [0.0]
    assert len(connected.channels) == 2


def test_a_refused_step_is_an_error_and_the_next_reset_works() -> None:
    connected = Connected(fails=True)
    connected.env.reset()
    connected.env.step(0)
    with pytest.raises(DmRefusal, match="no ball"):
        connected.env.step(0)
    connected.env.reset()
    connected.env.step(0)
    assert len(connected.channels) == 1


def spoil_step(**changes: Any) -> Change:
    """Changes every answer to a step."""

    def change(request: dm.EnvironmentRequest, answer: dm.EnvironmentResponse) -> Any:
        if request.WhichOneof("payload") != "step":
            return None
        if "raw" in changes:
            return changes["raw"]
        for uid, tensor in changes.get("observations", {}).items():
            answer.step.observations[uid].CopyFrom(tensor)
        if "state" in changes:
            answer.step.state = changes["state"]
        if changes.get("is_bare"):
            answer.step.observations.clear()
        return None

    return change


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"raw": b"\xff"}, "EnvironmentResponse"),
        ({"raw": dm.EnvironmentResponse(reset=dm.ResetResponse()).SerializeToString()}, "reset"),
        ({"state": dm.TERMINATED}, "not RUNNING"),
        ({"is_bare": True}, "did not come"),
        ({"observations": {1: tensor_to_message(np.zeros(3, np.float32))}}, "takes"),
        ({"observations": {1: tensor_to_message(np.zeros(1, np.float64))}}, "takes"),
    ],
)
def test_an_answer_that_makes_no_sense_is_the_peers_mistake(
    changes: dict[str, Any], part: str
) -> None:
    env = Connected(spoil_step(**changes)).env
    with pytest.raises(RemoteProtocolError, match=part):
        env.reset()


def test_the_first_step_of_an_episode_may_take_as_long_as_a_start() -> None:
    connected = Connected(options={"start_timeout_s": 9.0, "step_timeout_s": 2.0})
    connected.env.reset()
    connected.env.step(0)
    waited = list(zip(connected.channels[0].kinds, connected.channels[0].timeouts_s, strict=True))
    assert waited == [
        ("create_world", 9.0),
        ("join_world", 9.0),
        ("reset", 9.0),
        ("step", 9.0),
        ("step", 2.0),
    ]


def test_closing_leaves_and_destroys_the_world_and_may_be_repeated() -> None:
    connected = Connected()
    connected.env.close()
    connected.env.close()
    assert connected.channels[0].kinds[-2:] == ["leave_world", "destroy_world"]
    assert connected.world.is_closed
    assert connected.channels[0].is_closed


def test_closing_a_lost_stream_asks_nothing_more() -> None:
    connected = Connected()
    connected.env.reset()
    connected.channels[0].is_lost = True
    connected.env.step(0)
    connected.env.close()
    assert connected.channels[0].kinds[-1] == "step"
