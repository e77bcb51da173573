"""Clients of raygym.v1 against a real server, its workers and what befalls them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from raygym.config import ObservationConfig
from raygym.errors import (
    ConfigError,
    LocalProtocolError,
    RemoteEnvError,
    RemoteUnreachable,
    SessionLost,
    StepTimeout,
)
from raygym.remote_env.rpc.dm_env import DmEnv
from raygym.remote_env.rpc.env import RpcEnv
from raygym.remote_env.rpc.open import open_env, open_vector_env
from raygym.remote_env.rpc.vector import RpcVectorEnv
from raygym.runtimes.serve import EnvServer, serve_env
from tests.support.certificates import issue, make_authority
from tests.support.dm_server import DmServer
from tests.support.lockstep import Trouble, broken, trouble
from tests.support.remote_envs import Film, ToldEnv, film, same, told

ROOT = Path(__file__).parents[2]
STEP_TIMEOUT_S = 1.0
RAISES, EXITS, SEGFAULTS, HANGS, LEAVES = 1, 2, 3, 4, 5


def address(server: EnvServer) -> str:
    endpoint = server.endpoint
    return f"grpc+unix://{endpoint.path}" if endpoint.path else f"grpc://{endpoint}"


@pytest.fixture(scope="module")
def troubles() -> Iterator[EnvServer]:
    with serve_env(trouble, step_timeout_s=STEP_TIMEOUT_S) as server:
        yield server


@pytest.fixture(scope="module")
def cartpoles() -> Iterator[EnvServer]:
    with serve_env("CartPole-v1", is_in_process=True) as server:
        yield server


@pytest.fixture(scope="module")
def tolds() -> Iterator[EnvServer]:
    with serve_env(told, is_in_process=True) as server:
        yield server


@pytest.fixture(params=["framed", "grpc"])
def env(troubles, request) -> Iterator[RpcEnv]:
    env = open_env(address(troubles), uses_local_socket=request.param == "framed")
    yield env
    env.close()


def play(env: gymnasium.Env[Any, Any], seed: int, steps: int) -> list[Any]:
    env.action_space.seed(seed)
    seen: list[Any] = [env.reset(seed=seed)]
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample()))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
def test_gymnasiums_own_check_passes(cartpoles, tolds, render_mode):
    env = open_env(address(cartpoles), render_mode=render_mode)
    check_env(env)
    env.close()
    env = open_env(address(tolds))
    check_env(env)
    env.close()


def test_an_environment_of_every_space_plays_as_it_does_here(tolds):
    env = open_env(address(tolds))
    here = ToldEnv()
    assert env.observation_space == here.observation_space
    assert env.action_space == here.action_space
    assert same(play(env, 7, 40), play(here, 7, 40))
    env.close()


def test_a_seed_gives_the_same_episode_over_every_carrier(cartpoles, tmp_path):
    tmp_path.chmod(0o700)
    here = play(gymnasium.make("CartPole-v1"), 3, 60)
    with serve_env("CartPole-v1", bind=None, directory=tmp_path, is_in_process=True) as unix:
        for server in (cartpoles, unix):
            for uses_local_socket in (True, False):
                env = open_env(address(server), uses_local_socket=uses_local_socket)
                assert same(play(env, 3, 60), here)
                env.close()


def test_options_reach_the_environment_and_infos_come_back(env):
    _, info = env.reset(seed=4, options={"level": [1, (2.5, None)], "x": np.float32(2)})
    assert same(info["options"]["level"], [1, (2.5, None)])
    assert same(info["options"]["x"], np.float32(2))
    assert env.reset()[1] == {}


def test_ends_metadata_and_kwargs_are_the_environments_own(troubles):
    env = open_env(address(troubles), env_kwargs={"length": 2}, render_mode="rgb_array")
    assert env.metadata == {"render_modes": ["rgb_array"], "render_fps": 30}
    env.reset()
    assert env.step(0)[2:4] == (False, False)
    assert env.step(0)[2:4] == (True, False)
    assert np.array_equal(env.render(), np.full((4, 6, 3), 2, np.uint8))
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)
    env.close()


def test_an_error_of_the_environment_is_raised_here_with_its_traceback(env):
    env.reset()
    with pytest.raises(RemoteEnvError, match="told to raise") as caught:
        env.step(RAISES)
    assert caught.value.type == "ValueError"
    assert 'raise ValueError("told to raise")' in caught.value.remote_traceback
    assert "At the far end" in caught.value.__notes__[0]
    with pytest.raises(RemoteEnvError, match="told to raise in reset"):
        env.reset(options={"raise": True})
    env.reset(seed=1)
    assert env.step(0)[1] == 1.0
    assert env.sessions_lost == 0


@pytest.mark.parametrize("action", [EXITS, SEGFAULTS, LEAVES])
def test_an_environment_that_ends_its_process_is_an_error_and_is_made_anew(env, action):
    env.reset()
    with pytest.raises(RemoteEnvError):
        env.step(action)
    observation, _ = env.reset(seed=9)
    assert observation.tolist() == [9, 0]
    assert env.step(0)[1] == 1.0
    assert env.sessions_lost == 0


def test_an_environment_that_hangs_is_ended_by_the_server(env):
    env.reset()
    with pytest.raises(StepTimeout, match="its step was not done within 1 s"):
        env.step(HANGS)
    assert env.reset(seed=2)[0].tolist() == [2, 0]
    assert env.sessions_lost == 0


@pytest.mark.parametrize("uses_local_socket", [True, False])
def test_a_server_that_does_not_answer_in_time_is_left(uses_local_socket):
    with serve_env(trouble, step_timeout_s=60) as server:
        env = open_env(address(server), step_timeout_s=0.3, uses_local_socket=uses_local_socket)
        env.reset()
        with pytest.raises(StepTimeout, match=r"within 0\.3 s"):
            env.step(HANGS)
        assert env.reset(seed=2)[0].tolist() == [2, 0]
        assert env.sessions_lost == 1
        env.close()


@pytest.mark.parametrize(
    ("action", "outcome"), [(RAISES, "env_failure"), (EXITS, "env_failure"), (HANGS, "timeout")]
)
def test_failures_may_end_the_episode_instead(troubles, action, outcome):
    env = open_env(address(troubles), failures="truncate")
    first, info = env.reset(seed=6)
    assert info == {"seed": 6, "options": None, "outcome": "ok"}
    observation, reward, terminated, truncated, info = env.step(action)
    assert observation.tolist() in (first.tolist(), [0, 0])
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["outcome"] == outcome
    assert info["reason"]
    with pytest.raises(ConfigError, match="call reset first"):
        env.step(0)
    env.reset()
    assert env.step(0)[4] == {"outcome": "ok"}
    env.close()


@pytest.mark.parametrize("uses_local_socket", [True, False])
def test_reset_finds_a_server_that_was_started_again(uses_local_socket):
    server = serve_env(trouble, is_in_process=True)
    port = server.endpoint.port
    env = open_env(address(server), connect_timeout_s=20, uses_local_socket=uses_local_socket)
    careful = open_env(address(server), uses_local_socket=uses_local_socket, failures="truncate")
    careful.reset(seed=3)
    env.reset()
    server.close()
    with pytest.raises(SessionLost):
        env.step(0)
    observation, reward, terminated, truncated, info = careful.step(0)
    assert (reward, terminated, truncated, info["outcome"]) == (0.0, False, True, "infra_failure")
    assert observation.tolist() == [3, 0]
    with serve_env(trouble, port=port, is_in_process=True):
        assert env.reset(seed=5)[0].tolist() == [5, 0]
        assert careful.reset(seed=6)[0].tolist() == [6, 0]
        assert env.step(0)[1] == 1.0
        assert (env.sessions_lost, careful.sessions_lost) == (1, 1)
        env.close()
        careful.close()


def test_reset_notices_by_itself_that_the_server_was_replaced():
    server = serve_env(trouble, is_in_process=True)
    env = open_env(address(server), connect_timeout_s=20)
    env.reset()
    server.close()
    with serve_env(trouble, port=server.endpoint.port, is_in_process=True):
        assert env.reset(seed=5)[0].tolist() == [5, 0]
        env.close()


@pytest.mark.parametrize("uses_local_socket", [True, False])
def test_a_server_that_is_killed_is_lost_at_once_and_found_again(tmp_path, uses_local_socket):
    tmp_path.chmod(0o700)
    first = start_server(tmp_path)
    try:
        env = open_env(
            f"grpc+unix://{tmp_path}/rpc.sock",
            connect_timeout_s=30,
            uses_local_socket=uses_local_socket,
        )
        here = env.reset(seed=3)
        first.kill()
        first.wait(20)
        with pytest.raises(SessionLost):
            step_until_lost(env)
    finally:
        first.kill()
        first.wait(20)
    second = start_server(tmp_path)
    try:
        assert same(env.reset(seed=3), here)
        env.close()
    finally:
        second.kill()
        second.wait(20)


def step_until_lost(env: RpcEnv) -> None:
    """The environment's own process may answer once more before it ends with the server."""
    for _ in range(150):
        env.step(0)


