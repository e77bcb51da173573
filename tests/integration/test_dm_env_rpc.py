"""dm_env_rpc v1 against its own suite, and remote-gym's stock client and server both ways."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from raygym.errors import ConfigError
from raygym.remote_env.rpc.dm_env import END_IS_AMBIGUOUS, DmEnv
from tests.peers.peer_envs import Pictures, SeededCartPole, create_environment
from tests.support.dm_server import DmServer
from tests.support.grpc_stream import GrpcStream
from tests.support.random_env import RandomEnv

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "tests" / "peers"
TIMEOUT_S = 60


@pytest.fixture(scope="module", autouse=True)
def _peers() -> None:
    subprocess.run([ROOT / "scripts" / "peers"], check=True, timeout=900)


def run_peer(venv: str, script: str, *arguments: str) -> list[Any]:
    """Runs a script in a peer's environment; returns what its lines say in JSON."""
    process = subprocess.run(
        [ROOT / ".peers" / venv / "bin" / "python", PEERS / script, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return [json.loads(line) for line in process.stdout.splitlines()]


BOX = spaces.Box(-1, 1, (2, 3), np.float32)
TEXT = spaces.Text(4, min_length=0)
NESTED = spaces.Dict(
    {
        "box": BOX,
        "pair": spaces.Tuple([spaces.Discrete(3, start=2), spaces.MultiBinary(3)]),
        "say": TEXT,
    }
)
SPACES = {
    "box": (BOX, spaces.Box(-np.inf, np.inf, (3,), np.float64)),
    "discrete": (spaces.Discrete(4), spaces.Box(0, 255, (4, 5, 3), np.uint8)),
    "multi": (spaces.MultiDiscrete([2, 3]), spaces.Discrete(5, start=-2)),
    "nested": (NESTED, NESTED),
}


@pytest.mark.parametrize("kind", SPACES)
def test_all_40_compliance_tests_pass(kind: str, tell: Callable[[str], None]) -> None:
    with DmServer(lambda _id, _kwargs: RandomEnv(*SPACES[kind])) as server:
        (result,) = run_peer("dm_env_rpc", "compliance.py", server.address)
    passed = result["run"] - len(result["broken"])
    tell(f"dm_env_rpc compliance, {kind} spaces: {passed}/{result['run']}")
    assert result == {"run": 40, "broken": [], "skipped": 0}


@pytest.mark.parametrize("kind", SPACES)
def test_dm_envs_own_tests_pass_through_the_official_adaptor(
    kind: str, tell: Callable[[str], None]
) -> None:
    with DmServer(lambda _id, _kwargs: RandomEnv(*SPACES[kind])) as server:
        (result,) = run_peer("dm_env_rpc", "adaptor.py", server.address)
    tell(f"dm_env's tests, {kind} spaces: {result['run']} run")
    assert result["run"] > 0
    assert result["broken"] == []


def make(env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    return create_environment(kind=env_id, **kwargs)


def digest(array: Any) -> list[Any]:
    """What ``remote_gym_client.py`` tells of an array."""
    array = np.ascontiguousarray(array)
    sha = hashlib.sha256(array.tobytes()).hexdigest()
    return [list(array.shape), array.dtype.str, sha]


def play(env: gymnasium.Env[Any, Any], moves: Sequence[int | str]) -> list[dict[str, Any]]:
    """Makes moves at home; tells what ``remote_gym_client.py`` should have seen."""
    seen = []
    for move in moves:
        if move == "reset":
            told: dict[str, Any] = {"observation": digest(env.reset()[0])}
        else:
            observation, reward, terminated, truncated, _ = env.step(move)
            told = {
                "observation": digest(observation),
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                "info": {},
            }
        picture = env.render() if env.render_mode else None
        seen.append(told | {"picture": None if picture is None else digest(picture)})
    return seen


class StockClient:
    """remote-gym's own client against our server."""

    @staticmethod
    def play(
        moves: Sequence[int | str], kind: str, shows: str = "", **kwargs: Any
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        args = {"entrypoint": kind, "entrypoint_kwargs": kwargs}
        with DmServer(make, ("cartpole", "pictures", "raising")) as server:
            spaces_seen, *seen = run_peer(
                "remote_gym",
                "remote_gym_client.py",
                str(server.port),
                json.dumps(args),
                json.dumps(moves),
                *([shows] if shows else []),
            )
        return spaces_seen, seen


class TestStockClientOnOurServer:
    def test_cartpole_is_played_as_at_home(self) -> None:
        env = SeededCartPole()
        moves: list[int | str] = ["reset"]
        env.reset()
        is_over = False
        while not is_over:
            is_over = env.step(0)[2]
            moves.append(0)
        spaces_seen, seen = StockClient.play([*moves, *moves], "cartpole")
        assert spaces_seen["actions"] == "Discrete(2)"
        assert "(4,), float32" in spaces_seen["observations"]
        assert seen == play(SeededCartPole(), moves) * 2
        assert seen[-1]["terminated"]

    def test_pictures_the_size_of_ataris_and_rendering_arrive_whole(self) -> None:
        moves: list[int | str] = ["reset", 1, 3, "reset", 2]
        _, seen = StockClient.play(moves, "pictures", "rgb_array", render_mode="rgb_array")
        assert seen == play(Pictures(render_mode="rgb_array"), moves)
        assert seen[0]["picture"][0] == [40, 60, 3]

    def test_an_environment_that_does_not_render_sends_no_picture(self) -> None:
        _, seen = StockClient.play(["reset", 1], "pictures", "rgb_array")
        assert [told["picture"] for told in seen] == [None, None]

    @pytest.mark.parametrize("is_cut", [False, True])
    def test_truncated_and_terminated_stay_apart(self, is_cut: bool) -> None:
        _, seen = StockClient.play(["reset", 0, 0], "pictures", length=2, is_cut=is_cut)
        assert [seen[-1]["terminated"], seen[-1]["truncated"]] == [not is_cut, is_cut]

    def test_a_discrete_with_a_start_counts_from_zero_for_it(self) -> None:
        spaces_seen, seen = StockClient.play(["reset", 2], "pictures", start=5)
        assert spaces_seen["actions"] == "Discrete(4)"
        assert seen[1]["reward"] == 3.5

    def test_an_exception_arrives_with_its_type_and_the_next_reset_works(self) -> None:
        _, seen = StockClient.play(["reset", 0, 0, "reset", 0], "raising")
        assert "ValueError" in seen[2]["error"]
        assert "the ball is lost" in seen[2]["error"]
        assert seen[3]["observation"] == seen[0]["observation"]
        assert seen[4]["reward"] == 0.0

    def test_an_action_out_of_range_is_refused_with_the_space_and_changes_nothing(self) -> None:
        _, seen = StockClient.play(["reset", 9, 1], "pictures")
        assert "Discrete(4)" in seen[1]["error"]
        assert seen[2] == play(Pictures(), ["reset", 1])[1]


@contextmanager
def stock_server(**kwargs: Any) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs remote-gym's own server; yields its address."""
    process = subprocess.Popen(
        [
            ROOT / ".peers" / "remote_gym" / "bin" / "python",
            PEERS / "remote_gym_server.py",
            json.dumps(kwargs),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"local:127.0.0.1:{int(process.stdout.readline())}", process
    finally:
        process.stdin.close()
        process.wait(TIMEOUT_S)
        process.stdout.close()


@contextmanager
def dm_env(address: str, **options: Any) -> Iterator[DmEnv]:
    """Connects our client to a server."""
    env = DmEnv(functools.partial(GrpcStream, address), name=address, **options)
    try:
        yield env
    finally:
        env.close()


class TestOurClientOnStockServer:
    def test_cartpole_is_played_as_at_home_with_an_end_that_is_said_to_be_ambiguous(self) -> None:
        home = SeededCartPole()
        with stock_server(kind="cartpole") as (address, _), dm_env(address) as env:
            assert env.is_remote_gym
            assert env.action_space == home.action_space
            assert env.observation_space.shape == (4,)
            assert np.allclose(env.reset(seed=3)[0], home.reset()[0])
            is_over = False
            while not is_over:
                ours, theirs = env.step(0), home.step(0)
                assert np.allclose(ours[0], theirs[0])
                assert ours[1:4] == theirs[1:4]
                is_over = ours[2]
            assert ours[4][END_IS_AMBIGUOUS] is True
            assert np.allclose(env.reset()[0], home.reset()[0])

    def test_pictures_and_rendering_arrive_whole(self) -> None:
        home = Pictures(render_mode="rgb_array")
        with (
            stock_server(kind="pictures", render_mode="rgb_array") as (address, _),
            dm_env(address, render_mode="rgb_array") as env,
        ):
            assert env.observation_space == home.observation_space
            assert np.array_equal(env.reset()[0], home.reset()[0])
            for action in (1, 3):
                ours, theirs = env.step(action), home.step(action)
                assert np.array_equal(ours[0], theirs[0])
                assert ours[1:4] == theirs[1:4]
                assert np.array_equal(env.render(), home.render())

    def test_what_was_truncated_there_ends_here_with_a_mark(self) -> None:
        with (
            stock_server(kind="pictures", length=1, is_cut=True) as (address, _),
            dm_env(address) as env,
        ):
            env.reset()
            _, _, is_terminated, is_truncated, info = env.step(0)
            assert (is_terminated, is_truncated) == (True, False)
            assert info[END_IS_AMBIGUOUS] is True

    def test_its_arguments_choose_the_environment(self) -> None:
        chosen = {"entrypoint_kwargs": {"kind": "pictures", "length": 1}}
        with (
            stock_server(kind="cartpole") as (address, _),
            dm_env(address, remote_args=chosen) as env,
        ):
            assert env.observation_space.shape == (210, 160, 3)

    def test_an_environment_that_raises_there_cuts_the_episode_and_the_next_works(self) -> None:
        with stock_server(kind="raising") as (address, _), dm_env(address) as env:
            env.reset()
            env.step(0)
            _, reward, is_terminated, is_truncated, info = env.step(0)
            assert (reward, is_terminated, is_truncated) == (0.0, False, True)
            assert info["outcome"] == "infra_failure"
            assert "the ball is lost" in info["reason"]
            env.reset()
            assert env.step(0)[1] == 0.0

    def test_a_server_that_is_killed_cuts_the_episode(self) -> None:
        with stock_server(kind="cartpole") as (address, process), dm_env(address) as env:
            env.reset()
            process.kill()
            process.wait(TIMEOUT_S)
            assert env.step(0)[4]["outcome"] == "infra_failure"


class TestOurClientOnOurServer:
    def test_gymnasiums_checks_pass(self) -> None:
        with (
            DmServer(lambda _id, _kwargs: gymnasium.make("CartPole-v1")) as server,
            dm_env(server.address) as env,
            pytest.warns(UserWarning, match="infinity"),
        ):
            check_env(env, skip_render_check=True)

    def test_a_seed_makes_an_episode_that_comes_again(self) -> None:
        with (
            DmServer(lambda _id, _kwargs: gymnasium.make("CartPole-v1")) as server,
            dm_env(server.address) as env,
        ):
            first = env.reset(seed=5)[0]
            assert not np.array_equal(env.reset()[0], first)
            assert np.array_equal(env.reset(seed=5)[0], first)

    @pytest.mark.parametrize("kind", SPACES)
    def test_actions_and_observations_of_every_space_travel(self, kind: str) -> None:
        with (
            DmServer(lambda _id, _kwargs: RandomEnv(*SPACES[kind])) as server,
            dm_env(server.address, join_settings={"raygym.caps": "spaces"}) as env,
        ):
            home = RandomEnv(*SPACES[kind])
            assert env.observation_space.contains(env.reset(seed=1)[0])
            home.reset(seed=1)
            env.action_space.seed(2)
            for _ in range(5):
                action = env.action_space.sample()
                if kind == "nested":
                    action["say"] = "ab1"
                observation = env.step(action)[0]
                assert env.observation_space.contains(observation)
                assert repr(observation) == repr(home.step(action)[0])

    def test_worlds_end_with_their_clients(self) -> None:
        with DmServer(make, ("cartpole", "pictures")) as server:
            with dm_env(server.address, world_settings={"env_id": "pictures"}) as env:
                assert server.open_worlds == 1
                assert env.observation_space.shape == (210, 160, 3)
            assert server.open_worlds == 0

    def test_a_client_that_wants_pictures_of_a_server_without_is_told(self) -> None:
        with (
            DmServer(make, ("pictures",)) as server,
            pytest.raises(ConfigError, match="sends no rendering"),
            dm_env(server.address, render_mode="rgb_array"),
        ):
            pass
