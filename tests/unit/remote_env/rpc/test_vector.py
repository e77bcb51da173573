from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from raygym.errors import ConfigError, SessionLost
from raygym.remote_env.rpc.vector import RpcVectorEnv
from raygym.wire.proto import raygym_v1_pb2 as pb
from tests.support.lockstep import Trouble
from tests.support.rpc_peers import LoopServer

RAISES = 1


def opened(server: LoopServer, mode: AutoresetMode, **options) -> RpcVectorEnv:
    number = {
        AutoresetMode.NEXT_STEP: pb.NEXT_STEP,
        AutoresetMode.SAME_STEP: pb.SAME_STEP,
        AutoresetMode.DISABLED: pb.DISABLED,
    }[mode]
    return RpcVectorEnv(server.link(count=2, autoreset=number), 2, autoreset=mode, **options)


def test_infos_that_fit_no_common_array_become_objects():
    class Odd(Trouble):
        def step(self, action):
            self.steps += 1
            told = {0: 3, 1: None, 2: "text", 3: np.zeros(2), 4: {"deep": 1}}
            return self._observation(0), 0.0, False, False, {"odd": told[int(action)]}

    envs = opened(LoopServer(Odd), AutoresetMode.NEXT_STEP)
    envs.reset()
    assert envs.step([0, 0])[4]["odd"].tolist() == [3, 3]
    for other, expected in ((1, None), (2, "text"), (4, {"deep": 1})):
        infos = envs.step([0, other])[4]
        assert infos["odd"].tolist() == [3, expected]
        assert infos["_odd"].tolist() == [True, True]
    infos = envs.step([0, 3])[4]
    assert infos["odd"][0] == 3
    assert infos["odd"][1].tolist() == [0, 0]
    envs.close()


def test_disabled_autoreset_waits_for_a_reset_after_a_failure():
    envs = opened(LoopServer(Trouble), AutoresetMode.DISABLED, failures="truncate")
    envs.reset(seed=1)
    assert envs.step([0, RAISES])[3].tolist() == [False, True]
    with pytest.raises(ConfigError, match=r"environments \[1\] are over"):
        envs.step([0, 0])
    envs.reset(seed=[None, 8], options={"reset_mask": np.array([False, True])})
    observations, *_, truncated, _ = envs.step([0, 0])
    assert observations.tolist() == [[0, 2], [0, 1]]
    assert not truncated.any()
    envs.close()


def test_disabled_autoreset_waits_for_a_reset_after_a_loss():
    server = LoopServer(Trouble)
    envs = opened(server, AutoresetMode.DISABLED, failures="truncate")
    envs.reset(seed=1)
    server.channels[0].trouble = SessionLost("gone")
    assert envs.step([0, 0])[3].all()
    with pytest.raises(ConfigError, match="are over"):
        envs.step([0, 0])
    mask = np.array([False, True])
    assert envs.reset(seed=[3, 4], options={"reset_mask": mask})[0].tolist() == [[3, 0], [4, 0]]
    envs.step([0, 0])
    envs.close()


def test_the_callers_options_are_left_alone():
    envs = opened(LoopServer(Trouble), AutoresetMode.NEXT_STEP)
    options = {"reset_mask": np.array([True, False]), "x": 1}
    envs.reset()
    envs.reset(options=options)
    assert options.keys() == {"reset_mask", "x"}
    envs.close()


def test_what_is_handed_out_belongs_to_the_caller():
    envs = opened(LoopServer(Trouble), AutoresetMode.NEXT_STEP)
    envs.reset(seed=1)
    for array in envs.step([0, 0])[:4]:
        array[...] = 0
    part, _ = envs.reset(seed=[5, None], options={"reset_mask": np.array([True, False])})
    assert part.tolist() == [[5, 0], [0, 1]]
    envs.close()


def test_outcomes_are_of_those_who_were_asked():
    envs = opened(LoopServer(Trouble), AutoresetMode.NEXT_STEP, failures="truncate")
    _, infos = envs.reset()
    assert infos["outcome"].tolist() == ["ok", "ok"]
    _, infos = envs.reset(options={"reset_mask": np.array([True, False])})
    assert infos["outcome"].tolist() == ["ok", None]
    assert infos["_outcome"].tolist() == [True, False]
    envs.close()


def test_a_failure_in_the_step_that_ends_an_episode_shows_once():
    envs = opened(LoopServer(Trouble), AutoresetMode.SAME_STEP, failures="truncate")
    envs.reset()
    assert envs.step([0, RAISES])[3].tolist() == [False, True]
    # The next step of the broken one begins its episode, so its action may be anything.
    observations, _, _, truncated, infos = envs.step([0, 99])
    assert observations.tolist() == [[0, 2], [0, 0]]
    assert not truncated.any()
    assert "final_obs" not in infos
    envs.close()


def test_it_says_what_it_is():
    envs = opened(LoopServer(Trouble), AutoresetMode.SAME_STEP)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.metadata["render_modes"] == ["rgb_array"]
    assert envs.single_action_space == gymnasium.spaces.Discrete(10)
    assert envs.render() is None
    assert envs.sessions_lost == 0
    envs.close()
    envs.close()