def start_server(directory: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "raygym.runtimes", "gym-core", "--env", "MountainCar-v0"]
    ready = directory / "ready.json"
    ready.unlink(missing_ok=True)
    process = subprocess.Popen([*command, "--directory", directory], cwd=ROOT)
    deadline_s = time.monotonic() + 30
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert ready.exists()
    return process


def test_a_game_over_mutual_tls_with_a_token(tmp_path):
    authority = make_authority(tmp_path)
    server_files = issue(authority, tmp_path, "server", ca=authority.path)
    client_files = issue(authority, tmp_path, "client", ca=authority.path)
    here = play(gymnasium.make("CartPole-v1"), 3, 30)
    options = {"tls": server_files, "token": "hush", "is_in_process": True}
    with serve_env("CartPole-v1", **options) as server:
        for host in ("127.0.0.1", "localhost"):
            for uses_local_socket in (True, False):
                env = open_env(
                    f"grpcs://{host}:{server.endpoint.port}?token=hush",
                    tls=client_files,
                    uses_local_socket=uses_local_socket,
                )
                assert same(play(env, 3, 30), here)
                env.close()


def test_reset_gives_up_when_no_server_comes_back():
    with serve_env(trouble, is_in_process=True) as server:
        env = open_env(address(server), connect_timeout_s=0.5)
    started_s = time.monotonic()
    with pytest.raises(RemoteUnreachable, match="nothing listens"):
        env.reset()
    assert time.monotonic() - started_s < 20
    env.close()


