from __future__ import annotations

import numpy as np
import pytest

from raygym.errors import (
    ConfigError,
    LocalProtocolError,
    RemoteEnvError,
    RemoteProtocolError,
    SessionLost,
    StepTimeout,
)
from raygym.remote_env.rpc.env import RpcEnv
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.lockstep import Trouble
from tests.support.remote_envs import told
from tests.support.rpc_peers import LoopServer

RAISES = 1


@pytest.fixture
def server() -> LoopServer:
    return LoopServer(Trouble)


def test_observations_belong_to_the_caller():
    for factory in (Trouble, told):
        env = RpcEnv(LoopServer(factory).link())
        observation, _ = env.reset(seed=1)
        arrays = observation.values() if isinstance(observation, dict) else [observation]
        arrays = [array for array in arrays if isinstance(array, np.ndarray)]
        assert arrays
        for array in arrays:
            array[...] = 0
        env.close()


def test_the_last_observation_is_not_handed_out_twice(server):
    env = RpcEnv(server.link(), failures="truncate")
    first, _ = env.reset(seed=4)
    server.channels[0].trouble = SessionLost("gone")
    last, *_ = env.step(0)
    assert last.tolist() == [4, 0]
    assert not np.shares_memory(first, last)


def test_a_lost_session_has_an_outcome_by_its_cause(server):
    for cause, outcome in (
        (SessionLost("gone"), "infra_failure"),
        (StepTimeout("late"), "timeout"),
        (RemoteProtocolError("nonsense"), "infra_failure"),
    ):
        env = RpcEnv(server.link(), failures="truncate")
        env.reset()
        server.channels[-1].trouble = cause
        *_, info = env.step(0)
        assert info == {"outcome": outcome, "reason": str(cause)}
        assert env.sessions_lost == 1


def test_a_refusal_on_a_living_session_is_raised_in_any_case(server):
    env = RpcEnv(server.link(), failures="truncate")
    env.reset()

    def refuse(response: pb.Response) -> None:
        response.error.code = pb.Error.FAILED_PRECONDITION

    server.channels[0].change = refuse
    with pytest.raises(LocalProtocolError):
        env.step(0)
    assert env.sessions_lost == 0


def test_an_outcome_of_the_environments_own_is_kept(server):
    env = RpcEnv(server.link(), failures="truncate")
    env.reset()

    def tell(response: pb.Response) -> None:
        info = response.batch.infos.add().map
        info.items["outcome"].text = "env_failure"

    server.channels[0].change = tell
    assert env.step(0)[4] == {"outcome": "env_failure"}


def test_an_info_that_is_no_map_is_refused(server):
    env = RpcEnv(server.link())
    env.reset()
    server.channels[0].change = lambda response: response.batch.infos.add()
    with pytest.raises(RemoteProtocolError, match="no map"):
        env.step(0)


def test_a_failing_reset_is_raised_in_any_case(server):
    env = RpcEnv(server.link(), failures="truncate")
    with pytest.raises(RemoteEnvError, match="told to raise in reset"):
        env.reset(options={"raise": True})
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)
    env.reset()
    env.step(0)


def test_rendering_raises_what_the_environment_raises(server):
    env = RpcEnv(server.link(render_mode="rgb_array"), render_mode="rgb_array")
    env.reset()
    server.channels[0].trouble = SessionLost("gone")
    with pytest.raises(SessionLost):
        env.render()
    assert env.render() is None
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)
    env.reset()
    assert env.render().shape == (4, 6, 3)


def test_without_a_render_mode_nothing_is_asked(server):
    env = RpcEnv(server.link())
    env.reset()
    asked = len(server.channels[0].requests)
    assert env.render() is None
    assert len(server.channels[0].requests) == asked


def test_a_closed_environment_must_be_reset(server):
    env = RpcEnv(server.link())
    env.reset()
    env.close()
    env.close()
    assert server.channels[0].is_closed
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)


def test_an_interrupted_step_is_followed_by_a_reset_that_works(server):
    env = RpcEnv(server.link())
    env.reset()
    ask = server.channels[0].ask

    def interrupted(_request: bytes, *, timeout_s: float) -> bytes:
        raise KeyboardInterrupt

    server.channels[0].ask = interrupted
    with pytest.raises(KeyboardInterrupt):
        env.step(0)
    server.channels[0].ask = ask
    assert env.reset(seed=2)[0].tolist() == [2, 0]


@pytest.mark.parametrize("options", [{"failures": "ignore"}, {"render_mode": "human"}])
def test_arguments_that_make_no_sense_are_refused(server, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        RpcEnv(server.link(), **options)


def test_an_error_after_a_failure_needs_a_reset(server):
    env = RpcEnv(server.link())
    env.reset()
    with pytest.raises(RemoteEnvError, match="environment 0 broke: ValueError: told to raise"):
        env.step(RAISES)
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)
