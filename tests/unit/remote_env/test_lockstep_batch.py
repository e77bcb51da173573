from __future__ import annotations

import numpy as np
import pytest

from raygym.errors import ConfigError, RemoteFailedToStart
from raygym.remote_env.lockstep_batch import LockstepBatch
from raygym.remote_env.lockstep_env import LockstepConfig
from raygym.remote_env.lockstep_remote import LockstepRemote
from raygym.remote_env.rpc.session import MakeOptions
from tests.support.in_hand import InHandBackend, InHandConnect
from tests.support.lockstep import Trouble


class Bench:
    """A batch of three, and what is behind it."""

    def __init__(self, failing: int = 0) -> None:
        self.backend = InHandBackend()
        self.connect = InHandConnect(lambda _id, given: Trouble(**given), failing=failing)
        remote = LockstepRemote(
            self.backend, "test", client_id="me", connect=self.connect, start_timeout_s=5
        )
        config = LockstepConfig(name="test.Trouble-v0", options=MakeOptions(count=3))
        self.batch = LockstepBatch(remote, config)

    def cut(self) -> None:
        """Loses the conversation."""
        self.connect.channels[-1].is_cut = True


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.batch.close()
    made.batch.close()
    assert sorted(made.backend.removed + made.backend.released) == sorted(made.backend.started)


def begin(bench: Bench) -> LockstepBatch:
    bench.batch.reset([0, 1, 2], [5, 6, None], None)
    return bench.batch


def test_any_of_them_are_reset_and_stepped_by_one_message(bench) -> None:
    rows, failures = bench.batch.reset([2, 0], [4, None], {"level": 1})
    assert rows[0][:, 0].tolist() == [4.0, 0.0]
    assert failures == {}
    assert rows[4][0].pop("claim_s") >= 0.0
    assert rows[4][0] == {
        "claim_causes": "",
        "seed": 4,
        "options": {"level": 1},
        "outcome": "ok",
        "episode_score": 0.0,
        "episode_steps": 0,
        "remote_id": "r-1",
    }
    observations, rewards, terminated, truncated, infos = bench.batch.step([0], [8])
    assert observations.tolist() == [[0.0, 1.0]]
    assert (rewards.tolist(), terminated.tolist(), truncated.tolist()) == ([0.5], [False], [False])
    assert (infos[0]["episode_score"], infos[0]["episode_steps"]) == (0.5, 1)
    assert bench.batch.step([2], [0])[0].tolist() == [[0.0, 1.0]]


def test_one_that_raises_is_cut_alone_and_begins_anew(bench) -> None:
    batch = begin(bench)
    observations, rewards, _, truncated, infos = batch.step([0, 1, 2], [0, 1, 0])
    assert rewards.tolist() == [1.0, 0.0, 1.0]
    assert truncated.tolist() == [False, True, False]
    assert [info["outcome"] for info in infos] == ["ok", "env_failure", "ok"]
    assert "told to raise" in infos[1]["reason"]
    assert observations[1].tolist() == [6.0, 0.0], "the last one"
    batch.reset([1], [None], None)
    assert batch.step([0, 1, 2], [0, 0, 0])[0][:, 1].tolist() == [2.0, 1.0, 2.0]


def test_a_reset_that_raises_is_told_beside_those_that_began(bench) -> None:
    rows, failures = bench.batch.reset([0, 1], [1, 2], {"raise": True})
    assert sorted(failures) == [0, 1]
    assert "told to raise in reset" in str(failures[0])
    assert len(rows[1]) == 2


def test_a_lost_remote_ends_every_episode_and_the_next_reset_has_another(bench) -> None:
    batch = begin(bench)
    batch.step([0, 1, 2], [0, 0, 0])
    bench.cut()
    observations, rewards, _, truncated, infos = batch.step([0, 1], [0, 0])
    assert observations.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert (rewards.tolist(), truncated.tolist()) == ([0.0, 0.0], [True, True])
    assert [info["outcome"] for info in infos] == ["infra_failure"] * 2
    assert (batch.remotes_started, batch.remotes_lost, batch.remote_id) == (1, 1, None)
    rows, _ = batch.reset([0], [9], None)
    assert rows[0].tolist() == [[9.0, 0.0]]
    _, rewards, _, truncated, infos = batch.step([0, 2], [0, 0])
    assert rewards.tolist() == [1.0, 0.0]
    assert truncated.tolist() == [False, True], "that of 2 was lost with the Remote before"
    assert infos[1]["outcome"] == "infra_failure"
    assert (batch.remotes_started, batch.remote_id) == (2, "r-2")


def test_a_remote_that_was_taken_away_ends_every_episode_as_preempted(bench) -> None:
    batch = begin(bench)
    bench.backend.taken.add("r-1")
    bench.batch._remote.tenancy._look_at_s = 0.0
    infos = batch.step([0, 1, 2], [0, 0, 0])[4]
    assert [info["outcome"] for info in infos] == ["preempted"] * 3
    assert "the lease of r-1 was lost" in infos[0]["reason"]


def test_a_worn_remote_goes_between_episodes(bench) -> None:
    batch = begin(bench)
    batch.step([0, 1, 2], [0, 0, 0])
    bench.backend.worn.add("r-1")
    batch.reset([0], [None], None)
    assert batch.remote_id == "r-1", "others play on it"
    batch.reset([0, 1, 2], [None] * 3, None)
    assert batch.remote_id == "r-2"
    assert batch.remotes_lost == 0


def test_an_action_outside_of_its_space_is_refused_before_anything_is_sent(bench) -> None:
    batch = begin(bench)
    with pytest.raises(ConfigError, match="the action of slot 1"):
        batch.step([0, 1], [0, 99])
    assert batch.step([0], [0])[0].tolist() == [[0.0, 1.0]]


def test_infos_name_the_lease_where_one_is_held(bench) -> None:
    bench.cut()
    bench.backend.is_leasing = True
    batch = bench.batch
    with pytest.raises(Exception, match="gone"):
        batch.reset([0], [None], None)
    rows, _ = batch.reset([0], [None], None)
    assert rows[4][0]["lease_id"] == "r-2:7"
    assert np.asarray(batch.step([0], [0])[1]).tolist() == [1.0]


def test_no_remote_that_gets_ready_is_told() -> None:
    with pytest.raises(RemoteFailedToStart, match="log of r-1"):
        Bench(failing=1)