def test_actions_outside_of_their_space_are_refused_before_anything_is_sent(env):
    env.reset()
    for action in (10, -1, "0", 1.0, None, np.zeros(2, np.int64)):
        with pytest.raises(ConfigError, match=r"Discrete\(10\)"):
            env.step(action)
    assert env.step(np.int8(0))[0].tolist() == [0, 1]


def test_what_the_server_refuses_is_said(troubles):
    with pytest.raises(ConfigError, match="there is no environment 'Nothing-v0'"):
        open_env(address(troubles), env_id="Nothing-v0")
    with pytest.raises(RemoteEnvError, match="unexpected keyword"):
        open_env(address(troubles), env_kwargs={"no_such": 1})
    with pytest.raises(ConfigError, match="picture"):
        open_env(address(troubles), observation=ObservationConfig(is_grey=True))
    with serve_env(broken, is_in_process=True) as server:
        with pytest.raises(RemoteEnvError, match="OSError: no such thing here") as caught:
            open_env(address(server))
        assert "no such thing here" in caught.value.remote_traceback


def test_frame_skip_adds_rewards_up_at_the_far_end(troubles):
    env = open_env(address(troubles), frame_skip=4)
    env.reset()
    observation, reward, *_ = env.step(0)
    assert (observation.tolist(), reward) == ([0, 4], 4.0)
    env.close()


@pytest.mark.parametrize("uses_shared_memory", [True, False])
@pytest.mark.parametrize("uses_local_socket", [True, False])
def test_large_pictures_come_through_unharmed(uses_shared_memory, uses_local_socket):
    with serve_env(film) as server:
        env = open_env(
            address(server),
            uses_local_socket=uses_local_socket,
            uses_shared_memory=uses_shared_memory,
        )
        assert env._link.session.is_sharing_memory is uses_shared_memory
        here = play(Film(), 3, 6)
        assert same(play(env, 3, 6), here)
        first, _ = env.reset(seed=3)
        copied = first.copy()
        assert first.flags.writeable
        env.step(0)
        assert np.array_equal(first, copied)
        env.close()
        vector = open_vector_env(address(server), 2, uses_shared_memory=uses_shared_memory)
        first, _ = vector.reset(seed=[3, 4])
        assert same(first[0], here[0][0])
        vector.step([0, 0])
        part, _ = vector.reset(seed=[3, None], options={"reset_mask": np.array([True, False])})
        assert same(part[0], here[0][0])
        assert not np.array_equal(part[1], first[1])
        vector.close()


def test_a_picture_is_cut_down_at_the_far_end():
    with serve_env(film, is_in_process=True) as server:
        observation = ObservationConfig(width_px=40, height_px=30, is_grey=True)
        env = open_env(address(server), observation=observation)
        assert env.observation_space.shape == (30, 40, 1)
        assert env.reset(seed=1)[0].shape == (30, 40, 1)
        env.close()


MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["CartPole", "told"])
def test_a_vector_environment_is_gymnasiums_own_to_the_last_bit(cartpoles, tolds, mode, kind):
    count, steps = 5, 60
    make = (lambda: gymnasium.make("CartPole-v1")) if kind == "CartPole" else ToldEnv
    here = SyncVectorEnv([make] * count, autoreset_mode=mode)
    there = open_vector_env(
        address(cartpoles if kind == "CartPole" else tolds), count, autoreset=mode
    )
    assert there.observation_space == here.observation_space
    assert there.action_space == here.action_space
    assert same(there.reset(seed=11), here.reset(seed=11))
    here.action_space.seed(5)
    ends = 0
    for _ in range(steps):
        actions = here.action_space.sample()
        left, right = there.step(actions), here.step(actions)
        assert same(left, right)
        ends += int((left[2] | left[3]).sum())
    assert ends >= count
    options = {"deep": {"er": [1]}}
    seeds = [1, 2, 3, 4, 5]
    assert same(there.reset(seed=seeds, options=options), here.reset(seed=seeds, options=options))
    there.close()
    here.close()


@pytest.mark.parametrize("kind", ["CartPole", "told"])
def test_masked_resets_are_gymnasiums_own(cartpoles, tolds, kind):
    count = 4
    make = (lambda: gymnasium.make("CartPole-v1")) if kind == "CartPole" else ToldEnv
    here = SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.DISABLED)
    there = open_vector_env(
        address(cartpoles if kind == "CartPole" else tolds),
        count,
        autoreset=AutoresetMode.DISABLED,
    )
    assert same(there.reset(seed=2), here.reset(seed=2))
    here.action_space.seed(5)
    resets = 0
    for index in range(60):
        actions = here.action_space.sample()
        left, right = there.step(actions), here.step(actions)
        assert same(left, right)
        mask = left[2] | left[3]
        if not mask.any():
            continue
        with pytest.raises(ConfigError, match="reset_mask"):
            there.step(actions)
        resets += 1
        seeds = [index * count + env for env in range(count)]
        assert same(
            there.reset(seed=seeds, options={"reset_mask": mask, "x": 1}),
            here.reset(seed=seeds, options={"reset_mask": mask, "x": 1}),
        )
    assert resets > 2
    there.close()
    here.close()


@pytest.mark.parametrize("mode", MODES)
def test_one_environment_of_many_breaks_alone(troubles, mode):
    envs = open_vector_env(address(troubles), 3, autoreset=mode, failures="truncate")
    envs.reset(seed=1)
    observations, rewards, terminated, truncated, infos = envs.step([0, RAISES, 0])
    assert rewards.tolist() == [1, 0, 1]
    assert terminated.tolist() == [False] * 3
    assert truncated.tolist() == [False, True, False]
    assert infos["outcome"].tolist() == ["ok", "env_failure", "ok"]
    assert "told to raise" in infos["reason"][1]
    assert observations[1].tolist() == [2, 0]
    observations, rewards, _, truncated, infos = envs.step([0, 0, 0])
    assert rewards.tolist() == [1, 0, 1]
    assert not truncated.any()
    assert observations.tolist() == [[0, 2], [0, 0], [0, 2]]
    assert infos["outcome"].tolist() == ["ok"] * 3
    envs.close()


def test_environments_that_share_a_process_are_lost_together(troubles):
    envs = open_vector_env(address(troubles), 3, failures="truncate")
    envs.reset(seed=1)
    *_, truncated, infos = envs.step([0, EXITS, 0])
    assert truncated.all()
    assert infos["outcome"].tolist() == ["env_failure"] * 3
    observations, *_, truncated, infos = envs.step([0, 0, 0])
    assert observations.tolist() == [[0, 0]] * 3
    assert not truncated.any()
    envs.close()


def test_a_vector_environment_raises_what_broke_and_goes_on(troubles):
    envs = open_vector_env(address(troubles), 2)
    with pytest.raises(ConfigError, match="call reset first"):
        envs.step([0, 0])
    envs.reset()
    with pytest.raises(RemoteEnvError, match="told to raise") as caught:
        envs.step([0, RAISES])
    assert caught.value.env == 1
    # The second begins anew with this step, so its action is ignored.
    assert envs.step([0, 0])[1].tolist() == [1, 0]
    with pytest.raises(ConfigError, match=r"environment 1 11 is not in Discrete\(10\)"):
        envs.step([0, 11])
    envs.reset(seed=1)
    assert envs.step([0, 0])[1].tolist() == [1, 1]
    envs.close()


def test_a_vector_environment_outlives_its_server():
    server = serve_env(trouble, is_in_process=True)
    careful = open_vector_env(address(server), 2, failures="truncate", connect_timeout_s=20)
    plain = open_vector_env(address(server), 2, connect_timeout_s=20)
    first, _ = careful.reset(seed=1)
    plain.reset(seed=1)
    server.close()
    observations, rewards, terminated, truncated, infos = careful.step([0, 0])
    assert same(observations, first)
    assert truncated.all()
    assert not terminated.any()
    assert not rewards.any()
    assert infos["outcome"].tolist() == ["infra_failure"] * 2
    with pytest.raises(SessionLost):
        plain.step([0, 0])
    with pytest.raises(ConfigError, match="call reset first"):
        plain.step([0, 0])
    with serve_env(trouble, port=server.endpoint.port, is_in_process=True):
        observations, *_, truncated, infos = careful.step([0, 0])
        assert observations.tolist() == [[0, 0], [0, 0]]
        assert not truncated.any()
        assert careful.step([0, 0])[1].tolist() == [1, 1]
        mask = {"reset_mask": np.array([True, False])}
        assert plain.reset(seed=[4, 5], options=mask)[0].tolist() == [[4, 0], [5, 0]]
        assert plain.step([0, 0])[1].tolist() == [1, 1]
        careful.close()
        plain.close()


def test_pictures_of_a_vector_environment(troubles):
    envs = open_vector_env(address(troubles), 2, render_mode="rgb_array")
    envs.reset()
    envs.step([0, 0])
    pictures = envs.render()
    assert [picture.max() for picture in pictures] == [1, 1]
    envs.close()


@pytest.mark.parametrize("mask", [np.array([True]), np.array([0, 1]), np.zeros(2, bool), [True]])
def test_masks_and_seeds_that_do_not_fit_are_refused(troubles, mask):
    envs = open_vector_env(address(troubles), 2)
    with pytest.raises(ConfigError, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})
    with pytest.raises(ConfigError, match="3 seeds for 2 environments"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ConfigError, match="seed: expected 0 to"):
        envs.reset(seed=[1, 2**63])
    envs.close()


def test_a_conversation_that_ends_takes_its_environments_along():
    with serve_env(trouble) as server:
        env = open_env(address(server))
        env.reset()
        pid = env.step(8)[4]["pid"]
        os.kill(pid, 0)
        env.close()
        deadline_s = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()


def test_a_server_without_raygym_is_spoken_to_in_dm_env_rpc(caplog):
    with DmServer(lambda _id, _kwargs: Trouble()) as server:
        env = open_env(f"grpc://{server.address}")
        assert isinstance(env, DmEnv)
        assert "info and options do not come through" in caplog.text
        env.reset(seed=1)
        assert env.step(0)[1] == 1.0
        env.close()
        with pytest.raises(ConfigError, match="only that carries many environments"):
            open_vector_env(f"grpc://{server.address}", 2)


def test_a_stock_remote_gym_server_can_be_played():
    subprocess.run([ROOT / "scripts" / "peers"], check=True, timeout=900)
    python = ROOT / ".peers" / "remote_gym" / "bin" / "python"
    server = subprocess.Popen(
        [python, ROOT / "tests" / "peers" / "remote_gym_server.py", '{"kind": "cartpole"}'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    try:
        env = open_env(f"grpc://127.0.0.1:{int(server.stdout.readline())}")
        assert isinstance(env, DmEnv)
        assert env.is_remote_gym
        env.reset()
        observation, reward, *_ = env.step(0)
        assert observation.shape == (4,)
        assert reward == 1.0
        env.close()
    finally:
        server.stdin.close()
        server.wait(30)
        server.stdout.close()


def test_arguments_that_make_no_sense_are_refused(troubles):
    where = address(troubles)
    for options in (
        {"failures": "ignore"},
        {"render_mode": "human"},
        {"frame_skip": 0},
        {"step_timeout_s": 0},
        {"no_such_option": 1},
    ):
        with pytest.raises(ConfigError):
            open_env(where, **options)
    for wrong in ("4", "vnc://127.0.0.1:5900", f"{where},grpc://127.0.0.1:1"):
        with pytest.raises(ConfigError, match="expected one address"):
            open_env(wrong)
    with pytest.raises(ConfigError, match="autoreset"):
        open_vector_env(where, 2, autoreset="sometimes")
    with pytest.raises(ConfigError, match="count"):
        open_vector_env(where, 0)


def test_its_spec_makes_the_same_environment_again(troubles):
    env = open_env(address(troubles), env_kwargs={"length": 2})
    again = env.spec.make()
    assert again.observation_space == env.observation_space
    again.reset()
    assert [again.step(0)[2] for _ in range(2)] == [False, True]
    assert again.unwrapped.spec.kwargs == env.spec.kwargs
    again.close()
    env.close()


def test_the_server_refuses_a_step_before_any_reset(troubles):
    envs = open_vector_env(address(troubles), 1)
    assert isinstance(envs, RpcVectorEnv)
    with pytest.raises(LocalProtocolError):
        envs._link.session.step([np.zeros(1, np.int64)], timeout_s=5)
    envs.close()
